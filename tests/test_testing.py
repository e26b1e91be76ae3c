"""The test kit as its users import it."""

from __future__ import annotations

import sys

import pytest

import settlement_core.testing
from settlement_core.testing import virtual_backend
from settlement_core.testing.store_check import check_store


def test_every_name_of_the_kit_can_be_imported() -> None:
    """Also the one that is imported late."""
    for name in settlement_core.testing.__all__:
        assert getattr(settlement_core.testing, name).__doc__
    assert settlement_core.testing.check_store is check_store
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = settlement_core.testing.nothing


def test_without_hypothesis_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything else of the kit works without it."""
    monkeypatch.delitem(sys.modules, "settlement_core.testing.store_check")
    monkeypatch.delattr(settlement_core.testing, "store_check")
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(ImportError, match=r"pip install settlement-core\[testing\]"):
        _ = settlement_core.testing.check_store


def test_a_backend_of_no_known_name_is_refused() -> None:
    """With the names it may have."""
    with pytest.raises(ValueError, match="'trio' or 'asyncio', not 'curio'"):
        virtual_backend("curio")
