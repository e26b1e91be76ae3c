"""Floor 3: who listens to events."""
