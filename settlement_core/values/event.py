"""What every event is."""

from __future__ import annotations

from dataclasses import dataclass, fields
from decimal import Decimal
from typing import ClassVar

from settlement_core.values.texts import visible_text

__all__ = ["Event"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. `level` is a logging level's name."""

    level: ClassVar[str] = "info"
    text: ClassVar[str] = ""

    def __str__(self) -> str:
        """Return the event as one line, whatever line breaks or terminal codes its facts bring from outside."""
        return visible_text(self.text.format(**self.facts()))

    def facts(self) -> dict[str, object]:
        """Return the fields, amounts written out plainly."""
        values = ((f.name, getattr(self, f.name)) for f in fields(self))
        return {name: f"{value:f}" if isinstance(value, Decimal) else value for name, value in values}
