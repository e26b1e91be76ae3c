"""Every example runs as its docstring says."""
