"""An Ethereum node that is broken sometimes, for testing whatever takes a node's answers.

`open_lying_node` serves JSON-RPC in front of one or two real nodes. By seed it changes, delays, loses and withholds
answers, and records what it did. `LIES` is the table of everything it can say.
"""

from __future__ import annotations

from settlement_core.testing.lying_node._calls import NodeCall as NodeCall
from settlement_core.testing.lying_node._calls import Refusal as Refusal
from settlement_core.testing.lying_node._kinds import TRUTH as TRUTH
from settlement_core.testing.lying_node._kinds import AnswerLie as AnswerLie
from settlement_core.testing.lying_node._kinds import BodyLie as BodyLie
from settlement_core.testing.lying_node._kinds import Lie as Lie
from settlement_core.testing.lying_node._kinds import ViewLie as ViewLie
from settlement_core.testing.lying_node._kinds import WireLie as WireLie
from settlement_core.testing.lying_node._limits import Limits as Limits
from settlement_core.testing.lying_node._node import LIES as LIES
from settlement_core.testing.lying_node._node import LyingNode as LyingNode
from settlement_core.testing.lying_node._node import open_lying_node as open_lying_node
from settlement_core.testing.lying_node._request import Told as Told

__all__ = [
    "LIES",
    "TRUTH",
    "AnswerLie",
    "BodyLie",
    "Lie",
    "Limits",
    "LyingNode",
    "NodeCall",
    "Refusal",
    "Told",
    "ViewLie",
    "WireLie",
    "open_lying_node",
]
