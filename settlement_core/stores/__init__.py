"""Floor 3: where commands become durable. Every store means what `values.reference` means."""
