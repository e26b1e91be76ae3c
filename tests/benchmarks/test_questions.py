"""Every measurement runs, at a size at which its figures mean nothing but that they are there."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from benchmarks.__main__ import QUESTIONS
from benchmarks.accept import require_redis
from benchmarks.check import short_forms
from benchmarks.figures import Row, print_table, read_rows, write_json
from benchmarks.history import measure_history
from benchmarks.memory import measure_memory
from benchmarks.recover import measure_recover
from benchmarks.servers import redis_server, require_node
from benchmarks.shutdown import measure_shutdown
from benchmarks.workers import measure_workers

TINY: dict[str, Callable[[Path], Iterator[Row]]] = {
    "recover": lambda folder: measure_recover(folder, owing=[20]),
    "memory": lambda folder: measure_memory(folder, at_rest=200, active=20, queued=20),
    "history": lambda folder: measure_history(folder, attempts=200),
    "workers": lambda folder: measure_workers(folder, workers=[2], accounts=2, seconds=1, rounds=1),
    "shutdown": lambda folder: measure_shutdown(folder, backends=["asyncio"], active=[20]),
}
"""All but those that `benchmarks check` measures, which is part of `make test`."""

SUBJECTS = {
    "recover": {"core, trio", "core, asyncio"},
    "memory": {f"core, {backend}{store}" for backend in ("trio, ", "asyncio, ", "") for store in ("sqlite", "memory")},
    "history": {"redis", "sqlite"},
    "workers": {"original, redis", "hypercorn-trio, redis, 2 workers"},
    "shutdown": {"hypercorn-asyncio, sqlite"},
}


def test_no_question_is_left_out() -> None:
    """Each is measured here, or in the check."""
    assert set(TINY) | set(short_forms(rounds=1)) == set(QUESTIONS)


@pytest.mark.slow
@pytest.mark.parametrize("question", TINY)
def test_a_measurement_finds_figures_of_everybody(
    question: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All who should be compared are, with figures, durability and ratios; what is kept as JSON is what was found."""
    require_node()
    rows = list(TINY[question](tmp_path))
    assert {row.subject for row in rows} == SUBJECTS[question]
    assert {row.question for row in rows} == {question}
    assert {row.durability for row in rows} <= {"fsync always", "none"}
    assert all(math.isfinite(figure) for row in rows for figure in (*row.figures.values(), *row.ratios.values()))
    write_json(tmp_path / "rows.json", rows)
    assert read_rows(tmp_path / "rows.json")[1] == rows
    print_table(rows)
    printed = capsys.readouterr().out
    assert all(row.subject in printed and row.workload in printed for row in rows)


@pytest.mark.slow
def test_an_original_that_keeps_nothing_in_redis_is_not_believed(tmp_path: Path) -> None:
    """Requests that are not there, and a Redis that does not fsync each, are both found out."""
    with redis_server(tmp_path) as url, redis.Redis.from_url(url) as client:
        client.hset("accounts:account-0:settlement-requests:key", "amount", "1.5")
        require_redis(url, requests=1)
        with pytest.raises(RuntimeError, match="keeps 1 of 2 requests"):
            require_redis(url, requests=2)
        client.config_set("appendfsync", "everysec")
        with pytest.raises(RuntimeError, match="everysec"):
            require_redis(url, requests=1)
