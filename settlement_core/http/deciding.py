"""Who decided, as the log of decisions and the books have it; and four eyes for amounts above a limit.

Where a decision is sent with a token, it is recorded as "token NAME (what its sender calls itself)": what a person
writes comes after what is proved, so nobody can write another's token.

With four eyes, a decision about more than a limit is carried out once two tokens have sent the same. The first one is
a proposal. Proposals are kept in memory, for a day: if they are lost, nothing was decided.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from typing import Any, Final, TypeAlias

import anyio

from settlement_core.core.core import Core
from settlement_core.core.dismissing import Dismissed, dismiss_below
from settlement_core.http.problems import NeedsConfirmation
from settlement_core.values.amounts import plain
from settlement_core.values.commands import Assign, Dismiss, History, Pause, Release, Resolve, Suspense
from settlement_core.values.errors import AttemptConflict, LocalError, SettlementError, UnknownSuspense
from settlement_core.values.events import DecisionProposed
from settlement_core.values.records import AttemptState

__all__ = ["Deciding", "Proposal"]

DAY_S: Final = 24 * 3600.0
"""How long a proposal can be confirmed."""

MAX_PROPOSALS: Final = 1000
"""Beyond this the oldest is forgotten; it can be proposed again."""

PAGE: Final = 1000

MAX_ABOUT: Final = 100
"""Characters of an id that an answer repeats."""

MAX_OTHERS: Final = 100

_PARKED: Final = frozenset({AttemptState.IN_DOUBT, AttemptState.HELD})

Decision: TypeAlias = Assign | Dismiss | Release | Resolve | Pause
Key: TypeAlias = tuple[object, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What one token wants to decide.

    Attributes:
        decision: its name, such as "resolve".
        account_id: of this account; "" if of none.
        about: the attempt or the settlement, or which settlements.
        amount: that it is about; None for an unknown sum.
        path, content: what a second token has to post, with a reason and a name.
        token, by, reason, at: who proposed it, and when.
    """

    decision: str
    account_id: str
    about: str
    amount: Decimal | None
    path: str
    content: dict[str, str]
    token: str
    by: str
    reason: str
    at: float

    def to_json(self) -> dict[str, Any]:
        """Return what the operator's API shows."""
        amount = None if self.amount is None else _written(self.amount)
        return {field.name: getattr(self, field.name) for field in fields(self)} | {"amount": amount}


