"""How long requests take until they are settled, from events alone; see `_unsettled` for how they are matched."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from settlement_core.observers._unsettled import Unsettled
from settlement_core.values.events import (
    AccountHalted,
    AttemptClaimed,
    CoreStopped,
    Event,
    LeaseGone,
    SettlementInDoubt,
    SettlementRecorded,
    SettlementRequested,
)
from settlement_core.values.records import Direction

__all__ = ["RequestTimes"]


class RequestTimes:
    """Follows requests within one run; `clock` gives seconds that only ever grow."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._requests: Unsettled[float] = Unsettled()

    def observe(self, event: Event) -> Iterable[float]:
        """Return how long each of the requests took, in seconds, that are settled now."""
        match event:
            case SettlementRequested():
                self._requests.request(event.account_id, event.amount, self._clock())
            case AttemptClaimed(direction=Direction.OUTGOING, fresh=True):
                self._requests.claim(event.account_id, event.amount)
            case SettlementRecorded():
                whole = event.amount == event.attempted
                now = self._clock()
                done = self._requests.close(event.account_id, settled=event.amount, whole=whole)
                return [now - requested for requested in done]
            case SettlementInDoubt():
                self._requests.drop(event.account_id, waiting=False)
            case AccountHalted(direction=Direction.OUTGOING) | LeaseGone():
                self._requests.drop(event.account_id, waiting=True)
            case CoreStopped():
                self._requests.drop_all()
        return ()
