"""Floor 4: a black-box examination of any settlement engine, in any language, against RFC 38.

It plays the connector: it asks over HTTP what connectors ask, listens for what engines tell connectors, and says of
every line of RFC 38 that concerns an engine whether it held.
"""

from settlement_core.conformance.findings import Check as Check
from settlement_core.conformance.findings import Finding as Finding
from settlement_core.conformance.findings import Level as Level
from settlement_core.conformance.findings import Report as Report
from settlement_core.conformance.findings import Verdict as Verdict
from settlement_core.conformance.suite import CHECKS as CHECKS
from settlement_core.conformance.suite import EngineUnreachable as EngineUnreachable
from settlement_core.conformance.suite import choose as choose
from settlement_core.conformance.suite import examine as examine
from settlement_core.conformance.world import Options as Options

__all__ = [
    "CHECKS",
    "Check",
    "EngineUnreachable",
    "Finding",
    "Level",
    "Options",
    "Report",
    "Verdict",
    "choose",
    "examine",
]
