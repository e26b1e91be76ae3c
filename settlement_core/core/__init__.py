"""Floor 2: the journal, the accounts' lanes, and the supervisor that owns them."""
