"""Around a core within a program of one's own, without HTTP: who asks, who pays, and who is credited."""

from __future__ import annotations

import gc
import os
import secrets
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path

import anyio

from benchmarks.filling import SCATTER
from settlement_core import Acknowledged, CreditOutcome
from settlement_core.abc import Store
from settlement_core.values.commands import OpenAccount

__all__ = ["ONE", "Clients", "TakingConnector", "account_name", "open_accounts", "resident"]

ONE = Decimal(1)
"""What every request asks for."""

CLIENTS = 64

BATCH = 500

PATIENCE_S = 60.0


def account_name(number: int) -> str:
    """Return the id of an account."""
    return f"account-{number:07}"


def open_accounts(store: Store, count: int) -> None:
    """Open that many accounts."""
    for first in range(0, count, BATCH):
        names = map(account_name, range(first, min(first + BATCH, count)))
        store.apply([OpenAccount(account_id=name, at=0.0) for name in names])


def resident() -> int:
    """Return the bytes of memory this process holds."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


class TakingConnector:
    """Takes every credit."""

    async def credit(self, account_id: str, amount: Decimal, idempotency_key: str) -> CreditOutcome:
        """Take it."""
        return Acknowledged()

    async def send_message(self, account_id: str, message: bytes) -> bytes:
        """Answer nothing."""
        return b"null"


class Clients:
    """64 clients who ask in a closed loop, of one account after the other; and the engine that pays them at once."""

    def __init__(self, accounts: int) -> None:
        self._names = [account_name(number) for number in range(accounts)]
        self._asked: defaultdict[str, deque[float]] = defaultdict(deque)
        # keys anywhere, and elsewhere than those of an earlier run on the same store
        self._number = secrets.randbelow(2**31)
        self._run = uuid.uuid4().hex
        """Others may have asked on the same store."""
        self.accepted = 0
        self.settled = 0
        self.took_s: list[float] = []
        """From a request until the engine had paid it."""

    async def ask(self, request: Callable[[str, Decimal, str], Awaitable[Decimal]], *, seconds: float) -> None:
        """Ask for `seconds`, and once at least, however late the machine begins."""
        deadline = time.perf_counter() + seconds

        async def ask_again() -> None:
            while True:
                self._number += 1
                name = self._names[self._number % len(self._names)]
                self._asked[name].append(time.perf_counter())
                await request(name, ONE, self._key(self._number))
                self.accepted += 1
                if time.perf_counter() >= deadline:
                    break

        async with anyio.create_task_group() as tasks:
            for _ in range(CLIENTS):
                tasks.start_soon(ask_again)

    async def settle(self, account_id: str, amount: Decimal) -> Decimal:
        """Pay; every unit is one request, the oldest first."""
        asked, now = self._asked[account_id], time.perf_counter()
        for _ in range(int(amount)):
            self.took_s.append(now - asked.popleft())
        self.settled += int(amount)
        return amount

    async def wait_settled(self, active: Callable[[], int]) -> None:
        """Wait until everything accepted is settled, and no account is at work any more."""
        with anyio.fail_after(PATIENCE_S):
            while self.settled < self.accepted or active():
                await anyio.sleep(0.002)

    def _key(self, number: int) -> str:
        # far from the one before, as random keys are, so that a store has to look in another place for each
        return f"{number * SCATTER % 2**32:08x}-{number}-{self._run}"
