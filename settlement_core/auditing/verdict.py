"""The one verdict about the money: good, waits for you, stuck or wrong, with grouped reasons.

A pure function of what is known. A server computes it once for all who ask; a stopped store's is computed by whoever
opened it. Ages that decide come from a clock that only advances; wall-clock times are only shown.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

from settlement_core.auditing.kinds import KINDS, Grade, Kind
from settlement_core.values.amounts import ZERO, add, plain

__all__ = ["EXIT_CODES", "Grade", "Kind", "Reason", "Trouble", "Verdict", "judge"]

GROUPS: Final = 5
"""Reasons of one kind that are told apart; further ones are told together."""

NAMED: Final = 50
"""Accounts that are named of each reason."""

LONGEST: Final = 300
"""Characters of foreign words that are shown."""

EXIT_CODES: Final = MappingProxyType({Grade.GOOD: 0, Grade.WRONG: 1, Grade.WAITS: 3, Grade.STUCK: 4})
"""What commands end with. 2 means that nothing could be judged."""

_LEADS: Final = MappingProxyType(
    {
        Grade.WRONG: "something is wrong",
        Grade.STUCK: "money is stuck",
        Grade.WAITS: "the books add up, and this waits for you",
    }
)

# ids, hashes and times: words that differ from one case to the next, where statuses such as 503 do not
_PARTICULAR: Final = re.compile(r"(?=[\w:.+-]*\d)[\w:.+-]{5,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """One thing that is not as it should be.

    Attributes:
        kind: what it is.
        words: why, in the words of an engine, a connector or a store; "" if its kind says it all.
        account_id: whose it is; "" if nobody's.
        about: the attempt or the settlement it is about, if any.
        amount: the money that is concerned, in standard units.
        since: wall-clock seconds since 1970; None if nobody knows.
        lasted_s: how long it has lasted by a clock that only advances. It counts once its kind's patience is over.
    """

    kind: Kind
    words: str = ""
    account_id: str = ""
    about: str = ""
    amount: Decimal = ZERO
    since: float | None = None
    lasted_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Troubles of one kind with the same words.

    Attributes:
        count: how many there are.
        accounts: the first accounts concerned, of `account_count`.
        amount: their money.
        since: when the oldest began, in wall-clock seconds since 1970; None if nobody knows.
        text: all of it in one line.
        command: what ends it.
    """

    kind: Kind
    grade: Grade
    count: int
    account_count: int
    accounts: tuple[str, ...]
    amount: Decimal
    since: float | None
    text: str
    command: str

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values, the amount as text in standard units."""
        return {
            "kind": self.kind.value,
            "grade": self.grade.value,
            "count": self.count,
            "account_count": self.account_count,
            "accounts": list(self.accounts),
            "amount": f"{self.amount:f}",
            "since": self.since,
            "text": self.text,
            "command": self.command,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How the money is, in one grade and one sentence, and the reasons, the gravest first."""

    grade: Grade
    sentence: str
    reasons: tuple[Reason, ...] = ()

    @property
    def exit_code(self) -> int:
        """What a command ends with that shows it."""
        return EXIT_CODES[self.grade]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "grade": self.grade.value,
            "sentence": self.sentence,
            "reasons": [reason.to_json() for reason in self.reasons],
        }


def judge(troubles: Iterable[Trouble], *, at: float, accounts: int) -> Verdict:
    """Return the verdict on these troubles, known at the wall-clock time `at` of so many accounts."""
    groups: dict[Kind, dict[str, _Group]] = {}
    keys: dict[str, str] = {}
    for trouble in troubles:
        if trouble.lasted_s >= KINDS[trouble.kind].patience_s:
            words = " ".join(trouble.words.split())[:LONGEST]
            if words not in keys:
                keys[words] = _PARTICULAR.sub("…", words)
            groups.setdefault(trouble.kind, {}).setdefault(keys[words], _Group(words)).include(trouble)
    found = [kind for kind in KINDS if kind in groups]
    if not found:
        return Verdict(grade=Grade.GOOD, sentence=_good(accounts))
    reasons = tuple(group.reason(kind, at) for kind in found for group in _few(groups[kind]))
    return Verdict(grade=KINDS[found[0]].grade, sentence=_sentence(groups), reasons=reasons)


