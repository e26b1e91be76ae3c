"""A pytest plugin: tests under virtual time on both loops, scheduled the same way for the same seed.

In a `conftest.py` (pytest takes plugins from the topmost one only), with `anyio`, whose own plugin runs the tests:

    pytest_plugins = ["settlement_core.testing.plugin"]

    @pytest.fixture
    def anyio_backend(virtual_loop):
        return virtual_loop

Every test marked `anyio` then runs on trio and on asyncio, and hours of back-off take it milliseconds. Where several
tasks are ready, a seed decides which goes first: 0, unless `--scheduler-seed` gives another, or says `random`. A test
that fails tells its seed, and how to run it again.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Generator, Iterator
from typing import Any, cast

import pytest

from settlement_core.testing.clocks import virtual_backend

__all__ = ["scheduler_seed", "virtual_loop"]

_SEED = pytest.StashKey[int]()


def _seed(text: str) -> int:
    return secrets.randbelow(2**32) if text == "random" else int(text)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.getgroup("settlement_core").addoption(
        "--scheduler-seed",
        type=_seed,
        default=0,
        metavar="SEED",
        help="order in which tasks that are ready go first, under virtual time: a whole number (0), or 'random'",
    )


def pytest_report_header(config: pytest.Config) -> str:
    """Tell the seed."""
    return f"scheduler seed: {config.getoption('scheduler_seed')}"


@pytest.fixture
def scheduler_seed(request: pytest.FixtureRequest) -> Iterator[int]:
    """Give the seed of the order in which tasks go first; the `random` module starts from it too.

    Ask for it where a test runs loops of its own: `virtual_backend(name, seed=scheduler_seed)`.
    """
    seed = cast("int", request.config.getoption("scheduler_seed"))
    request.node.stash[_SEED] = seed
    before = random.getstate()
    random.seed(seed)
    yield seed
    random.setstate(before)


@pytest.fixture(params=["trio", "asyncio"])
def virtual_loop(request: pytest.FixtureRequest, scheduler_seed: int) -> tuple[str, dict[str, Any]]:
    """Give each loop with a jumping clock, as the value of anyio's fixture `anyio_backend`."""
    return virtual_backend(request.param, seed=scheduler_seed)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Have a failing test tell its seed."""
    report = yield
    seed = item.stash.get(_SEED, None)
    if report.failed and seed is not None:
        report.sections.append(
            ("virtual time", f"scheduler seed {seed}; to run it again: pytest '{item.nodeid}' --scheduler-seed={seed}")
        )
    return report
