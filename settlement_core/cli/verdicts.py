"""The verdict in a terminal: of a running server as it is, of a stopped one's store as its audit finds it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from settlement_core.abc import RestorableStore, Store
from settlement_core.auditing.audit import audit
from settlement_core.auditing.verdict import EXIT_CODES, Grade, Kind, Trouble, judge
from settlement_core.values.commands import Workers

__all__ = ["audit_stopped", "exit_code_of", "reason_lines"]


def audit_stopped(store: Store) -> dict[str, Any]:
    """Return the audit of a store that no server has open, with the verdict and what was audited."""
    older = store.maybe_older if isinstance(store, RestorableStore) else ""
    report = audit(store)
    restored = [Trouble(kind=Kind.OLDER, words=older)] if older else []
    (workers,) = store.apply([Workers()])
    served = isinstance(workers, list) and any(worker.expires_in_s > 0 for worker in workers)
    # what workers hold up they show themselves
    own = [trouble for trouble in report.troubles if not (served and trouble.kind is Kind.STOPPED)]
    verdict = judge([*restored, *own], at=time.time(), accounts=len(report.accounts))
    name, written = getattr(store, "name", repr(store)), "nothing was ever recorded"
    if report.written_at is not None:
        written = f"last written {datetime.fromtimestamp(report.written_at, UTC).isoformat(' ', 'seconds')}"
    return report.to_json() | {
        "maybe_older": older,
        "store": name,
        "audited": f"store {name}, {'served by others' if served else 'without its server'}, {written}",
        "verdict": verdict.to_json(),
    }


def exit_code_of(verdict: dict[str, Any]) -> int:
    """Return what a command ends with that shows the verdict."""
    return EXIT_CODES[Grade(verdict["grade"])]


def reason_lines(verdict: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each reason with its grade in front, and what ends it."""
    for reason in verdict["reasons"]:
        yield f"{reason['grade'].upper()}: {reason['text']}", reason["command"]
