"""Mutation testing: every small change to the code that moves money must make a test fail."""
