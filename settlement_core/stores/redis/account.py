"""One account as a batch sees it: read at one instant, decided upon by the reference interpreter, changed by a script.

What commands mean is not said again here: the account is put into `Books`, the commands are applied to it, and what
they changed is what `change.lua` writes, if the account is still as it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from typing import Any

from settlement_core.stores._json import freeze, thaw
from settlement_core.stores.redis.layout import (
    DIRECTION_LETTERS,
    AccountKeys,
    StoredAttempt,
    attempt_of,
    attempt_row,
    entry_of,
    entry_row,
)
from settlement_core.stores.redis.scripts import Call, Reply, script
from settlement_core.values import commands as c
from settlement_core.values.amounts import add, subtract, total
from settlement_core.values.errors import LeaseLost
from settlement_core.values.records import (
    AccountOverview,
    AccountState,
    Attempt,
    AttemptState,
    Direction,
    Entry,
    EntryKind,
    Totals,
)
from settlement_core.values.reference import AccountBooks, Books, LaneBooks

__all__ = ["AccountView", "Forgettable", "QueueTooShort", "look"]

_NEW = 10**15
"""Numbers above this stand for entries that Redis has yet to number."""

_SUMS = tuple(field.name for field in fields(Totals))


class QueueTooShort(Exception):
    """A claim needs more of the queue than was read."""


class _Queue(dict[int, None]):
    """A queue of which only the oldest entries were read; whoever gets to its end is told so."""

    more = False

    def __iter__(self) -> Iterator[int]:
        yield from super().__iter__()
        if self.more:
            raise QueueTooShort


@dataclass(frozen=True, slots=True)
class Forgettable:
    """An attempt whose entries may be forgotten: they, and for each request the row its key had when it was read."""

    attempt_id: str
    entries: Sequence[Entry]
    key_rows: Mapping[str, str]


def look(
    keys: AccountKeys, commands: Sequence[c.Command[Any]], *, at_least: int = 0, attempts: Sequence[str] = ()
) -> Call:
    """Return the call that reads what these commands need to know, and these attempts.

    For a claim it reads `at_least` so many queued entries.
    """
    heads = dict.fromkeys(Direction, 0)
    attempts = list(attempts)
    notes: list[str] = []
    for command in commands:
        if isinstance(command, c.Claim):
            # one more than may be taken, so that the end of what was read is not the end of the queue
            heads[command.direction] = max(heads[command.direction], command.max_entries + 1, at_least)
            attempts.append(command.attempt_id)
        elif isinstance(command, c.Note | c.Close | c.Hold | c.Release | c.Resolve):
            attempts.append(command.attempt_id)
        elif isinstance(command, c.Put | c.Get):
            notes.append(command.key)
    entries = (keys.entries[direction] for direction in Direction)
    return Call(
        script("look"),
        [keys.account, *entries, keys.attempts, keys.notes, keys.partition.lease],
        [*heads.values(), len(attempts), *attempts, *notes],
    )


class AccountView:
    """One account, from a look at it to the change of it."""

    def __init__(self, keys: AccountKeys, commands: Sequence[c.Command[Any]], reply: Reply) -> None:
        self.keys = keys
        self._commands = commands
        state, version, document, token, *lanes, attempts, notes = reply
        self._version: str = version or ""
        self._token: str = token or ""
        self._under_lease = False
        self._state = state
        self._document = ""
        self._heads: dict[Direction, int] = dict.fromkeys(Direction, 0)
        self._books = Books()
        self._books.last_seq = _NEW
        self._new_entries: dict[Direction, list[Entry]] = {direction: [] for direction in Direction}
        # last entry and last one taken, by direction
        self._numbers = {way: (lanes[5 * place], lanes[5 * place + 1]) for place, way in enumerate(Direction)}
        self._uncounted = any(lanes[5 * place + 2] < lanes[5 * place] for place in range(2))
        self._stored: dict[str, StoredAttempt] = {}
        for attempt_id, row in zip(attempts[::2], attempts[1::2], strict=True):
            self._stored[attempt_id] = attempt_of(keys.account_id, attempt_id, row)
        self._note_keys = [command.key for command in commands if isinstance(command, c.Put | c.Get)]
        for key, value in zip(self._note_keys, notes, strict=True):
            if value is not None:
                self._books.notes[keys.account_id, key] = thaw(value)
        self._notes = dict(self._books.notes)
        if state is not None:
            self._load(AccountState(state), json.loads(document), lanes)

    def _load(self, state: AccountState, document: dict[str, Any], lanes: list[Any]) -> None:
        account = AccountBooks(self.keys.account_id, state, document["set_up"], document["tear_down"])
        self._books.accounts[account.account_id] = account
        account.attempts = {attempt_id: stored.attempt for attempt_id, stored in self._stored.items()}
        for place, direction in enumerate(Direction):
            last, taken, _, head, uncounted = lanes[5 * place : 5 * place + 5]
            facts = document[DIRECTION_LETTERS[direction]]
            lane = account.lanes[direction]
            lane.open_id, lane.released = facts["open"], facts["released"]
            lane.totals = _count(facts["totals"], uncounted)
            lane.queue = queue = _Queue()
            for seq, row in enumerate(head, taken + 1):
                entry = entry_of(_book_number(seq, direction), account.account_id, direction, row)
                account.entries[entry.seq] = entry
                queue[entry.seq] = None
            queue.more = taken + len(head) < last
            self._heads[direction] = len(head)
        self._document = self._written(account)

    @property
    def _account(self) -> AccountBooks | None:
        return self._books.accounts.get(self.keys.account_id)

    # deciding

    def carry_out(self) -> list[c.Result]:
        """Apply the commands, as many as can be applied to what was read; return their results.

        Raises `QueueTooShort` if more of a queue must be read first.
        """
        results: list[c.Result] = []
        for command in self._commands:
            if isinstance(command, c.Claim) and self._new_entries[command.direction]:
                # it may take entries that Redis has yet to number
                break
            results.append(self._answer(command))
        return results

    def _answer(self, command: c.Command[Any]) -> c.Result:
        lease = getattr(command, "lease", "")
        if lease and lease != self._token:
            return LeaseLost(self.keys.account_id)
        self._under_lease = self._under_lease or bool(lease)
        before = self._books.last_seq
        (result,) = self._books.apply([command])
        account = self._account
        for number in range(before + 1, self._books.last_seq + 1):
            assert account is not None, "only an account has entries"
            self._new_entries[account.entries[number].direction].append(account.entries[number])
        return result

    def overview(self) -> list[AccountOverview]:
        """Return the account, if there is one."""
        overviews: list[AccountOverview] = self._books.apply([c.Overview(account_id=self.keys.account_id)])[0]
        return overviews

    def is_due(self) -> bool:
        """Tell whether the account's worker has anything to look at."""
        account = self._account
        queued = any(last > taken for last, taken in self._numbers.values())
        return queued or (account is not None and _is_busy(account))

    def live(self) -> set[str]:
        """Return the attempts the account knows to be open or released."""
        lanes = [] if self._account is None else self._account.lanes.values()
        return {attempt_id for lane in lanes for attempt_id in (lane.open_id, *lane.released) if attempt_id}

    def attempt(self, attempt_id: str) -> StoredAttempt:
        """Return an attempt that was looked at."""
        return self._stored[attempt_id]

    def forget(self, attempt: Forgettable, before: float) -> tuple[int, dict[str, Any]]:
        """Forget an attempt's entries as `Prune` does; return how many they are, and what is to be deleted."""
        account = self._account
        assert account is not None, "attempts are an account's"
        account.claimed[attempt.attempt_id] = []
        for entry in attempt.entries:
            number = _book_number(entry.seq, entry.direction)
            account.entries[number] = replace(entry, seq=number)
            account.claimed[attempt.attempt_id].append(number)
            if entry.kind is EntryKind.REQUEST:
                account.lanes[entry.direction].keys[entry.entry_id] = number
        self._books.order.append((account.account_id, attempt.attempt_id))
        (forgotten,) = self._books.apply([c.Prune(before=before, limit=len(attempt.entries))])
        stored = self._stored[attempt.attempt_id]
        return forgotten, {
            "attempt": attempt.attempt_id,
            "direction": DIRECTION_LETTERS[stored.attempt.direction],
            "first": str(stored.first),
            "last": str(stored.last),
            "keys": [text for pair in attempt.key_rows.items() for text in pair],
        }

    # changing

    def change(
        self, *, asker: str, channel: str, fold: bool = False, forgotten: dict[str, Any] | None = None
    ) -> Call | None:
        """Return the call that writes what the commands changed, None if nothing did.

        Args:
            asker: the lease token of the worker that asks, for which no ring is needed.
            channel: where rings are announced.
            fold: also write totals that only include entries added meanwhile.
            forgotten: what `forget` said is to be deleted.
        """
        account = self._account
        notes = [
            [key, "" if value is None else freeze(value, key)]
            for key in dict.fromkeys(self._note_keys)
            if (value := self._books.notes.get((self.keys.account_id, key)))
            != self._notes.get((self.keys.account_id, key))
        ]
        attempts = [] if account is None else list(self._changed_attempts(account))
        document = "" if account is None else self._written(account)
        state = None if account is None else account.state.value
        if (
            not (notes or attempts or forgotten or any(self._new_entries.values()) or (fold and self._uncounted))
            and (account is None or document == self._document)
            and state == self._state
        ):
            return None
        content = {
            "account": self.keys.account_id,
            "version": self._version,
            "lease": self._token if self._under_lease else "",
            "asker": asker,
            "channel": channel,
            "fields": [] if account is None else self._fields(account, document),
            "busy": "yes" if account is not None and _is_busy(account) else "no",
            "opened": "yes" if account is not None and self._state is None else "no",
            "appended": [
                [DIRECTION_LETTERS[direction], entry_row(entry.kind, entry.entry_id, entry.amount, entry.entered_at)]
                for direction, entries in self._new_entries.items()
                for entry in entries
            ],
            "attempts": attempts,
            "forgotten": [] if forgotten is None else [forgotten],
            "notes": notes,
        }
        return Call(script("change"), self._change_keys(), [json.dumps(content)], writes=True)

    def _change_keys(self) -> list[str]:
        keys, partition = self.keys, self.keys.partition
        lanes = [(keys.entries[way], keys.keys[way], keys.took[way]) for way in Direction]
        return [
            keys.account,
            *(key for lane in lanes for key in lane),
            *(keys.attempts, keys.claims, keys.notes),
            *(partition.due, partition.accounts, partition.history, partition.unclosed, partition.prunable),
            *(partition.lease, partition.rings),
        ]

    def _written(self, account: AccountBooks) -> str:
        """Return the account's document, with the sums of all entries Redis has numbered."""
        document: dict[str, Any] = {"set_up": account.set_up, "tear_down": account.tear_down}
        for direction, lane in account.lanes.items():
            yet_to_count = total(entry.amount for entry in self._new_entries[direction])
            sums = replace(lane.totals, queued=subtract(lane.totals.queued, yet_to_count))
            document[DIRECTION_LETTERS[direction]] = {
                "totals": [f"{getattr(sums, name):f}" for name in _SUMS],
                "open": lane.open_id,
                "released": lane.released,
            }
        return json.dumps(document)

    def _fields(self, account: AccountBooks, document: str) -> list[str]:
        live = [attempt_id for lane in account.lanes.values() for attempt_id in (lane.open_id, *lane.released)]
        facts = ["state", account.state.value, "document", document]
        facts += ["live", json.dumps([attempt_id for attempt_id in live if attempt_id is not None])]
        for direction, lane in account.lanes.items():
            last, taken = self._numbers[direction]
            left = len(lane.queue) - sum(1 for entry in self._new_entries[direction] if entry.seq in lane.queue)
            letter = DIRECTION_LETTERS[direction]
            facts += [f"taken.{letter}", str(taken + self._heads[direction] - left), f"counted.{letter}", str(last)]
        return facts

    def _changed_attempts(self, account: AccountBooks) -> Iterator[dict[str, str]]:
        for attempt_id, attempt in account.attempts.items():
            stored = self._stored.get(attempt_id)
            if stored is not None and stored.attempt == attempt:
                continue
            if stored is None:
                took = account.claimed[attempt_id]
                kept = StoredAttempt(attempt, took[0] // 2, took[-1] // 2)
            else:
                kept = replace(stored, attempt=attempt)
            yield {
                "id": attempt_id,
                "row": attempt_row(kept),
                "direction": DIRECTION_LETTERS[attempt.direction],
                "last": str(kept.last),
                "new": "yes" if stored is None else "no",
                "unclosed": "no" if attempt.state is AttemptState.CLOSED else "yes",
                "prunable": repr(attempt.closed_at) if _is_prunable(attempt) else "",
                "at": repr(attempt.claimed_at),
            }


def _book_number(seq: int, direction: Direction) -> int:
    """Return an entry's number in the books, where both directions of an account share one sequence."""
    return 2 * seq + (direction is Direction.INCOMING)


def _count(sums: Sequence[str], uncounted: Sequence[str]) -> Totals:
    """Return totals that include the entries added since they were written."""
    totals = Totals(**{name: Decimal(text) for name, text in zip(_SUMS, sums, strict=True)})
    entered, queued = totals.entered, totals.queued
    for row in uncounted:
        kind, _, text, _ = json.loads(row)
        amount = Decimal(text)
        queued = add(queued, amount)
        if kind == EntryKind.REQUEST.value:
            entered = add(entered, amount)
    return replace(totals, entered=entered, queued=queued)


def _is_busy(account: AccountBooks) -> bool:
    """Tell whether there is anything to do but what is queued."""
    lanes: list[LaneBooks] = list(account.lanes.values())
    return account.set_up or account.tear_down or any(lane.open_id or lane.released for lane in lanes)


def _is_prunable(attempt: Attempt) -> bool:
    closed = attempt.state is AttemptState.CLOSED and not attempt.pruned
    return closed and attempt.direction is Direction.OUTGOING
