"""Every store, held against the reference interpreter, and each for what only it can do."""
