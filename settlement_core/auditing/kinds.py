"""What can be the matter with the money: a table of how grave each kind is, how it is told, and what ends it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

__all__ = ["CLOCK_SHOWN_S", "KINDS", "Grade", "Kind", "Known"]

RETRY_S: Final = 15 * 60.0
"""How long an account may fail again and again before its money counts as stuck."""

UNSETTLED_S: Final = 3600.0
"""How long an account may be at work without any money moving before it counts as stuck."""

CLOCK_SHOWN_S: Final = 24 * 3600.0
"""How long a jump of the wall clock is shown: until then the times of the day before may be wrong."""


class Grade(StrEnum):
    """How the money is."""

    GOOD = "good"
    """Nothing is to be done."""

    WAITS = "waits"
    """An operator has to decide something; the rest goes on."""

    STUCK = "stuck"
    """Money does not move, and will not before something is mended."""

    WRONG = "wrong"
    """The books do not add up, or a contract about money was broken."""


class Kind(StrEnum):
    """What can be the matter."""

    BOOKS = "books"
    EXCESS = "excess"
    HALTED = "halted"
    STORE = "store"
    ALARM = "alarm"
    ENGINE = "engine"
    CONNECTOR = "connector"
    RETRIES = "retries"
    UNSETTLED = "unsettled"
    IN_DOUBT = "in_doubt"
    HELD = "held"
    UNATTRIBUTED = "unattributed"
    PAUSED = "paused"
    OLDER = "older"
    STOPPED = "stopped"
    SET_UP = "set_up"
    WARNING = "warning"
    CLOCK = "clock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """One row of the table.

    Attributes:
        short: what it is, with `{amount}` and `{accounts}` ("account alice", "3 accounts").
        command: what ends it, with `{ACCOUNT}` and `{ABOUT}`, the attempt or the settlement.
        about: stands in for `{ABOUT}` where there are several.
        names_accounts: whether a reason begins with its accounts.
        words_suffice: whether the words of an engine or a connector, where there are any, say it all.
        patience_s: how long it must have lasted to count.
    """

    grade: Grade
    short: str
    command: str
    about: str = "ID"
    names_accounts: bool = False
    words_suffice: bool = False
    patience_s: float = 0.0


_RESUME: Final = "settlement-core resume {ACCOUNT} --reason …"

KINDS: Final[Mapping[Kind, Known]] = MappingProxyType(
    {
        Kind.BOOKS: Known(
            grade=Grade.WRONG,
            short="the books do not add up",
            command="stop the server, keep the store as it is, and run settlement-core audit",
            names_accounts=True,
        ),
        Kind.EXCESS: Known(
            grade=Grade.WRONG,
            short="{amount} more moved than the books know",
            command="compare the ledger with settlement-core attempts --account {ACCOUNT}",
            names_accounts=True,
        ),
        Kind.HALTED: Known(
            grade=Grade.WRONG,
            short="{accounts} halted",
            command=f"compare the ledger with the books, then {_RESUME}",
        ),
        Kind.STORE: Known(
            grade=Grade.STUCK,
            short="the store does not answer",
            command="mend the store: nothing is lost, and work goes on by itself",
        ),
        Kind.ALARM: Known(grade=Grade.STUCK, short="the engine has an alarm", command="settlement-core engine"),
        Kind.ENGINE: Known(
            grade=Grade.STUCK, short="the engine cannot report its state", command="settlement-core engine"
        ),
        Kind.CONNECTOR: Known(
            grade=Grade.STUCK,
            short="the connector takes no credits",
            command="mend the connector, or --connector-url; credits are then offered again by themselves",
            names_accounts=True,
        ),
        Kind.RETRIES: Known(
            grade=Grade.STUCK,
            short="retries of {accounts} have failed for more than 15 minutes",
            command="mend what the reason names, then settlement-core settle {ACCOUNT}",
            names_accounts=True,
            words_suffice=True,
            patience_s=RETRY_S,
        ),
        Kind.UNSETTLED: Known(
            grade=Grade.STUCK,
            short="nothing of {accounts} moved for more than an hour",
            command="settlement-core attempts --account {ACCOUNT} --state open",
            patience_s=UNSETTLED_S,
        ),
        Kind.IN_DOUBT: Known(
            grade=Grade.WAITS,
            short="{amount} in doubt",
            command="settlement-core resolve {ABOUT} --all|--nothing|--settled AMOUNT --reason …",
            about="ATTEMPT",
            names_accounts=True,
        ),
        Kind.HELD: Known(
            grade=Grade.WAITS,
            short="{amount} held",
            command="settlement-core release --account {ACCOUNT} --reason …",
            names_accounts=True,
        ),
        Kind.UNATTRIBUTED: Known(
            grade=Grade.WAITS,
            short="{amount} unattributed",
            command="settlement-core suspense --assign {ABOUT} ACCOUNT --reason …",
            about="SETTLEMENT",
        ),
        Kind.PAUSED: Known(grade=Grade.WAITS, short="{amount} of {accounts} paused", command=_RESUME),
        Kind.OLDER: Known(
            grade=Grade.WAITS,
            short="these books may be older than the ledger",
            command="compare them with the ledger, as docs/backups.md says, before anything is served",
        ),
        Kind.STOPPED: Known(
            grade=Grade.WAITS,
            short="{amount} of {accounts} waits for the server, which is stopped",
            command="settlement-core serve",
        ),
        Kind.SET_UP: Known(
            grade=Grade.WAITS,
            short="set-up of {accounts} has failed for more than 15 minutes",
            command="mend what the reason names, then settlement-core settle {ACCOUNT}",
            names_accounts=True,
            words_suffice=True,
            patience_s=RETRY_S,
        ),
        Kind.WARNING: Known(grade=Grade.WAITS, short="the engine has a warning", command="settlement-core engine"),
        Kind.CLOCK: Known(
            grade=Grade.WAITS,
            short="the wall clock jumped",
            command="set the clock right, and keep it by NTP; this is shown for a day",
        ),
    }
)
"""The gravest first; within a grade what an operator should look at first."""
