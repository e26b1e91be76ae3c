"""The lying node of the test kit."""
