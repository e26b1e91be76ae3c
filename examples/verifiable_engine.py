"""An engine that never leaves a payment in doubt, over the simplest ledger there is: a folder of files.

Needs nothing. Run it with

    settlement-core serve examples/verifiable_engine.py

then ask for a settlement, kill the server with `kill -9` whenever you like, and start it again: every payment is a
file in `ledger/`, each exactly once. Copy this and put your ledger's calls in the three places.
"""

import json
import os
from decimal import Decimal

import anyio

from settlement_core import AccountServices, Payment, Pending, Rejected, Settled, Verdict

LEDGER = anyio.Path(os.environ.get("EXAMPLE_LEDGER", "ledger"))


class FolderEngine:
    """Pays by writing a file whose name is the payment's id, so the same payment can only be there once."""

    asset_scale = 2  # this ledger knows cents; finer dust waits in the core until it adds up

    async def prepare(self, account_id: str, amount: Decimal, attempt_id: str) -> Payment:
        """Decide on the payment, without effect. The core keeps it durably before it calls `submit`."""
        return Payment(amount, {"id": attempt_id, "to": account_id, "amount": f"{amount:f}"})

    async def submit(self, payment: Payment) -> None:
        """Hand the payment to the ledger; called again with the identical payment, it must pay once."""
        await LEDGER.mkdir(exist_ok=True)
        unfinished = _file(payment).with_suffix(".tmp")
        await unfinished.write_text(json.dumps(payment.reference))
        await unfinished.replace(_file(payment))

    async def verify(self, payment: Payment) -> Verdict:
        """Ask the ledger what became of the payment; the core asks this first after any crash."""
        if not await _file(payment).exists():
            return Pending(retry_after_s=1, resubmit=True)
        if json.loads(await _file(payment).read_text()) != payment.reference:
            return Rejected("another payment has this id")
        return Settled(payment.amount)


def _file(payment: Payment) -> anyio.Path:
    assert isinstance(payment.reference, dict)
    return LEDGER / f"{payment.reference['id']}.json"


async def connect_engine(services: AccountServices) -> FolderEngine:
    """Make the engine; see simulated_engine in this package for one that also credits what peers pay us."""
    return FolderEngine()
