"""A ledger in a file, and the engine that settles over it: for demonstrations, proofs, and engine authors to copy."""

from settlement_core.engines.simulated.engine import SimulatedEngine as SimulatedEngine
from settlement_core.engines.simulated.engine import simulated_engine as simulated_engine
from settlement_core.engines.simulated.faults import FaultPlan as FaultPlan
from settlement_core.engines.simulated.ledger import SimulatedLedger as SimulatedLedger
from settlement_core.engines.simulated.ledger import open_ledger as open_ledger
from settlement_core.engines.simulated.records import Held as Held
from settlement_core.engines.simulated.records import IncomingEntry as IncomingEntry
from settlement_core.engines.simulated.records import IncomingPage as IncomingPage
from settlement_core.engines.simulated.records import LedgerBroken as LedgerBroken
from settlement_core.engines.simulated.records import LedgerIncomplete as LedgerIncomplete
from settlement_core.engines.simulated.records import LedgerRefused as LedgerRefused
from settlement_core.engines.simulated.records import LedgerSettings as LedgerSettings
from settlement_core.engines.simulated.records import LedgerUnavailable as LedgerUnavailable
from settlement_core.engines.simulated.records import Moved as Moved
from settlement_core.engines.simulated.records import Transfer as Transfer
from settlement_core.engines.simulated.records import TransferConflict as TransferConflict
from settlement_core.engines.simulated.records import TransferState as TransferState
from settlement_core.engines.simulated.records import TransferStatus as TransferStatus

__all__ = [
    "FaultPlan",
    "Held",
    "IncomingEntry",
    "IncomingPage",
    "LedgerBroken",
    "LedgerIncomplete",
    "LedgerRefused",
    "LedgerSettings",
    "LedgerUnavailable",
    "Moved",
    "SimulatedEngine",
    "SimulatedLedger",
    "Transfer",
    "TransferConflict",
    "TransferState",
    "TransferStatus",
    "open_ledger",
    "simulated_engine",
]
