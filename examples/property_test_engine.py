"""Have your engine cancelled, crashed and not heard at every step of a payment, before your customers' machines do it.

Needs nothing. Run it with

    python examples/property_test_engine.py

and you will see one engine keep every promise, and another, which makes a new transaction whenever it is asked to
submit, be found to pay twice. Copy it, put your engine in the place of `BankEngine` and your ledger behind the
buttons: a node on your own machine, a sandbox, or the fake your other tests use.
"""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

import anyio

from settlement_core import AccountServices, Payment, Pending, Rejected, Settled, Verdict
from settlement_core.testing import check_engine, virtual_backend

numbers = itertools.count(1)


class Bank:
    """A ledger, and the buttons of the check: `connect` and `paid` are needed, the others are as many as you have."""

    def __init__(self, engine: type["BankEngine"]) -> None:
        self.engine = engine
        self.transfers: dict[str, tuple[str, Decimal]] = {}  # those on their way
        self.final: dict[str, tuple[str, Decimal] | None] = {}  # those that ended, None for a refusal
        self.losing = self.refusing = ""

    def transfer(self, transfer_id: str, account_id: str, amount: Decimal) -> None:
        """Take a transfer; an id that was here before changes nothing."""
        losing, self.losing = self.losing, ""
        if transfer_id not in self.final and losing != "request":
            self.transfers[transfer_id] = (account_id, amount)
        if losing:
            raise TimeoutError("the bank did not answer")

    def connect(self, services: AccountServices) -> "BankEngine":
        """Make the engine under test."""
        return self.engine(self)

    async def paid(self, account_id: str) -> Decimal:
        """Return what was moved for good."""
        return sum((done[1] for done in self.final.values() if done and done[0] == account_id), Decimal(0))

    async def make_final(self) -> None:
        """Close the bank's day."""
        for transfer_id, transfer in self.transfers.items():
            self.final[transfer_id] = None if self.refusing else transfer
            self.refusing = ""
        self.transfers.clear()

    async def lose_next_request(self) -> None:
        """Break the line on the way there."""
        self.losing = "request"

    async def lose_next_reply(self) -> None:
        """Break the line on the way back."""
        self.losing = "reply"

    async def reject_next(self) -> None:
        """Refuse a transfer at the end of the day."""
        self.refusing = "the next"

    async def reorganise(self) -> None:
        """Forget the transfers of the day."""
        self.transfers.clear()


class BankEngine:
    """Pays by a transfer whose id is the attempt's."""

    asset_scale = 2

    def __init__(self, bank: Bank) -> None:
        self.bank = bank

    async def prepare(self, account_id: str, amount: Decimal, attempt_id: str) -> Payment:
        """Decide, without effect."""
        return Payment(amount, {"id": attempt_id, "to": account_id})

    async def submit(self, payment: Payment) -> None:
        """Hand the transfer in."""
        await anyio.sleep(0.1)  # the way there …
        self.bank.transfer(self.transfer_id(payment), payment.reference["to"], payment.amount)  # type: ignore[index]
        await anyio.sleep(0.1)  # … and back

    async def verify(self, payment: Payment) -> Verdict:
        """Ask what became of it."""
        await anyio.sleep(0.1)
        transfer_id = self.transfer_id(payment)
        if transfer_id in self.bank.final:
            return (
                Settled(payment.amount) if self.bank.final[transfer_id] else Rejected("refused at the end of the day")
            )
        return Pending(retry_after_s=1, resubmit=transfer_id not in self.bank.transfers)

    def transfer_id(self, payment: Payment) -> str:
        """Return what the bank knows the payment by."""
        return str(payment.reference["id"])  # type: ignore[index]


class ForgetfulEngine(BankEngine):
    """The same, but for one planted fault: every submission is a new transfer, and only the newest is remembered."""

    def __init__(self, bank: Bank) -> None:
        super().__init__(bank)
        self.newest: dict[str, int] = {}

    async def submit(self, payment: Payment) -> None:
        """Hand a new transfer in."""
        self.newest[super().transfer_id(payment)] = next(numbers)
        await super().submit(payment)

    def transfer_id(self, payment: Payment) -> str:
        """Return what the bank knows the newest transfer by."""
        transfer_id = super().transfer_id(payment)
        return f"{transfer_id}, number {self.newest.get(transfer_id)}"


async def check(engine: type[BankEngine]) -> None:
    """Check one engine."""

    @asynccontextmanager
    async def open_bank() -> AsyncIterator[Bank]:
        yield Bank(engine)

    print(f"{engine.__name__}: {await check_engine(open_bank)}\n")


if __name__ == "__main__":
    for tested in (BankEngine, ForgetfulEngine):
        backend, options = virtual_backend("trio")  # or on asyncio; or without options, in real time
        try:
            anyio.run(check, tested, backend=backend, backend_options=options)
        except AssertionError as problem:
            print(f"{tested.__name__}: {problem}")
