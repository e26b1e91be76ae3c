"""Every engine test runs on both loops and on a node of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.ethereum.anvil import Anvil, open_node


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Return the loop's name."""
    name: str = request.param
    return name


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Anvil]:
    """Give a node that makes blocks only when told to, in `tmp_path`."""
    with open_node(automine=False, folder=tmp_path) as running:
        yield running
