"""Tests of the simulated ledger and of its engine, the one to copy."""
