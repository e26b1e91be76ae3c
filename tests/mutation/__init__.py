"""Mutation testing of floors 0 to 2: every small change to the code that moves money must make a test fail."""
