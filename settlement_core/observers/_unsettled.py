"""Which requests an attempt settles, as far as events tell: money goes in order, the oldest request first.

No event names the requests of an attempt. They are matched by amounts, in order, which is how stores claim them. Where
money from before this run, dust or what was left over is in the queue as well, a request may be counted with an
attempt before or after its own. Only for figures and traces: nothing is decided by it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Generic, TypeVar

from settlement_core.values.amounts import ZERO, add, subtract

__all__ = ["Unsettled"]

T = TypeVar("T")

MAX_REQUESTS = 20_000
"""Requests followed at a time; beyond, new ones are not: a ledger that is down for a day must not fill our memory."""


@dataclass(slots=True)
class _Request(Generic[T]):
    left: Decimal
    kept: T


@dataclass(slots=True)
class _Account(Generic[T]):
    waiting: deque[_Request[T]] = field(default_factory=deque)
    taken: deque[_Request[T]] = field(default_factory=deque)

    def put_back(self) -> None:
        self.waiting.extendleft(reversed(self.taken))
        self.taken.clear()


class Unsettled(Generic[T]):
    """Requests of which something is still to be settled; of each, the observer keeps a `T`."""

    def __init__(self, max_requests: int = MAX_REQUESTS) -> None:
        self._max_requests = max_requests
        self._accounts: dict[str, _Account[T]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def full(self) -> bool:
        """Tell whether another request would not be followed."""
        return self._count >= self._max_requests

    def request(self, account_id: str, amount: Decimal, kept: T) -> None:
        """Follow a request, unless there are too many."""
        if not self.full:
            self._accounts.setdefault(account_id, _Account()).waiting.append(_Request(amount, kept))
            self._count += 1

    def claim(self, account_id: str, amount: Decimal) -> list[T]:
        """Return what is kept of the requests that a fresh attempt of `amount` settles."""
        account = self._accounts.get(account_id)
        if account is None:
            return []
        # an attempt that was given back without a word
        account.put_back()
        sum_before = ZERO
        while account.waiting and sum_before < amount:
            request = account.waiting.popleft()
            sum_before = add(sum_before, request.left)
            account.taken.append(request)
        return [request.kept for request in account.taken]

    def close(self, account_id: str, *, settled: Decimal, whole: bool) -> list[T]:
        """Return what is kept of the requests that are settled now; the others wait for the next attempt.

        If the attempt was settled as a whole, so are its requests: what is finer than the ledger can settle is not
        waited for.
        """
        account = self._accounts.get(account_id)
        if account is None:
            return []
        done: list[T] = []
        while account.taken and (whole or account.taken[0].left <= settled):
            request = account.taken.popleft()
            settled = subtract(settled, request.left)
            done.append(request.kept)
        if account.taken:
            account.taken[0].left = subtract(account.taken[0].left, settled)
        account.put_back()
        self._forget(account_id, account, len(done))
        return done

    def drop(self, account_id: str, *, waiting: bool) -> list[T]:
        """Follow the requests of the open attempt no more, nor those `waiting` if so told; return what is kept."""
        account = self._accounts.get(account_id)
        if account is None:
            return []
        dropped = [request.kept for request in account.taken]
        account.taken.clear()
        if waiting:
            dropped += [request.kept for request in account.waiting]
            account.waiting.clear()
        self._forget(account_id, account, len(dropped))
        return dropped

    def drop_all(self) -> list[T]:
        """Follow nothing more; return what is kept."""
        return [kept for account_id in list(self._accounts) for kept in self.drop(account_id, waiting=True)]

    def _forget(self, account_id: str, account: _Account[T], requests: int) -> None:
        self._count -= requests
        if not account.waiting and not account.taken:
            del self._accounts[account_id]
