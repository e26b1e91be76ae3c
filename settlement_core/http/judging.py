"""What a running server knows of troubles beside those in its store: its core's and its engine's, right now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from settlement_core.auditing.kinds import CLOCK_SHOWN_S, KINDS
from settlement_core.auditing.verdict import Kind, Trouble
from settlement_core.core.condition import Condition, LaneCondition
from settlement_core.values.records import Direction

__all__ = ["troubles_of_core", "troubles_of_engine"]


def troubles_of_core(condition: Condition, *, now: float) -> Iterator[Trouble]:
    """Yield what hinders the core; `now` is the wall clock."""
    if condition.store_error:
        yield Trouble(kind=Kind.STORE, words=condition.store_error)
    for halt in condition.halted:
        yield Trouble(
            kind=Kind.HALTED,
            words=f"{halt.direction}: {halt.reason}",
            account_id=halt.account_id,
            about=halt.attempt_id,
            since=now - halt.halted_for_s,
            lasted_s=halt.halted_for_s,
        )
    for excess in condition.excesses:
        yield Trouble(
            kind=Kind.EXCESS,
            words=f"attempt {excess.attempt_id}",
            account_id=excess.account_id,
            about=excess.attempt_id,
            amount=excess.excess,
        )
    for lane in condition.lanes:
        yield from _of_lane(lane, silent=condition.connector_silent, now=now)
    jumped_s, ago_s = condition.clock_jumped_s, condition.clock_jumped_ago_s
    if jumped_s is not None and ago_s is not None and ago_s < CLOCK_SHOWN_S:
        yield Trouble(kind=Kind.CLOCK, words=f"by {jumped_s:+.0f} s", since=now - ago_s)


def _of_lane(lane: LaneCondition, *, silent: bool, now: float) -> Iterator[Trouble]:
    failing_s, unmoved_s = lane.failing_for_s, lane.unmoved_for_s
    if failing_s is not None:
        kind = Kind.SET_UP if lane.on_step else Kind.RETRIES
        if silent and lane.direction is Direction.INCOMING:
            kind = Kind.CONNECTOR
        yield Trouble(
            kind=kind, words=lane.error, account_id=lane.account_id, since=now - failing_s, lasted_s=failing_s
        )
        if failing_s >= KINDS[kind].patience_s:
            return
    if unmoved_s is not None and not lane.on_step:
        yield Trouble(
            kind=Kind.UNSETTLED,
            words=lane.error,
            account_id=lane.account_id,
            since=now - unmoved_s,
            lasted_s=unmoved_s,
        )


def troubles_of_engine(status: Mapping[str, Any]) -> Iterator[Trouble]:
    """Yield what an engine reports of itself."""
    if status.get("error"):
        yield Trouble(kind=Kind.ENGINE, words=str(status["error"]))
    if status.get("alarm"):
        yield Trouble(kind=Kind.ALARM, words=str(status["alarm"]))
    warnings = status.get("warnings")
    for warning in warnings if isinstance(warnings, list) else ():
        yield Trouble(kind=Kind.WARNING, words=str(warning))
