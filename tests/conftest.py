"""What all tests share: which of them coverage follows."""

import os
from collections.abc import Iterator

import pytest
from coverage import Coverage

if "PYTEST_XDIST_WORKER" in os.environ:  # the process that starts these must hand it on to them
    os.environ.pop("COVERAGE_PROCESS_START", None)

FOLLOWED = ("tests/core/", "tests/values/")


@pytest.fixture(autouse=True, scope="module")
def _followed_if_fast(request: pytest.FixtureRequest) -> Iterator[None]:
    """Follow the core's own tests: they reach all of it. To follow the others, too, takes half as long again."""
    followed = request.node.nodeid.startswith(FOLLOWED) and request.node.get_closest_marker("slow") is None
    coverage = None if followed else Coverage.current()
    if coverage is None:
        yield
    else:
        coverage.stop()
        yield
        coverage.start()