class Deciding:
    """Has a core carry decisions out; above an amount only with a second token, if there is such a limit."""

    def __init__(self, core: Core, limit: Decimal | None = None, *, now: Callable[[], float] = time.time) -> None:
        self._core = core
        self.limit = limit
        self._now = now
        self._proposals: dict[Key, tuple[float, Proposal]] = {}
        # by decision and token: after which settlement a bulk decision that was confirmed goes on
        self._going: dict[tuple[Key, str | None], tuple[str, Proposal]] = {}

    async def decide(self, command: Decision, token: str | None) -> None:
        """Carry a decision out, or raise `NeedsConfirmation` if it is a proposal as yet."""
        amount = None if self.limit is None else await self._amount_of(command)
        if self.limit is None or amount is None or amount <= self.limit:
            await self._core.decide(replace(command, by=_signed(command.by, token)))
            return
        first = self._confirm(_key_of(command), _proposal_of(command, amount, token, self._now()), self.limit)
        by, reason = _together(first, token, command.by, command.reason)
        try:
            await self._core.decide(replace(command, by=by, reason=reason))
        except SettlementError:
            # as it may not have been carried out, the second token can confirm it again
            self._keep(_key_of(command), first)
            raise

    async def dismiss_below(self, below: Decimal, token: str | None, *, by: str, reason: str, after: str) -> Dismissed:
        """Dismiss a page of what waits of less than an amount; with any limit, as its sum is not known, by two tokens.

        A second token's further pages, each after the one before, need no proposals of their own.
        """
        if self.limit is None:
            by = _signed(by, token)
            return await dismiss_below(self._core, below, by=by, reason=reason, at=self._now(), after=after)
        key: Key = ("dismiss below", below)
        going = self._going.pop((key, token), None)
        if going is not None and going[0] == after:
            first = going[1]
        else:
            first = self._confirm(key, _proposal_of_many(below, _required(token), by, reason, self._now()), self.limit)
        both = _together(first, token, by, reason)
        try:
            done = await dismiss_below(self._core, below, by=both[0], reason=both[1], at=self._now(), after=after)
        except SettlementError:
            self._keep(key, first)
            raise
        if done.after is not None:
            self._going[key, token] = (done.after, first)
        return done

    def proposals(self) -> list[Proposal]:
        """Return what waits for a second token, the oldest first."""
        self._forget_old()
        return [proposal for _, proposal in self._proposals.values()]

    def _confirm(self, key: Key, proposal: Proposal, limit: Decimal) -> Proposal:
        """Take the proposal of another token away and return it; keep this one if there is none, and raise."""
        self._forget_old()
        found = self._proposals.get(key)
        if found is not None and found[1].token != proposal.token:
            del self._proposals[key]
            return found[1]
        if found is None:
            self._keep(key, proposal)
            self._core.announce(
                DecisionProposed(
                    account_id=proposal.account_id,
                    decision=proposal.decision,
                    about=proposal.about,
                    amount=proposal.amount,
                    by=_signed(proposal.by, proposal.token),
                    reason=proposal.reason,
                )
            )
        raise NeedsConfirmation(
            token=proposal.token,
            decision=proposal.decision,
            about=proposal.about[:MAX_ABOUT],
            amount="an unknown sum" if proposal.amount is None else _written(proposal.amount),
            limit=_written(limit),
            others=self._others(proposal),
        )

    def _others(self, proposal: Proposal) -> str:
        """Return what else is proposed about the same, of which this may be a slip."""
        same = (proposal.account_id, proposal.about)
        others = [
            other
            for _, other in self._proposals.values()
            if (other.account_id, other.about) == same
            and (other.decision, other.content) != (proposal.decision, proposal.content)
        ]
        told = [" ".join([f"token {one.token}: {one.decision}", *map("=".join, one.content.items())]) for one in others]
        return f"; other proposals: {', '.join(told)}"[:MAX_OTHERS] if told else ""

    def _keep(self, key: Key, proposal: Proposal) -> None:
        if len(self._proposals) >= MAX_PROPOSALS:
            del self._proposals[next(iter(self._proposals))]
        self._proposals[key] = anyio.current_time() + DAY_S, proposal

    def _forget_old(self) -> None:
        now = anyio.current_time()
        for key in [key for key, (until, _) in self._proposals.items() if until <= now]:
            del self._proposals[key]

    async def _amount_of(self, command: Decision) -> Decimal | None:
        """Return what a decision is about; None if it moves no amount, now or ever."""
        match command:
            case Resolve() | Release():
                amount = await self._parked(command)
                # the core refuses more than all of it, which two cannot decide either
                return None if isinstance(command, Resolve) and command.settled > amount else amount
            case Assign() | Dismiss():
                return await self._unattributed(command.settlement_id)
            case Pause():
                return None

    async def _parked(self, command: Resolve | Release) -> Decimal:
        query = History(account_id=command.account_id, states=_PARKED, limit=PAGE)
        while found := await self._core.ask(query):
            for attempt in found:
                if attempt.attempt_id == command.attempt_id:
                    return attempt.amount
            query = replace(query, after=found[-1].attempt_id)
        # not left to the core: by then it may be parked again, of an amount that nobody looked at
        raise AttemptConflict(
            command.attempt_id,
            tried=type(command).__name__.lower(),
            problem="no such attempt waits for a decision in this account, or it is decided",
        )

    async def _unattributed(self, settlement_id: str) -> Decimal | None:
        # in order of ids, those that begin alike come shortly before it
        query = Suspense(after=settlement_id[:-1], limit=PAGE, assigned=True)
        while found := await self._core.ask(query):
            for item in found:
                if item.settlement_id == settlement_id:
                    return item.amount if item.account_id is None else None
            if found[-1].settlement_id > settlement_id:
                break
            query = replace(query, after=found[-1].settlement_id)
        raise UnknownSuspense(settlement_id)


def _key_of(command: Decision) -> Key:
    said = [getattr(command, field.name) for field in fields(command) if field.name not in {"reason", "by", "at"}]
    return (type(command).__name__, *said)


def _proposal_of(command: Decision, amount: Decimal, token: str | None, now: float) -> Proposal:
    account_id, content = "", {}
    match command:
        case Resolve() | Release():
            account_id, about = command.account_id, command.attempt_id
            path = f"accounts/{account_id}/attempts/{about}/{type(command).__name__.lower()}"
            if isinstance(command, Resolve):
                content = {"settled": _written(command.settled)}
        case Assign() | Dismiss():
            about = command.settlement_id
            path = f"suspense/{type(command).__name__.lower()}"
            content = {"settlement_id": about}
            if isinstance(command, Assign):
                account_id = command.account_id
                content["account_id"] = account_id
        case Pause():
            raise AssertionError(command)
    return Proposal(
        decision=type(command).__name__.lower(),
        account_id=account_id,
        about=about,
        amount=amount,
        path=path,
        content=content,
        token=_required(token),
        by=command.by,
        reason=command.reason,
        at=now,
    )


def _proposal_of_many(below: Decimal, token: str, by: str, reason: str, now: float) -> Proposal:
    return Proposal(
        decision="dismiss",
        account_id="",
        about=f"all below {_written(below)}",
        amount=None,
        path="suspense/dismiss",
        content={"below": _written(below)},
        token=token,
        by=by,
        reason=reason,
        at=now,
    )


def _written(amount: Decimal) -> str:
    return f"{plain(amount):f}"


def _required(token: str | None) -> str:
    if token is None:
        raise LocalError("a decision above the limit of four eyes needs a token; nothing was recorded")
    return token


def _signed(by: str, token: str | None) -> str:
    return by if token is None else f"token {token} ({by})"


def _together(first: Proposal, token: str | None, by: str, reason: str) -> tuple[str, str]:
    """Return by whom and why, of both; what persons wrote comes after what is proved."""
    return f"tokens {first.token} and {token} ({first.by}; {by})", f"{first.reason}; {reason}"
