"""One account as a batch sees it: read at one instant, decided upon by the reference interpreter, changed by a script.

What commands mean is not said again here: the account is put into `Books`, the commands are applied to it, and what
they changed is what `change.lua` writes, if the account is still as it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from settlement_core.stores._json import freeze, pausing_of, pausing_text, thaw
from settlement_core.stores.redis.account_parts import (
    Forgettable,
    PartialQueue,
    QueueTooShort,
    Retired,
    book_number,
    count_in,
    is_busy,
    live_of,
    steps_of,
)
from settlement_core.stores.redis.layout import (
    DIRECTION_LETTERS,
    AccountKeys,
    StoredAttempt,
    attempt_of,
    attempt_row,
    decode,
    encode,
    entry_of,
    entry_row,
    lane_document,
    lane_of,
    live_in,
    prunable_from,
)
from settlement_core.stores.redis.scripts import Call, Reply, script
from settlement_core.values import commands as c
from settlement_core.values.amounts import subtract, total
from settlement_core.values.books import AccountBooks, LaneBooks
from settlement_core.values.errors import LeaseLost
from settlement_core.values.records import (
    AccountOverview,
    AccountState,
    AttemptState,
    Direction,
    Entry,
    EntryKind,
)
from settlement_core.values.reference import Books

__all__ = ["AccountView", "Forgettable", "QueueTooShort", "Retired"]

_NEW = 10**15
"""Numbers above this stand for entries that Redis has yet to number."""


class AccountView:
    """One account, from a look at it to the change of it, and, if that held, to the next."""

    def __init__(self, keys: AccountKeys, commands: Sequence[c.Command[Any]], reply: Reply) -> None:
        self.keys = keys
        self._books = Books()
        self._books.last_seq = _NEW
        self._new_entries: list[Entry] = []
        # what the latest change makes of the account, if it holds
        self._becomes = ""
        self._changed: dict[str, StoredAttempt] = {}
        state, version, steps, token, pausing, *lanes, attempts, notes = reply
        self._state: str | None = state
        self._steps: str = steps or ""
        self._version: str = version or ""
        self._token: str = token or ""
        self._pausing: str | None = pausing
        self._under_lease = False
        # the lane's document, the number of its last entry, of the last one taken, and how many queued ones were read
        self._lanes: dict[Direction, tuple[str, int, int, int]] = {}
        self._live: list[str] = []
        self._uncounted = False
        self._stored: dict[str, StoredAttempt] = {}
        for attempt_id, row in zip(attempts[::2], attempts[1::2], strict=True):
            self._stored[attempt_id] = attempt_of(keys.account_id, attempt_id, row)
        self._commands = commands
        self._note_keys = [command.key for command in commands if isinstance(command, c.Put | c.Get | c.Tick)]
        for key, value in zip(self._note_keys, notes, strict=True):
            if value is not None:
                self._books.notes[keys.account_id, key] = thaw(value)
        self._notes = dict(self._books.notes)
        if state is not None:
            self._load(state, lanes)

    def _load(self, state: str, lanes: list[Any]) -> None:
        account = AccountBooks(self.keys.account_id, AccountState(state), "s" in self._steps, "t" in self._steps)
        self._books.accounts[account.account_id] = account
        account.pausing = pausing_of(self._pausing)
        account.attempts = {attempt_id: stored.attempt for attempt_id, stored in self._stored.items()}
        for place, (direction, lane) in enumerate(account.lanes.items()):
            document, last, taken, counted, head, tail = lanes[6 * place : 6 * place + 6]
            if document is not None:
                lane_of(document, lane)
            queue = PartialQueue()
            # both directions count from 1; in the books all entries of an account have numbers of their own
            for seq, row in enumerate(head, taken + 1):
                entry = entry_of(2 * seq + place, account.account_id, direction, row)
                account.entries[entry.seq] = entry
                queue[entry.seq] = None
                if seq > counted:
                    count_in(lane, entry.kind, entry.amount)
            for row in tail:
                kind, _, amount, _ = decode(row)
                count_in(lane, EntryKind(kind), Decimal(amount))
            queue.more = taken + len(head) < last
            lane.queue = queue
            self._live += live_in(lane)
            if document is None or counted < last:
                self._uncounted = self._uncounted or counted < last
                document = lane_document(lane)
            self._lanes[direction] = (document, last, taken, len(head))

    @property
    def _account(self) -> AccountBooks | None:
        return self._books.accounts.get(self.keys.account_id)

    def take(self, commands: Sequence[c.Command[Any]]) -> bool:
        """Take commands to be carried out after an earlier change, without another look; tell whether that will do.

        It does for what only concerns an attempt that is known here: how much is queued is not.
        """
        self._commands = commands
        return all(
            isinstance(command, c.Note | c.Close | c.Hold)
            and command.attempt_id in self._stored
            and command.lease in {"", self._token}
            for command in commands
        )

    # deciding

    def carry_out(self) -> list[c.Result]:
        """Apply the commands, as many as can be applied to what was read; return their results.

        Raises `QueueTooShort` if more of a queue must be read first.
        """
        results: list[c.Result] = []
        for command in self._commands:
            if isinstance(command, c.Claim) and self._new_entries:
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
            self._new_entries.append(account.entries[number])
        return result

    def overview(self) -> list[AccountOverview]:
        """Return the account, if there is one."""
        overviews: list[AccountOverview] = self._books.apply([c.Overview(account_id=self.keys.account_id)])[0]
        return overviews

    def is_due(self) -> bool:
        """Tell whether the account's worker has anything to look at."""
        account = self._account
        queued = any(last > taken for _, last, taken, _ in self._lanes.values())
        return queued or (account is not None and is_busy(account))

    def live(self) -> set[str]:
        """Return the attempts the account knows to be open or released."""
        return set() if self._account is None else set(live_of(self._account))

    def attempt(self, attempt_id: str) -> StoredAttempt:
        """Return an attempt that was looked at."""
        return self._stored[attempt_id]

    def find(self, attempt_id: str) -> StoredAttempt | None:
        """Return an attempt that was looked for, None if there is none."""
        return self._stored.get(attempt_id)

    def forget(self, attempt: Forgettable, before: float) -> tuple[int, dict[str, Any]]:
        """Forget an attempt's entries as `Prune` does; return how many they are, and what is to be deleted."""
        self._load_taken(attempt)
        (forgotten,) = self._books.apply([c.Prune(before=before, limit=len(attempt.entries))])
        return forgotten, self._deleted(attempt)

    def retire(self, command: c.Retire, taken: Mapping[str, Forgettable]) -> tuple[tuple[str, ...], Retired]:
        """Have attempts leave the history; return those that are not in it any more, and what is to be written.

        `taken` is what those of them that still have entries took. Raises `LeaseLost`.
        """
        for attempt in taken.values():
            self._load_taken(attempt)
        for attempt_id in self._stored:
            self._books.order[command.account_id, attempt_id] = None
        gone = self._answer(command)
        if isinstance(gone, LeaseLost):
            raise gone
        account = self._account
        assert account is not None, "it was found"
        left = [attempt_id for attempt_id in gone if attempt_id in self._stored]
        deleted = [self._deleted(taken[attempt_id]) for attempt_id in left if attempt_id in taken]
        return gone, Retired(left, deleted, account.known)

    def _load_taken(self, attempt: Forgettable) -> None:
        """Put the entries that an attempt took into the books."""
        account = self._account
        assert account is not None, "attempts are an account's"
        account.claimed[attempt.attempt_id] = []
        for entry in attempt.entries:
            number = book_number(entry.seq, entry.direction)
            account.entries[number] = replace(entry, seq=number)
            account.claimed[attempt.attempt_id].append(number)
            if entry.kind is EntryKind.REQUEST:
                account.lanes[entry.direction].keys[entry.entry_id] = number
        self._books.order[account.account_id, attempt.attempt_id] = None

    def _deleted(self, attempt: Forgettable) -> dict[str, Any]:
        stored = self._stored[attempt.attempt_id]
        return {
            "attempt": attempt.attempt_id,
            "direction": DIRECTION_LETTERS[stored.attempt.direction],
            "first": str(stored.first),
            "last": str(stored.last),
            "keys": [text for pair in attempt.key_rows.items() for text in pair],
        }

    # changing

    def change(
        self,
        *,
        becomes: str,
        asker: str = "",
        channel: str,
        fold: bool = False,
        forgotten: Sequence[dict[str, Any]] = (),
        left: Sequence[str] = (),
        known: Sequence[tuple[str, str, str, str]] = (),
    ) -> Call | None:
        """Return the call that writes what the commands changed, None if nothing did.

        Args:
            becomes: the account's version from then on, unlike any other.
            asker: the lease token of the worker that asks, for which no ring is needed.
            channel: where rings are announced.
            fold: also write totals that only include entries added meanwhile.
            forgotten: what `forget` or `retire` said is to be deleted.
            left: ids of attempts that have left the history.
            known: settlement ids that stay known: key and number of the bucket, digest, mark of the amount of each.
        """
        account = self._account
        self._becomes = becomes
        # as text: 1 and true are equal, and yet not the same value
        notes = [
            [key, "" if now == "null" else now]
            for key in dict.fromkeys(self._note_keys)
            if (now := freeze(self._books.notes.get((self.keys.account_id, key)), key))
            != freeze(self._notes.get((self.keys.account_id, key)), key)
        ]
        changed = {} if account is None else self._changed_attempts(account)
        fields = [] if account is None else self._changed_fields(account, fold=fold)
        if not (notes or changed or fields or self._new_entries or forgotten or left or known):
            return None
        content = {
            "account": self.keys.account_id,
            "version": self._version,
            "becomes": becomes,
            "lease": self._token if self._under_lease else "",
            "asker": asker,
            "channel": channel,
            "fields": fields,
            "busy": "yes" if account is not None and is_busy(account) else "no",
            "opened": "yes" if account is not None and self._state is None else "no",
            "appended": [
                [DIRECTION_LETTERS[e.direction], entry_row(e.kind, e.entry_id, e.amount, e.entered_at)]
                for e in self._new_entries
            ],
            "attempts": [self._described(stored) for stored in changed.values()],
            "forgotten": list(forgotten),
            "left": list(left),
            "known": [row for _, *row in known],
            "notes": notes,
        }
        self._changed = changed
        partition = self.keys.partition
        keys = [*self.keys.changed, partition.numbers, partition.buckets, *(key for key, *_ in known)]
        return Call(script("change"), keys if known else self.keys.changed, [encode(content)], writes=True)

    def advance(self) -> None:
        """Become what the account is now that the change held, as far as `take` needs to know."""
        account = self._account
        self._version, self._under_lease = self._becomes, False
        self._note_keys, self._notes = [], dict(self._books.notes)
        if account is None:
            return
        self._state, self._steps = account.state.value, steps_of(account)
        self._pausing = pausing_text(account.pausing)
        self._stored |= self._changed
        live = self._live = live_of(account)
        self._stored = {attempt_id: stored for attempt_id, stored in self._stored.items() if attempt_id in live}
        account.attempts = {attempt_id: stored.attempt for attempt_id, stored in self._stored.items()}
        for direction, lane in account.lanes.items():
            _, last, _, _ = self._lane(direction)
            taken = self._taken(direction, lane)
            for entry in self._new_entries:
                if entry.direction is direction:
                    # Redis has it, but does not count it yet
                    lane.queued = subtract(lane.queued, entry.amount)
            lane.queue = queue = PartialQueue()
            queue.more = True
            self._lanes[direction] = (lane_document(lane), last, taken, 0)
        account.entries, account.claimed = {}, {}
        self._new_entries = []

    def _lane(self, direction: Direction) -> tuple[str, int, int, int]:
        return self._lanes.get(direction, ("", 0, 0, 0))

    def _taken(self, direction: Direction, lane: LaneBooks) -> int:
        """Return the number of the last entry that is not queued any more."""
        _, _, taken, read = self._lane(direction)
        new = sum(1 for entry in self._new_entries if entry.seq in lane.queue)
        return taken + max(0, read - (len(lane.queue) - new)) if read else taken

    def _changed_fields(self, account: AccountBooks, *, fold: bool) -> list[str]:
        """Return fields and values of the account that are to be set."""
        facts: list[str] = []
        if account.state.value != self._state:
            facts += ["state", account.state.value]
        if (steps := steps_of(account)) != self._steps:
            facts += ["steps", steps]
        pausing = pausing_text(account.pausing)
        if pausing is not None and pausing != self._pausing:
            facts += ["pausing", pausing]
        live = live_of(account)
        if live != self._live:
            facts += ["live", encode(live)]
        for direction, lane in account.lanes.items():
            document, last, _, _ = self._lane(direction)
            yet_to_count = total(entry.amount for entry in self._new_entries if entry.direction is direction)
            now = lane_document(lane, less_queued=yet_to_count)
            if now != document or (fold and self._uncounted):
                letter = DIRECTION_LETTERS[direction]
                facts += [f"lane.{letter}", now, f"taken.{letter}", str(self._taken(direction, lane))]
                facts += [f"counted.{letter}", str(last)]
        return facts

    def _changed_attempts(self, account: AccountBooks) -> dict[str, StoredAttempt]:
        changed: dict[str, StoredAttempt] = {}
        for attempt_id, attempt in account.attempts.items():
            stored = self._stored.get(attempt_id)
            if stored is None:
                took = account.claimed[attempt_id]
                changed[attempt_id] = StoredAttempt(attempt, took[0] // 2, took[-1] // 2)
            elif stored.attempt is not attempt and stored.attempt != attempt:
                changed[attempt_id] = StoredAttempt(attempt, stored.first, stored.last)
        return changed

    def _described(self, stored: StoredAttempt) -> dict[str, str]:
        attempt = stored.attempt
        return {
            "id": attempt.attempt_id,
            "row": attempt_row(stored),
            "direction": DIRECTION_LETTERS[attempt.direction],
            "last": str(stored.last),
            "new": "no" if attempt.attempt_id in self._stored else "yes",
            "unclosed": "no" if attempt.state is AttemptState.CLOSED else "yes",
            "prunable": prunable_from(attempt),
            "at": repr(attempt.claimed_at),
        }
