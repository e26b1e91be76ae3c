"""Beside the floors: test tools for engines, stores and connectors. Nothing above imports this.

`check_store` needs Hypothesis: `pip install settlement-core[testing]`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from settlement_core.testing.clocks import AutojumpLoop as AutojumpLoop
from settlement_core.testing.clocks import virtual_backend as virtual_backend
from settlement_core.testing.connector import TestConnector as TestConnector
from settlement_core.testing.connector import link_accounts as link_accounts
from settlement_core.testing.connector import open_test_connector as open_test_connector
from settlement_core.testing.connector_check import check_connector as check_connector
from settlement_core.testing.connector_port_check import check_connector_port as check_connector_port
from settlement_core.testing.engine_check import EngineReport as EngineReport
from settlement_core.testing.engine_check import LedgerControls as LedgerControls
from settlement_core.testing.engine_check import check_engine as check_engine
from settlement_core.testing.engine_check import find_engine_faults as find_engine_faults
from settlement_core.testing.lying_node import LyingNode as LyingNode
from settlement_core.testing.lying_node import open_lying_node as open_lying_node
from settlement_core.testing.memory_connector import MemoryConnector as MemoryConnector
from settlement_core.testing.stepping import CutFailed as CutFailed
from settlement_core.testing.stepping import every_cancel_point as every_cancel_point

if TYPE_CHECKING:
    from settlement_core.testing.store_check import check_store as check_store

__all__ = [
    "AutojumpLoop",
    "CutFailed",
    "EngineReport",
    "LedgerControls",
    "LyingNode",
    "MemoryConnector",
    "TestConnector",
    "check_connector",
    "check_connector_port",
    "check_engine",
    "check_store",
    "every_cancel_point",
    "find_engine_faults",
    "link_accounts",
    "open_lying_node",
    "open_test_connector",
    "virtual_backend",
]


def __getattr__(name: str) -> Any:
    """Import what needs Hypothesis only when it is asked for."""
    if name != "check_store":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from settlement_core.testing.store_check import check_store  # noqa: PLC0415 - see above
    except ModuleNotFoundError as problem:
        raise ImportError(f"check_store needs {problem.name}: pip install settlement-core[testing]") from problem
    return check_store
