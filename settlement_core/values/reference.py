"""The reference interpreter: what every command means, in memory, without I/O, clock or chance.

It is the memory store, and the model that the contract suite holds every other store against.
Every command validates first and changes its books last, so a refusal changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import islice
from typing import Any, ClassVar

from settlement_core.values import book_queries as queries
from settlement_core.values import commands as c
from settlement_core.values import decisions
from settlement_core.values.amounts import ZERO, add, subtract
from settlement_core.values.books import AccountBooks, LaneBooks
from settlement_core.values.errors import (
    IdempotencyConflict,
    LocalError,
    SuspenseConflict,
    TooLate,
    UnknownAccount,
    UnknownAttempt,
    UnknownSuspense,
)
from settlement_core.values.known import digest_of, mark_of
from settlement_core.values.lived import advance
from settlement_core.values.records import (
    AccountState,
    Attempt,
    AttemptState,
    Direction,
    Entry,
    EntryKind,
    Pausing,
    Step,
    SuspenseItem,
)

__all__ = ["Books"]


class Books:
    """All accounts, as one mutable value."""

    def __init__(self) -> None:
        self.accounts: dict[str, AccountBooks] = {}
        self.suspense: dict[str, SuspenseItem] = {}
        self.notes: dict[tuple[str, str], object] = {}
        self.order: dict[tuple[str, str], None] = {}
        self.last_seq = 0

    def apply(self, batch: Sequence[c.Command[Any]]) -> list[c.Result]:
        """Carry out commands in order; a refused one is answered with its error."""
        results: list[c.Result] = []
        for command in batch:
            try:
                results.append(self._HANDLERS[type(command)](self, command))
            except LocalError as refusal:
                results.append(refusal)
        return results

    # accounts

    def _open_account(self, command: c.OpenAccount) -> c.Applied:
        account = self.accounts.get(command.account_id)
        if account is None:
            account = self.accounts[command.account_id] = AccountBooks(command.account_id)
        elif account.state is AccountState.OPEN:
            return c.Applied(changed=False)
        account.state = AccountState.OPEN
        account.set_up, account.tear_down = command.set_up, False
        return c.Applied(changed=True)

    def _close_account(self, command: c.CloseAccount) -> c.Applied:
        account = self._account(command.account_id)
        if account.state is AccountState.DELETED:
            return c.Applied(changed=False)
        account.state = AccountState.DELETED
        lane = account.lanes[Direction.OUTGOING]
        # an account that owes nothing need not be set up only to be torn down
        account.set_up = account.set_up and lane.entered != lane.settled
        account.tear_down = command.tear_down
        return c.Applied(changed=True)

    def _finish_step(self, command: c.FinishStep) -> c.Applied:
        account = self._account(command.account_id)
        if decisions.pending_step(set_up=account.set_up, tear_down=account.tear_down) is not command.step:
            return c.Applied(changed=False)
        if account.set_up:
            account.set_up = False
        else:
            account.tear_down = False
        return c.Applied(changed=True)

    def _pause(self, command: c.Pause) -> c.Applied:
        account = self._account(command.account_id)
        if account.paused == command.paused:
            return c.Applied(changed=False)
        account.pausing = Pausing(paused=command.paused, reason=command.reason, by=command.by, at=command.at)
        return c.Applied(changed=True)

    def _account(self, account_id: str) -> AccountBooks:
        account = self.accounts.get(account_id)
        if account is None:
            raise UnknownAccount(account_id)
        return account

    # entries

    def _enqueue(self, command: c.Enqueue) -> c.Entered:
        account = self._account(command.account_id)
        lane = account.lanes[command.direction]
        known = command.entry_id in lane.keys or account.knows(command.entry_id)
        if command.direction is Direction.INCOMING and not known:
            decisions.may_credit(self.suspense.get(command.entry_id), command.account_id, command.entry_id)
        return self._enter(command)

    def _enter(self, command: c.Enqueue) -> c.Entered:
        account = self._account(command.account_id)
        lane = account.lanes[command.direction]
        seq = lane.keys.get(command.entry_id)
        if seq is not None:
            first = account.entries[seq]
            if first.amount != command.amount:
                raise IdempotencyConflict(command.account_id, command.entry_id, first=first.amount, now=command.amount)
            account.entries[seq] = replace(first, used_at=max(first.used_at, command.at))
            return c.Entered(first.amount, replay=True)
        if command.direction is Direction.INCOMING and account.knows(command.entry_id):
            decisions.may_repeat(account.known[digest_of(command.entry_id)], command)
            return c.Entered(command.amount, replay=True)
        if account.state is AccountState.DELETED and command.direction is Direction.OUTGOING:
            raise UnknownAccount(command.account_id)
        if command.within_s is not None and command.within_s <= 0:
            raise TooLate(command.account_id, command.entry_id)
        lane.keys[command.entry_id] = self._queue(
            account,
            command.direction,
            EntryKind.REQUEST,
            entry_id=command.entry_id,
            amount=command.amount,
            at=command.at,
        )
        lane.entered = add(lane.entered, command.amount)
        return c.Entered(command.amount, replay=False)

    def _queue(
        self, account: AccountBooks, direction: Direction, kind: EntryKind, *, entry_id: str, amount: Decimal, at: float
    ) -> int:
        self.last_seq += 1
        account.entries[self.last_seq] = Entry(
            seq=self.last_seq,
            account_id=account.account_id,
            direction=direction,
            kind=kind,
            entry_id=entry_id,
            amount=amount,
            attempt_id=None,
            entered_at=at,
            used_at=at,
        )
        lane = account.lanes[direction]
        lane.queue[self.last_seq] = None
        lane.queued = add(lane.queued, amount)
        return self.last_seq

    # attempts

    def _claim(self, command: c.Claim) -> c.Claimed | c.NothingToClaim | c.StepDue:
        account = self._account(command.account_id)
        lane = account.lanes[command.direction]
        known = account.attempts.get(command.attempt_id)
        if lane.open_id is not None:
            return self._claimed(account, lane.open_id, fresh=lane.open_id == command.attempt_id)
        if known is not None:
            decisions.refuse_claim(known)
            return c.NothingToClaim(lane.queued, summed_up=True)
        if account.paused:
            return c.NothingToClaim(lane.queued)
        if command.direction is Direction.OUTGOING and account.set_up:
            return c.StepDue(Step.SET_UP)
        if lane.released:
            return replace(self._claimed(account, self._reopen(account, lane), fresh=False), reopened=True)
        if decisions.is_blocked(command.direction, lane.parked):
            return c.NothingToClaim(lane.queued)
        plan = None
        if not decisions.is_dust(lane.queued, command):
            plan = decisions.plan_claim((account.entries[seq].amount for seq in lane.queue), command)
        if plan is not None:
            return self._begin(account, lane, command, plan)
        if command.direction is Direction.OUTGOING and account.tear_down and not lane.parked:
            return c.StepDue(Step.TEAR_DOWN)
        return c.NothingToClaim(lane.queued)

    def _begin(
        self, account: AccountBooks, lane: LaneBooks, command: c.Claim, plan: decisions.ClaimPlan
    ) -> c.Claimed | c.NothingToClaim:
        attempt_id = self._take(account, lane, command, plan)
        if not plan.amount:
            return c.NothingToClaim(lane.queued, summed_up=True)
        return self._claimed(account, attempt_id, fresh=True)

    def _claimed(self, account: AccountBooks, attempt_id: str, *, fresh: bool) -> c.Claimed:
        attempt = account.attempts[attempt_id]
        lane = account.lanes[attempt.direction]
        steps = attempt.direction is Direction.OUTGOING and (account.set_up or account.tear_down)
        return c.Claimed(attempt, fresh=fresh, more=bool(lane.queue or lane.released or steps))

    def _reopen(self, account: AccountBooks, lane: LaneBooks) -> str:
        attempt = account.attempts[lane.released.pop(0)]
        lane.open_id = attempt.attempt_id
        lane.parked = subtract(lane.parked, attempt.amount)
        lane.open = add(lane.open, attempt.amount)
        account.attempts[attempt.attempt_id] = replace(attempt, state=AttemptState.OPEN)
        return attempt.attempt_id

    def _take(self, account: AccountBooks, lane: LaneBooks, command: c.Claim, plan: decisions.ClaimPlan) -> str:
        attempt = Attempt(
            account_id=account.account_id,
            direction=command.direction,
            attempt_id=command.attempt_id,
            amount=plan.amount,
            dust=plan.dust,
            claimed_at=command.at,
        )
        if not plan.amount:
            attempt = decisions.summed_up(attempt)
        taken = list(islice(lane.queue, plan.count))
        for seq in taken:
            del lane.queue[seq]
            account.entries[seq] = replace(account.entries[seq], attempt_id=attempt.attempt_id)
        account.claimed[attempt.attempt_id] = taken
        account.attempts[attempt.attempt_id] = attempt
        self.order[account.account_id, attempt.attempt_id] = None
        lane.open_id = attempt.attempt_id if plan.amount else None
        lane.queued = subtract(lane.queued, add(plan.amount, plan.dust))
        lane.open = add(lane.open, plan.amount)
        if plan.dust:
            self._queue(
                account, command.direction, EntryKind.DUST, entry_id=attempt.attempt_id, amount=plan.dust, at=command.at
            )
        return attempt.attempt_id

    def _note(self, command: c.Note) -> c.Applied:
        account, attempt = self._attempt(command.account_id, command.attempt_id)
        if not decisions.may_note(attempt, command):
            return c.Applied(changed=False)
        account.attempts[attempt.attempt_id] = replace(attempt, payment=command.payment)
        return c.Applied(changed=True)

    def _close(self, command: c.Close) -> c.Applied:
        account, attempt = self._attempt(command.account_id, command.attempt_id)
        if not decisions.may_close(attempt, command):
            return c.Applied(changed=False)
        lane = account.lanes[attempt.direction]
        lane.open_id = None
        lane.open = subtract(lane.open, attempt.amount)
        told = replace(attempt, reason=command.reason or attempt.reason)
        self._end(account, told, settled=command.settled, at=command.at)
        return c.Applied(changed=True)

    def _resolve(self, command: c.Resolve) -> c.Applied:
        account, attempt = self._attempt(command.account_id, command.attempt_id)
        if not decisions.may_resolve(attempt, command):
            return c.Applied(changed=False)
        lane = account.lanes[attempt.direction]
        if attempt.attempt_id in lane.released:
            lane.released.remove(attempt.attempt_id)
        lane.parked = subtract(lane.parked, attempt.amount)
        told = replace(attempt, reason=command.reason, resolved_by=command.by)
        self._end(account, told, settled=command.settled, at=command.at)
        return c.Applied(changed=True)

    def _end(self, account: AccountBooks, attempt: Attempt, *, settled: Decimal, at: float) -> None:
        account.attempts[attempt.attempt_id] = replace(
            attempt, state=AttemptState.CLOSED, settled=settled, closed_at=at
        )
        lane = account.lanes[attempt.direction]
        lane.settled = add(lane.settled, settled)
        leftover = subtract(attempt.amount, settled)
        if leftover:
            self._queue(
                account, attempt.direction, EntryKind.LEFTOVER, entry_id=attempt.attempt_id, amount=leftover, at=at
            )

    def _hold(self, command: c.Hold) -> c.Applied:
        account, attempt = self._attempt(command.account_id, command.attempt_id)
        if not decisions.may_hold(attempt, command):
            return c.Applied(changed=False)
        lane = account.lanes[attempt.direction]
        lane.open_id = None
        lane.open = subtract(lane.open, attempt.amount)
        lane.parked = add(lane.parked, attempt.amount)
        state = decisions.parked_state(attempt.direction)
        account.attempts[attempt.attempt_id] = replace(attempt, state=state, reason=command.reason, resolved_by="")
        return c.Applied(changed=True)

    def _release(self, command: c.Release) -> c.Applied:
        account, attempt = self._attempt(command.account_id, command.attempt_id)
        if not decisions.may_release(attempt, command):
            return c.Applied(changed=False)
        account.lanes[attempt.direction].released.append(attempt.attempt_id)
        account.attempts[attempt.attempt_id] = replace(
            attempt, state=AttemptState.RELEASED, reason=command.reason, resolved_by=command.by
        )
        return c.Applied(changed=True)

    def _attempt(self, account_id: str, attempt_id: str) -> tuple[AccountBooks, Attempt]:
        account = self._account(account_id)
        attempt = account.attempts.get(attempt_id)
        if attempt is None:
            raise UnknownAttempt(account_id, attempt_id)
        return account, attempt

    # money whose owner is unknown

    def _suspend(self, command: c.Suspend) -> c.Applied:
        item = self.suspense.get(command.settlement_id)
        if item is None:
            self.suspense[command.settlement_id] = SuspenseItem(
                settlement_id=command.settlement_id,
                amount=command.amount,
                details=command.details,
                reported_at=command.at,
            )
        elif item.amount != command.amount:
            raise SuspenseConflict(
                command.settlement_id, f"was first reported with {item.amount:f}, now with {command.amount:f}"
            )
        return c.Applied(changed=item is None)

    def _assign(self, command: c.Assign) -> c.Entered:
        item = self.suspense.get(command.settlement_id)
        if item is None:
            raise UnknownSuspense(command.settlement_id)
        fresh = decisions.may_assign(item, command)
        self._account(command.account_id)
        others = (account for account in self.accounts.values() if account.account_id != command.account_id)
        for account in others if fresh else ():
            if item.settlement_id in account.lanes[Direction.INCOMING].keys or account.knows(item.settlement_id):
                decisions.refuse_credited(item.settlement_id, account.account_id)
        entered = self._enter(
            c.Enqueue(
                account_id=command.account_id,
                direction=Direction.INCOMING,
                entry_id=command.settlement_id,
                amount=item.amount,
                at=command.at,
            )
        )
        if fresh:
            self.suspense[command.settlement_id] = replace(
                item,
                account_id=command.account_id,
                reason=command.reason,
                assigned_by=command.by,
                assigned_at=command.at,
            )
        return entered

    def _dismiss(self, command: c.Dismiss) -> c.Applied:
        item = self.suspense.get(command.settlement_id)
        if item is None:
            raise UnknownSuspense(command.settlement_id)
        changed = decisions.may_dismiss(item)
        if changed:
            item = replace(item, reason=command.reason, assigned_by=command.by, assigned_at=command.at)
            self.suspense[command.settlement_id] = item
        return c.Applied(changed=changed)

    # the engine's notes, and forgetting

    def _put(self, command: c.Put) -> c.Applied:
        key = (command.account_id, command.key)
        changed = self.notes.get(key) != command.value
        if command.value is None:
            self.notes.pop(key, None)
        else:
            self.notes[key] = command.value
        return c.Applied(changed=changed)

    def _get(self, command: c.Get) -> object:
        return self.notes.get((command.account_id, command.key))

    def _tick(self, command: c.Tick) -> c.Ticked:
        own = (command.account_id, command.key)
        self.notes[own], ticked = advance(self.notes.get(own), command)
        return ticked

    def _prune(self, command: c.Prune) -> int:
        forgotten = 0
        for account_id, attempt_id in self.order:
            if forgotten >= command.limit:
                break
            account = self.accounts[account_id]
            attempt = account.attempts[attempt_id]
            if attempt.state is AttemptState.CLOSED and attempt.direction is Direction.OUTGOING:
                forgotten += self._forget(account, attempt, command.before)
        return forgotten

    def _forget(self, account: AccountBooks, attempt: Attempt, before: float) -> int:
        """Drop a closed attempt's entries if all of them were last used before then."""
        taken = [account.entries[seq] for seq in account.claimed.get(attempt.attempt_id, ())]
        recent = attempt.closed_at is None or attempt.closed_at >= before
        if not taken or recent or any(entry.used_at >= before for entry in taken):
            return 0
        del account.claimed[attempt.attempt_id]
        lane = account.lanes[attempt.direction]
        for entry in taken:
            del account.entries[entry.seq]
            if entry.kind is EntryKind.REQUEST:
                del lane.keys[entry.entry_id]
                lane.pruned = add(lane.pruned, entry.amount)
        account.attempts[attempt.attempt_id] = replace(attempt, pruned=True)
        return len(taken)

    def _retire(self, command: c.Retire) -> tuple[str, ...]:
        account = self._account(command.account_id)
        return tuple(one for one in command.attempt_ids if self._leave_history(account, one, command.before))

    def _leave_history(self, account: AccountBooks, attempt_id: str, before: float) -> bool:
        """Take an attempt out of the history, if it may go; tell whether it is gone."""
        attempt = account.attempts.get(attempt_id)
        if attempt is None:
            return True
        lane = account.lanes[attempt.direction]
        taken = [account.entries[seq] for seq in account.claimed.get(attempt_id, ())]
        if not decisions.may_retire(attempt, taken, lane.pruned, before):
            return False
        for entry in taken:
            del account.entries[entry.seq]
            if entry.kind is EntryKind.REQUEST:
                del lane.keys[entry.entry_id]
                account.known[digest_of(entry.entry_id)] = mark_of(entry.amount)
                lane.pruned = add(lane.pruned, entry.amount)
        lane.retired = add(lane.retired, attempt.settled or ZERO)
        account.claimed.pop(attempt_id, None)
        del account.attempts[attempt_id], self.order[account.account_id, attempt_id]
        return True

    _HANDLERS: ClassVar[dict[type, Callable[[Books, Any], object]]] = {
        c.OpenAccount: _open_account,
        c.CloseAccount: _close_account,
        c.FinishStep: _finish_step,
        c.Pause: _pause,
        c.Enqueue: _enqueue,
        c.Claim: _claim,
        c.Note: _note,
        c.Close: _close,
        c.Hold: _hold,
        c.Release: _release,
        c.Resolve: _resolve,
        c.Suspend: _suspend,
        c.Assign: _assign,
        c.Dismiss: _dismiss,
        c.Put: _put,
        c.Get: _get,
        c.Values: queries.values,
        c.Prune: _prune,
        c.Retire: _retire,
        c.Tick: _tick,
        c.Overview: queries.overview,
        c.Due: queries.due,
        c.History: queries.history,
        c.Entries: queries.entries,
        c.Suspense: queries.suspense,
        c.KnowsSettlement: queries.knows_settlement,
        c.Share: lambda _books, _command: c.Shares(shared=False, partitions=1, leases={0: ""}),
        c.Nudge: lambda _books, _command: c.Applied(changed=False),
        c.Fence: lambda _books, _command: c.Applied(changed=False),
        c.Workers: lambda _books, _command: [],
    }
