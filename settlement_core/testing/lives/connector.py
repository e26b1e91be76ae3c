"""A connector: it asks its engine to settle until it is answered, and credits each idempotency key once, if it can.

RFC 38 has it keep keys for a day after their last use. What it credits again because it forgot a key, by the rules or
against them, is its own fault: no engine that repeats unanswered credits for ever can avoid that. It is counted apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal

from settlement_core.testing.lives.diary import Diary

__all__ = ["Connector", "Request"]


@dataclass(slots=True)
class Request:
    """A settlement that the connector asks for under one key, until it is answered."""

    key: str
    account: str
    amount: Decimal
    answered: bool = False


@dataclass(slots=True)
class Connector:
    """The books of one side's connector; they outlive everything."""

    side: str
    now: Callable[[], float]
    diary: Diary
    forgetful_after_s: float
    requests: dict[str, Request] = field(default_factory=dict)
    credited: dict[str, tuple[str, Decimal]] = field(default_factory=dict)
    """What was credited under each key, the first time."""
    again: dict[str, int] = field(default_factory=dict)
    """How often each key was credited again after it had been forgotten."""
    conflicts: list[str] = field(default_factory=list)
    _known: dict[str, tuple[float, str, Decimal]] = field(default_factory=dict)

    def owe(self, account: str, amount: Decimal) -> Request:
        """Note a settlement to ask for, under a new key."""
        key = f"{self.side}-request-{len(self.requests) + 1}"
        request = self.requests[key] = Request(key, account, amount)
        return request

    def credit(self, account: str, amount: Decimal, key: str) -> int:
        """Credit unless the key is known; return the status of the answer."""
        self._known = {k: v for k, v in self._known.items() if v[0] + self.forgetful_after_s > self.now()}
        known = self._known.get(key)
        self._known[key] = (self.now(), account, amount)
        if known is not None:
            if known[1:] != (account, amount):
                self.conflicts.append(f"{key} was {known[1]} {known[2]:f}, and now is {account} {amount:f}")
                return 409
            return 200
        if key in self.credited:
            self.again[key] = self.again.get(key, 0) + 1
            self.diary.fault("credited again after the key was forgotten", f"{self.side}: connector forgot {key[:8]}")
            return 201
        self.credited[key] = (account, amount)
        self.diary.tell(f"{self.side}: connector credits {account} {amount:f} ({key[:8]})")
        return 201

    def forget(self) -> None:
        """Forget all keys."""
        self._known.clear()
