"""How an attempt ends: durably, even where the store has forgotten that the attempt began.

A store with replicas may lose the last moments when it fails over, although it had acknowledged them. Money that
moved for a forgotten attempt is in the queue again, and would move twice; so it is claimed under the same id and ended
once more, by the journal itself, since whoever waits here may be cut. For the same reason it is the journal that has
observers told of the end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

from settlement_core.core.context import Context
from settlement_core.core.journal import Handle
from settlement_core.values.amounts import subtract
from settlement_core.values.commands import Applied, Claim, Claimed, Close, Hold, NothingToClaim, StepDue
from settlement_core.values.errors import (
    AttemptConflict,
    InvariantError,
    LeaseLost,
    SettlementError,
    UnknownAccount,
    UnknownAttempt,
)
from settlement_core.values.events import AttemptForgotten, MovedMoreThanKnown, MovedUnrecorded
from settlement_core.values.records import Attempt

__all__ = ["Ending"]


class Ending:
    """One attempt's end on its way to the store; `wait` until it is durable.

    Args:
        context: the core's parts.
        attempt: the attempt as it was claimed.
        command: closes or parks it.
        claiming: returns what claims under the given id, should the store have forgotten the attempt.
        tell: is called once the end is durable, even if nobody waits for it any more.
    """

    __slots__ = ("_attempt", "_claiming", "_command", "_context", "_handle", "_moved", "_repeated", "_tell")

    def __init__(
        self,
        context: Context,
        attempt: Attempt,
        command: Close | Hold,
        claiming: Callable[[str], Claim],
        tell: Callable[[], None],
    ) -> None:
        self._context = context
        self._attempt = attempt
        self._command = command
        self._claiming = claiming
        self._tell = tell
        # what is parked may have moved
        self._moved = command.settled if isinstance(command, Close) else attempt.amount
        self._repeated: tuple[Handle[Claimed | NothingToClaim | StepDue], Handle[Applied]] | None = None
        self._handle = context.journal.submit(command, self._ended, self._refused)

    @property
    def repeated(self) -> bool:
        """Tell whether the store had forgotten the attempt."""
        return self._repeated is not None

    async def wait(self) -> None:
        """Return once it is durable. Raises `LeaseLost`, and `InvariantError` if it can never be."""
        try:
            await self._handle.wait()
        except UnknownAttempt:
            if self._repeated is not None:
                await self._wait_repeated(*self._repeated)
        except UnknownAccount as problem:
            if self._moved:
                raise self._lost(str(problem)) from None
            raise

    def _ended(self, *_: object) -> None:
        self._tell()

    def _refused(self, problem: Exception) -> None:
        if not self._moved:
            if isinstance(problem, UnknownAttempt):
                self._tell()  # what is forgotten is in the queue again, as it was to be
            return
        if isinstance(problem, LeaseLost) and isinstance(self._command, Close):
            self._observe(MovedUnrecorded, amount=self._moved)
        elif isinstance(problem, UnknownAttempt):
            self._observe(AttemptForgotten, amount=self._attempt.amount)
            # both at once: there must be no moment at which only the claim is on its way
            journal = self._context.journal
            claim = self._claiming(self._attempt.attempt_id)
            self._repeated = (journal.submit(claim), journal.submit(self._command, self._ended))

    async def _wait_repeated(self, claim: Handle[Claimed | NothingToClaim | StepDue], ending: Handle[Applied]) -> None:
        answer = await claim.wait()
        if not isinstance(answer, Claimed):
            raise self._lost("nothing can be claimed for it")
        found = answer.attempt
        if found.attempt_id != self._attempt.attempt_id:
            raise self._lost(f"the store takes attempt {found.attempt_id!r}, of {found.amount:f}, for open instead")
        try:
            await ending.wait()
        except AttemptConflict:
            assert isinstance(self._command, Close), "any open attempt can be parked"
            await self._close_with_all(found)

    async def _close_with_all(self, found: Attempt) -> None:
        """More moved than can be claimed again: what was asked for is partly forgotten as well."""
        excess = MovedMoreThanKnown(
            account_id=found.account_id,
            direction=found.direction,
            attempt_id=found.attempt_id,
            moved=self._moved,
            known=found.amount,
            excess=subtract(self._moved, found.amount),
        )
        self._context.excesses.append(excess)
        self._context.observe(excess)
        assert isinstance(self._command, Close)
        await self._context.journal.submit(replace(self._command, settled=found.amount), self._ended).wait()

    def _observe(self, kind: type[AttemptForgotten | MovedUnrecorded], *, amount: Decimal) -> None:
        self._context.observe(
            kind(
                account_id=self._attempt.account_id,
                direction=self._attempt.direction,
                attempt_id=self._attempt.attempt_id,
                amount=amount,
            )
        )

    def _lost(self, found: str) -> SettlementError:
        return InvariantError(
            f"the store forgot attempt {self._attempt.attempt_id!r} of account {self._attempt.account_id!r}, of which "
            f"{self._moved:f} may have moved, and it cannot be recorded again: {found}; compare the ledger with the "
            "books before this account goes on"
        )
