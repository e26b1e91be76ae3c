"""A connector for testing engines: real HTTP on loopback, exact books, scripted faults, and the habits of others.

`open_test_connector` serves one accounting system; two of them, joined by `link_accounts`, are a pair of peers.
"""

from __future__ import annotations

from settlement_core.testing.connector._books import AccountBooks as AccountBooks
from settlement_core.testing.connector._books import BookEvent as BookEvent
from settlement_core.testing.connector._books import Books as Books
from settlement_core.testing.connector._connector import EngineRefused as EngineRefused
from settlement_core.testing.connector._connector import EngineSilent as EngineSilent
from settlement_core.testing.connector._connector import TestConnector as TestConnector
from settlement_core.testing.connector._connector import link_accounts as link_accounts
from settlement_core.testing.connector._connector import open_test_connector as open_test_connector
from settlement_core.testing.connector._faults import Fault as Fault
from settlement_core.testing.connector._faults import Faults as Faults
from settlement_core.testing.connector._faults import Incoming as Incoming
from settlement_core.testing.connector._faults import answer_instead as answer_instead
from settlement_core.testing.connector._faults import answer_late as answer_late
from settlement_core.testing.connector._faults import deliver_twice as deliver_twice
from settlement_core.testing.connector._faults import lose_reply as lose_reply
from settlement_core.testing.connector._faults import lose_request as lose_request
from settlement_core.testing.connector._faults import random_faults as random_faults
from settlement_core.testing.connector._faults import reply_garbage as reply_garbage
from settlement_core.testing.connector._modes import MODES as MODES
from settlement_core.testing.connector._modes import Mode as Mode
from settlement_core.testing.connector._wire import Answer as Answer

__all__ = [
    "MODES",
    "AccountBooks",
    "Answer",
    "BookEvent",
    "Books",
    "EngineRefused",
    "EngineSilent",
    "Fault",
    "Faults",
    "Incoming",
    "Mode",
    "TestConnector",
    "answer_instead",
    "answer_late",
    "deliver_twice",
    "link_accounts",
    "lose_reply",
    "lose_request",
    "open_test_connector",
    "random_faults",
    "reply_garbage",
]
