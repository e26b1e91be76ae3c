"""The lowest floor: exact money, identifiers, back-off, decisions and the reference interpreter."""
