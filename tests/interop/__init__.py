"""Our server and the original framework, as peers."""
