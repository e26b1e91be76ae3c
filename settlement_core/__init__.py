"""A framework for Interledger settlement engines (RFC 0038) that neither loses nor doubles money.

Where things are, from the bottom up; imports only go downward:

    values/      facts and pure decisions: amounts, store commands and their meaning, back-off, events, errors
    abc.py       the ports: what an engine, a store, a connector and an observer must do
    core/        the journal, the lanes that settle and credit, the supervisor that owns them, `open_core`
    outbound/    HTTP that we ask of others: deadlines, bounds, authorities, proxies
    stores/      where commands become durable          engines/     ledgers that come with the package
    auditing/    proof, from a store alone, that nothing was lost or doubled; migration.py, restoring.py: other stores
    connector.py the connector's API, as its client     observers/   who listens to events
    http/        RFC 38's API, and the operator's       server.py    all of it, served by hypercorn
    cli/         the command line                       demo/        the demonstration
    testing/     test tools for engines, stores and connectors; nothing above needs them
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from settlement_core.abc import AccountServices as AccountServices
    from settlement_core.abc import Acknowledged as Acknowledged
    from settlement_core.abc import Arrival as Arrival
    from settlement_core.abc import ConnectEngine as ConnectEngine
    from settlement_core.abc import Connector as Connector
    from settlement_core.abc import CreditOutcome as CreditOutcome
    from settlement_core.abc import InDoubt as InDoubt
    from settlement_core.abc import Observer as Observer
    from settlement_core.abc import Pending as Pending
    from settlement_core.abc import Refused as Refused
    from settlement_core.abc import Rejected as Rejected
    from settlement_core.abc import RestorableStore as RestorableStore
    from settlement_core.abc import Settled as Settled
    from settlement_core.abc import SettlementEngine as SettlementEngine
    from settlement_core.abc import SharedStore as SharedStore
    from settlement_core.abc import SteppedStore as SteppedStore
    from settlement_core.abc import Store as Store
    from settlement_core.abc import Unanswered as Unanswered
    from settlement_core.abc import Verdict as Verdict
    from settlement_core.abc import VerifiableEngine as VerifiableEngine
    from settlement_core.auditing.audit import AuditReport as AuditReport
    from settlement_core.auditing.audit import audit as audit
    from settlement_core.connector import open_connector as open_connector
    from settlement_core.core.config import CoreConfig as CoreConfig
    from settlement_core.core.core import Core as Core
    from settlement_core.core.core import open_core as open_core
    from settlement_core.core.statistics import CoreStatistics as CoreStatistics
    from settlement_core.http.app import LifespanApp as LifespanApp
    from settlement_core.http.app import create_app as create_app
    from settlement_core.http.gate import AccessRules as AccessRules
    from settlement_core.http.process import collect_garbage_rarely as collect_garbage_rarely
    from settlement_core.http.requests import Dialect as Dialect
    from settlement_core.observers.logs import LogObserver as LogObserver
    from settlement_core.observers.logs import start_logging as start_logging
    from settlement_core.restoring import SetAside as SetAside
    from settlement_core.restoring import set_aside_restored as set_aside_restored
    from settlement_core.server import ServerAddresses as ServerAddresses
    from settlement_core.server import ServerConfig as ServerConfig
    from settlement_core.server import start_server as start_server
    from settlement_core.store_urls import open_store as open_store
    from settlement_core.stores.memory import create_memory_store as create_memory_store
    from settlement_core.stores.redis import RedisStore as RedisStore
    from settlement_core.stores.redis import connect_redis as connect_redis
    from settlement_core.stores.sqlite import open_sqlite_store as open_sqlite_store
    from settlement_core.values.amounts import Quantity as Quantity
    from settlement_core.values.backoff import Backoff as Backoff
    from settlement_core.values.errors import ConnectorError as ConnectorError
    from settlement_core.values.errors import IdempotencyConflict as IdempotencyConflict
    from settlement_core.values.errors import InvalidAmount as InvalidAmount
    from settlement_core.values.errors import InvalidIdentifier as InvalidIdentifier
    from settlement_core.values.errors import InvariantError as InvariantError
    from settlement_core.values.errors import LeadershipLost as LeadershipLost
    from settlement_core.values.errors import LocalError as LocalError
    from settlement_core.values.errors import RemoteError as RemoteError
    from settlement_core.values.errors import SettlementError as SettlementError
    from settlement_core.values.errors import SettlementFailed as SettlementFailed
    from settlement_core.values.errors import ShuttingDown as ShuttingDown
    from settlement_core.values.errors import StoreBroken as StoreBroken
    from settlement_core.values.errors import StoreLocked as StoreLocked
    from settlement_core.values.errors import StoreUnavailable as StoreUnavailable
    from settlement_core.values.errors import UnknownAccount as UnknownAccount
    from settlement_core.values.events import Event as Event
    from settlement_core.values.records import AccountOverview as AccountOverview
    from settlement_core.values.records import Attempt as Attempt
    from settlement_core.values.records import AttemptState as AttemptState
    from settlement_core.values.records import Direction as Direction
    from settlement_core.values.records import Payment as Payment
    from settlement_core.values.records import Totals as Totals

# A name is imported when it is first used: an engine's author need not wait for the web server.
_HOMES = {
    "settlement_core.abc": (
        "AccountServices",
        "Acknowledged",
        "Arrival",
        "ConnectEngine",
        "Connector",
        "CreditOutcome",
        "InDoubt",
        "Observer",
        "Pending",
        "Refused",
        "Rejected",
        "RestorableStore",
        "Settled",
        "SettlementEngine",
        "SharedStore",
        "SteppedStore",
        "Store",
        "Unanswered",
        "Verdict",
        "VerifiableEngine",
    ),
    "settlement_core.auditing.audit": ("AuditReport", "audit"),
    "settlement_core.connector": ("open_connector",),
    "settlement_core.core.config": ("CoreConfig",),
    "settlement_core.core.core": ("Core", "open_core"),
    "settlement_core.core.statistics": ("CoreStatistics",),
    "settlement_core.http.app": ("LifespanApp", "create_app"),
    "settlement_core.http.gate": ("AccessRules",),
    "settlement_core.http.process": ("collect_garbage_rarely",),
    "settlement_core.http.requests": ("Dialect",),
    "settlement_core.observers.logs": ("LogObserver", "start_logging"),
    "settlement_core.restoring": ("SetAside", "set_aside_restored"),
    "settlement_core.server": ("ServerAddresses", "ServerConfig", "start_server"),
    "settlement_core.store_urls": ("open_store",),
    "settlement_core.stores.memory": ("create_memory_store",),
    "settlement_core.stores.redis": ("RedisStore", "connect_redis"),
    "settlement_core.stores.sqlite": ("open_sqlite_store",),
    "settlement_core.values.amounts": ("Quantity",),
    "settlement_core.values.backoff": ("Backoff",),
    "settlement_core.values.errors": (
        "ConnectorError",
        "IdempotencyConflict",
        "InvalidAmount",
        "InvalidIdentifier",
        "InvariantError",
        "LeadershipLost",
        "LocalError",
        "RemoteError",
        "SettlementError",
        "SettlementFailed",
        "ShuttingDown",
        "StoreBroken",
        "StoreLocked",
        "StoreUnavailable",
        "UnknownAccount",
    ),
    "settlement_core.values.events": ("Event",),
    "settlement_core.values.records": ("AccountOverview", "Attempt", "AttemptState", "Direction", "Payment", "Totals"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "AccessRules",
    "AccountOverview",
    "AccountServices",
    "Acknowledged",
    "Arrival",
    "Attempt",
    "AttemptState",
    "AuditReport",
    "Backoff",
    "ConnectEngine",
    "Connector",
    "ConnectorError",
    "Core",
    "CoreConfig",
    "CoreStatistics",
    "CreditOutcome",
    "Dialect",
    "Direction",
    "Event",
    "IdempotencyConflict",
    "InDoubt",
    "InvalidAmount",
    "InvalidIdentifier",
    "InvariantError",
    "LeadershipLost",
    "LifespanApp",
    "LocalError",
    "LogObserver",
    "Observer",
    "Payment",
    "Pending",
    "Quantity",
    "RedisStore",
    "Refused",
    "Rejected",
    "RemoteError",
    "RestorableStore",
    "ServerAddresses",
    "ServerConfig",
    "SetAside",
    "Settled",
    "SettlementEngine",
    "SettlementError",
    "SettlementFailed",
    "SharedStore",
    "ShuttingDown",
    "SteppedStore",
    "Store",
    "StoreBroken",
    "StoreLocked",
    "StoreUnavailable",
    "Totals",
    "Unanswered",
    "UnknownAccount",
    "Verdict",
    "VerifiableEngine",
    "audit",
    "collect_garbage_rarely",
    "connect_redis",
    "create_app",
    "create_memory_store",
    "open_connector",
    "open_core",
    "open_sqlite_store",
    "open_store",
    "set_aside_restored",
    "start_logging",
    "start_server",
]


def __getattr__(name: str) -> Any:
    """Import a public name from where it lives."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME_OF[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
