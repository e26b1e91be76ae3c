"""What every lane of a core shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from settlement_core.abc import Connector, Observer
from settlement_core.core.clock import Clock
from settlement_core.core.config import CoreConfig
from settlement_core.core.crediting import Turns
from settlement_core.core.doubts import Doubts
from settlement_core.core.engines import ConnectedEngine
from settlement_core.core.journal import Journal
from settlement_core.core.outages import Outage
from settlement_core.core.sharing import Sharing
from settlement_core.values.events import Event, MovedMoreThanKnown
from settlement_core.values.records import Direction

if TYPE_CHECKING:
    from settlement_core.core.lane import Lane

__all__ = ["Context"]


@dataclass(slots=True, kw_only=True)
class Context:
    """The parts of one running core. `stopping` is set once, at shutdown: lanes then claim nothing more.

    Attributes:
        clock: the wall clock, in seconds since 1970, for durable times only; waiting uses anyio's clock.
        chance: random numbers in [0, 1), for jitter only.
        at_rest: told of a lane that starts waiting.
        crediting: the turns of those who offer a credit to the connector.
        outages: by direction, the accounts that back off.
        doubts: payments in doubt in a row, over all accounts.
        connector_scales: by account, the scale of a connector that credited less, as long as this core runs.
        connector_silent: whether the latest offer of a credit was not answered.
        excesses: what moved beyond all that the store accounts for.
    """

    config: CoreConfig
    journal: Journal
    sharing: Sharing
    engine: ConnectedEngine
    connector: Connector
    observer: Observer
    clock: Clock
    chance: Callable[[], float]
    doubts: Doubts
    at_rest: Callable[[Lane], None] = field(default=lambda _lane: None)
    crediting: Turns = field(default_factory=Turns)
    outages: Mapping[Direction, Outage] = field(default_factory=lambda: {one: Outage() for one in Direction})
    connector_scales: dict[str, int] = field(default_factory=dict)
    connector_silent: bool = False
    excesses: list[MovedMoreThanKnown] = field(default_factory=list)
    stopping: bool = False

    def now(self) -> float:
        """Return the time for durable stamps."""
        return self.clock.now()

    def observe(self, event: Event) -> None:
        """Tell whoever wants to know."""
        self.observer.observe(event)