def _good(accounts: int) -> str:
    if not accounts:
        return "there is no account yet: the books are empty, and nothing waits for you"
    return "your money is all right: the books add up, and nothing waits for you"


@dataclass(slots=True)
class _Group:
    words: str
    count: int = 0
    accounts: dict[str, None] = field(default_factory=dict)
    about: str = ""
    amount: Decimal = ZERO
    since: float | None = None

    def include(self, trouble: Trouble) -> None:
        self.count += 1
        self.amount = add(self.amount, trouble.amount)
        if trouble.account_id:
            self.accounts[trouble.account_id] = None
        if trouble.since is not None:
            self.since = trouble.since if self.since is None else min(self.since, trouble.since)
        self.about = trouble.about

    def merge(self, other: _Group) -> None:
        self.count += other.count
        self.amount = add(self.amount, other.amount)
        self.accounts |= other.accounts
        known = [since for since in (self.since, other.since) if since is not None]
        self.since = min(known, default=None)

    @property
    def who(self) -> str:
        if len(self.accounts) == 1:
            return f"account {next(iter(self.accounts))}"
        return f"{len(self.accounts)} accounts" if self.accounts else ""

    def short(self, kind: Kind) -> str:
        return KINDS[kind].short.format(amount=f"{plain(self.amount):f}", accounts=self.who)

    def reason(self, kind: Kind, at: float) -> Reason:
        facts, names = KINDS[kind], tuple(self.accounts)
        known = {
            "ACCOUNT": names[0] if len(names) == 1 else "ACCOUNT",
            "ABOUT": self.about if self.count == 1 and self.about else facts.about,
        }
        said = [self.who] if facts.names_accounts else []
        if not (facts.words_suffice and self.words):
            said.append(self.short(kind))
        said.append(self.words)
        since = "" if self.since is None else f" since {written(self.since, at=at)}"
        return Reason(
            kind=kind,
            grade=facts.grade,
            count=self.count,
            account_count=len(names),
            accounts=names[:NAMED],
            amount=self.amount,
            since=self.since,
            text=": ".join(part for part in said if part) + since,
            command=facts.command.format(**known),
        )


def _few(alike: dict[str, _Group]) -> list[_Group]:
    """Return the groups of a kind, the largest first; those beyond `GROUPS` as one."""
    found = sorted(alike.values(), key=lambda group: -group.count)
    if len(found) <= GROUPS:
        return found
    rest = _Group("other reasons")
    for group in found[GROUPS - 1 :]:
        rest.merge(group)
    return [*found[: GROUPS - 1], rest]


def _sentence(groups: dict[Kind, dict[str, _Group]]) -> str:
    """Return the gravest kinds after what their grade is called, and the others after these."""
    shorts: dict[Grade, list[str]] = {}
    for kind, facts in KINDS.items():
        if kind in groups:
            whole = _Group("")
            for group in groups[kind].values():
                whole.merge(group)
            shorts.setdefault(facts.grade, []).append(whole.short(kind))
    gravest, *others = shorts
    also = f"; also {', '.join(said for grade in others for said in shorts[grade])}" if others else ""
    return f"{_LEADS[gravest]}: {', '.join(shorts[gravest])}{also}"


def written(when: float, *, at: float) -> str:
    """Return a wall-clock time in UTC: the time of day, with its date if it is not of the same day as `at`."""
    try:
        then, now = time.gmtime(when), time.gmtime(at)
    except (OverflowError, ValueError, OSError):
        return f"{when:.0f} s after 1970"
    same = then[:3] == now[:3]
    return time.strftime("%H:%M UTC" if same else "%Y-%m-%d %H:%M UTC", then)
