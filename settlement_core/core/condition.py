"""Whether money gets on in a running core: the facts of which a verdict is made, by the loop's clock."""

from __future__ import annotations

from dataclasses import dataclass

from settlement_core.values.events import MovedMoreThanKnown
from settlement_core.values.records import Direction

__all__ = ["Condition", "HaltedLane", "LaneCondition"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneCondition:
    """Whether one direction of an account gets on.

    Attributes:
        on_step: it sets the account up, or tears it down.
        error: the latest failure.
        failing_for_s: how long ago the first failure since money last moved was; None without any, and where the engine
            only finds that it is not worth paying yet.
        unmoved_for_s: how long the lane has been at work without any money moving; None as above.
    """

    account_id: str
    direction: Direction
    on_step: bool
    error: str
    failing_for_s: float | None
    unmoved_for_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HaltedLane:
    """One direction of an account that stopped because an invariant broke; `attempt_id` is the open attempt, if any."""

    account_id: str
    direction: Direction
    reason: str
    attempt_id: str
    halted_for_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A snapshot.

    Attributes:
        lanes: the directions of accounts at work.
        halted: those that stopped.
        connector_silent: whether the latest offer of a credit was not answered.
        store_error: how the store failed, if it does not answer now; else "".
        clock_jumped_s, clock_jumped_ago_s: how far, and how long ago, the wall clock jumped; None if it did not.
        excesses: what moved beyond all that the store accounts for, since the core was opened.
    """

    lanes: list[LaneCondition]
    halted: list[HaltedLane]
    connector_silent: bool
    store_error: str
    clock_jumped_s: float | None
    clock_jumped_ago_s: float | None
    excesses: list[MovedMoreThanKnown]
