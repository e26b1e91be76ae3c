"""What all tests share: which of them coverage follows."""

import os
from collections.abc import Iterator

import pytest
from coverage import Coverage

if "PYTEST_XDIST_WORKER" in os.environ:  # the process that starts these must hand it on to them
    os.environ.pop("COVERAGE_PROCESS_START", None)


@pytest.fixture(autouse=True)
def _followed_if_of_the_core(request: pytest.FixtureRequest) -> Iterator[None]:
    """Follow the core's own tests, in memory and on one loop: they reach nearly all of it, and take twice as long."""
    node = request.node
    of_the_core = node.nodeid.startswith(("tests/core/", "tests/values/")) and node.get_closest_marker("slow") is None
    again = "asyncio" in node.name or "redis" in node.name
    coverage = None if of_the_core and not again else Coverage.current()
    if coverage is None:
        yield
    else:
        coverage.stop()
        yield
        coverage.start()
