"""Never run, only type-checked: what users write must pass mypy strict."""
