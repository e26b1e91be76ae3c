"""Floor 4: proof from the store alone that no money was lost or doubled."""
