"""Watches every effect as it is handed over, and says at once what must never happen; see `judgement` for the rest.

An engine that is to be led runs only where it leads. Nothing is handed over by a worker that does not hold the
account's lease, nor for an attempt that is not durable. A payment is submitted once by who prepared it, and otherwise
only after the ledger said that this is needed. A credit keeps its key and amount for ever.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal

from settlement_core.testing.lives.diary import Diary
from settlement_core.testing.lives.stores import SharedBooks
from settlement_core.values.commands import History
from settlement_core.values.records import Attempt, AttemptState, Direction, Payment

__all__ = ["Witness"]

_OPEN = frozenset({AttemptState.OPEN})


@dataclass(slots=True)
class Witness:
    """What was seen of one side."""

    side: str
    books: SharedBooks
    diary: Diary
    violations: list[str]
    offers: dict[str, tuple[str, Decimal]] = field(default_factory=dict)
    """Credits ever offered, by key."""
    payments: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Ledger transactions of each attempt, in the order in which they were made."""
    expiries: dict[str, float] = field(default_factory=dict)
    """When each transaction can no longer apply."""
    paying: set[str] = field(default_factory=set)
    """Attempts that a minimal engine is paying right now."""
    _submitted: set[str] = field(default_factory=set)
    _prepared_by: dict[str, str] = field(default_factory=dict)
    _cleared: set[tuple[str, str]] = field(default_factory=set)

    def blame(self, sentence: str) -> None:
        """Note what must never happen."""
        self.diary.tell(f"VIOLATION {sentence}")
        self.violations.append(sentence)

    def leads(self, worker: str) -> None:
        """An engine that may run in one worker at a time begins."""
        self.diary.tell(f"{worker}: leads")
        if not self.books.is_held("", worker):
            self.blame(f"{worker} runs an engine that it does not lead")

    def settles(self, worker: str, account: str, amount: Decimal) -> str:
        """A minimal engine is asked to pay; return the attempt that this is for."""
        self.diary.tell(f"{worker}: settles {account} {amount:f}")
        attempt = self._open(account, Direction.OUTGOING)
        if attempt is None or attempt.amount != amount:
            self.blame(f"{worker} settles {amount:f} for {account}, while the open attempt is {attempt}")
            return "none"
        if attempt.attempt_id in self.payments or attempt.attempt_id in self.paying:
            self.blame(f"{worker} settles attempt {attempt.attempt_id} again")
        self._hands_over(worker, account, f"settles {amount:f}")
        return attempt.attempt_id

    def prepared(self, worker: str, attempt_id: str, tx_id: str, expires_at: float) -> None:
        """A transaction was made; nothing is sent yet."""
        self.payments[attempt_id].append(tx_id)
        self.expiries[tx_id] = expires_at
        self._prepared_by[tx_id] = worker

    def submits(self, worker: str, account: str, attempt_id: str, payment: Payment) -> None:
        """A verifiable engine is asked to submit."""
        tx_id = self._tx_of(payment)
        self.diary.tell(f"{worker}: submits {tx_id} for {account} {payment.amount:f}")
        attempt = self._open(account, Direction.OUTGOING)
        if attempt is None or attempt.attempt_id != attempt_id or attempt.payment != payment:
            self.blame(f"{worker} submits {tx_id}, which is not durable: the open attempt is {attempt}")
        if (worker, tx_id) in self._cleared:
            self._cleared.discard((worker, tx_id))
        elif tx_id in self._submitted or self._prepared_by[tx_id] != worker:
            self.blame(f"{worker} submits {tx_id} again, without having asked the ledger what became of it")
        self._submitted.add(tx_id)
        self._hands_over(worker, account, f"submits {tx_id}")

    def may_submit(self, worker: str, payment: Payment) -> None:
        """The ledger has told this worker that the payment is to be submitted again."""
        self._cleared.add((worker, self._tx_of(payment)))

    def offer(self, worker: str, account: str, amount: Decimal, key: str) -> None:
        """A credit is offered to the connector."""
        self.diary.tell(f"{worker}: offers {account} {amount:f} ({key[:8]})")
        first = self.offers.setdefault(key, (account, amount))
        if first != (account, amount):
            self.blame(f"credit {key} of {first} is offered as {account} {amount:f}")
        attempt = self._open(account, Direction.INCOMING)
        if attempt is None or (attempt.attempt_id, attempt.amount) != (key, amount):
            self.blame(f"{worker} offers {account} {amount:f} under {key}, while the open attempt is {attempt}")
        self._hands_over(worker, account, f"offers {key}")

    def _hands_over(self, worker: str, account: str, what: str) -> None:
        if not self.books.is_held(account, worker):
            self.blame(f"{worker} {what} for {account}, on which it holds no lease any more")

    def _open(self, account: str, direction: Direction) -> Attempt | None:
        found: list[Attempt] = self.books.ask(History(account_id=account, states=_OPEN))
        return next((attempt for attempt in found if attempt.direction is direction), None)

    @staticmethod
    def _tx_of(payment: Payment) -> str:
        assert isinstance(payment.reference, dict)
        return str(payment.reference["tx"])
