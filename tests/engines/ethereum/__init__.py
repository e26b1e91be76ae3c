"""The Ethereum engine, on a real node."""
