"""Every test of observers that waits runs on trio and on asyncio, under virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from settlement_core.testing.clocks import virtual_backend


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Return a loop with a jumping clock."""
    return virtual_backend(request.param)
