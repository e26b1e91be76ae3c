"""The core's small world, with more who listen; and Prometheus' text, read by Prometheus' own parser."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from settlement_core.abc import Observer
from settlement_core.values import events
from settlement_core.values.events import Event
from settlement_core.values.records import Direction, Step
from tests.core.worlds import Ears, MinimalEngine, World

Series = dict[str, float]
"""Values by name and labels, written as Prometheus does: `name{label="value"}`."""


@dataclass
class CrowdedEars(Ears):
    """Remembers, and tells others first."""

    others: list[Observer] = field(default_factory=list)

    def observe(self, event: Event) -> None:
        """Tell the others, and remember."""
        for other in self.others:
            other.observe(event)
        super().observe(event)


def world_with(*observers: Observer, engine: Any = None, **parts: Any) -> World:
    """Return a world in which these listen too."""
    return World(engine or MinimalEngine(), ears=CrowdedEars(others=list(observers)), **parts)


def series(exposition: bytes) -> Series:
    """Return every sample."""
    found: Series = {}
    for family in text_string_to_metric_families(exposition.decode()):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            name = f"{sample.name}{{{labels}}}" if labels else sample.name
            assert name not in found, f"{name} comes twice"
            found[name] = sample.value
    return found


_SAMPLES: dict[str, Any] = {"str": "alice", "float": 1.5, "int": 3, "bool": True, "Decimal": Decimal(7)}
_NAMED: dict[str, Any] = {"direction": Direction.OUTGOING, "step": Step.SET_UP, "decision": "resolve"}


def every_kind() -> list[type[Event]]:
    """Return every type of event there is."""
    return [getattr(events, name) for name in events.__all__ if name != "Event"]


def sample(kind: type[Event], **facts: Any) -> Event:
    """Return an event of a type."""
    samples = {f.name: _NAMED.get(f.name, _SAMPLES[str(f.type).split(" | ", maxsplit=1)[0]]) for f in fields(kind)}
    return kind(**(samples | facts))
