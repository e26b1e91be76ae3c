"""Attempts that have left the store's history, in files: one line of JSON each, one file for each month.

    2026-08.jsonl   attempts that ended in August 2026 (UTC), in the order in which they left the store

A crash may leave half a line at the end of a file, or have attempts archived again that were archived before: reading
skips the one and tells each attempt once.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from settlement_core.values.json_text import encode_json
from settlement_core.values.records import Attempt, AttemptState, Direction, Payment

__all__ = ["archive_to", "read_archive"]


class _Archive:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, attempts: Sequence[Attempt]) -> None:
        by_month: defaultdict[str, list[str]] = defaultdict(list)
        for attempt in attempts:
            assert attempt.closed_at is not None, "only what is closed leaves the history"
            month = datetime.fromtimestamp(attempt.closed_at, UTC).strftime("%Y-%m")
            by_month[month].append(_line(attempt))
        for month, lines in by_month.items():
            _append(self._folder / f"{month}.jsonl", "".join(lines).encode())


def archive_to(folder: str | os.PathLike[str]) -> _Archive:
    """Return what keeps attempts in files in this folder (`CoreConfig.archive`); the folder is made if need be.

    It raises `OSError` for what cannot be written, and returns once all is on the disk. Several processes may write to
    one folder of a local file system.
    """
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return _Archive(path)


def read_archive(folder: str | os.PathLike[str]) -> Iterator[Attempt]:
    """Yield every archived attempt once, month after month.

    Raises `OSError` for a folder that cannot be read, and `ValueError` with file and line for a line that is none.
    """
    seen: set[tuple[str, str]] = set()
    for path in sorted(Path(folder).glob("*.jsonl")):
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                attempt = _attempt(line, f"{path}, line {number}")
                if attempt is not None and (attempt.account_id, attempt.attempt_id) not in seen:
                    seen.add((attempt.account_id, attempt.attempt_id))
                    yield attempt


def _append(path: Path, content: bytes) -> None:
    """Add whole lines to a file, made durable before this returns."""
    made = not path.exists()
    # one call writes all of it behind whatever others wrote
    file_no = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        # a line that was cut off is ended, so that ours begins a new one
        left = memoryview(b"\n" + content if _is_cut_off(path) else content)
        while left:
            left = left[os.write(file_no, left) :]
        os.fsync(file_no)
    finally:
        os.close(file_no)
    if made:
        folder_no = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder_no)
        finally:
            os.close(folder_no)


def _is_cut_off(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def _line(attempt: Attempt) -> str:
    facts = asdict(attempt)
    for name in ("amount", "dust", "settled"):
        facts[name] = f"{facts[name]:f}"
    if attempt.payment is not None:
        facts["payment"]["amount"] = f"{attempt.payment.amount:f}"
    return encode_json(facts) + "\n"


def _attempt(line: bytes, where: str) -> Attempt | None:
    """Return the attempt of a line; None if the line was cut off: what it told of has not left the store for that."""
    try:
        facts: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    try:
        payment = facts.pop("payment")
        if payment is not None:
            payment = Payment(Decimal(payment["amount"]), payment["reference"])
        for name in ("amount", "dust", "settled"):
            facts[name] = Decimal(facts[name])
        direction, state = Direction(facts.pop("direction")), AttemptState(facts.pop("state"))
        return Attempt(direction=direction, state=state, payment=payment, **facts)
    except (ArithmeticError, KeyError, TypeError, ValueError) as problem:
        raise ValueError(f"{where}: not an attempt that was archived ({problem!r})") from problem
