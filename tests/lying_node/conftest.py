"""Tests of the lying node run on both loops."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Return the loop's name."""
    name: str = request.param
    return name
