"""Beside the floors: a demonstration on real parts. Two engine processes, two connectors, one ledger, and kills."""

from settlement_core.demo.run import DemoPlan as DemoPlan
from settlement_core.demo.run import run_demo as run_demo
from settlement_core.demo.verdict import Verdict as Verdict

__all__ = ["DemoPlan", "Verdict", "run_demo"]
