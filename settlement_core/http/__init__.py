"""Floor 4: the Settlement Engine HTTP API of RFC 38, in front of a Quart app."""
