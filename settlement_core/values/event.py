"""What every event is."""

from __future__ import annotations

from dataclasses import dataclass, fields
from decimal import Decimal
from typing import ClassVar

__all__ = ["Event"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. `level` is a logging level's name."""

    level: ClassVar[str] = "info"
    text: ClassVar[str] = ""

    def __str__(self) -> str:
        """Return the event as one line, whatever line breaks or terminal codes its facts bring from outside."""
        line = self.text.format(**self.facts())
        return line if line.isprintable() else "".join(char if char.isprintable() else " " for char in line)

    def facts(self) -> dict[str, object]:
        """Return the fields, amounts written out plainly."""
        values = ((f.name, getattr(self, f.name)) for f in fields(self))
        return {name: f"{value:f}" if isinstance(value, Decimal) else value for name, value in values}
