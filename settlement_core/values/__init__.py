"""Floor 0: plain facts and pure decisions. Nothing here waits, reads a clock or draws a random number."""
