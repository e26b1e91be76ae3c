"""Floor 3: engines for particular ledgers."""
