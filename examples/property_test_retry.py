"""How an engine's author property-tests retries: Hypothesis draws the trouble, a test clock makes weeks pass at once.

Needs `pip install settlement-core[testing]`; run it with `python examples/property_test_retry.py`, or with pytest.
"""

from decimal import Decimal
from itertools import pairwise
from random import Random

import trio.testing
from hypothesis import given, settings, strategies

from settlement_core import AccountServices, CreditOutcome, Unanswered, create_memory_store, open_core
from settlement_core.testing import MemoryConnector


class PaidEngine:
    """Put your engine here. This one is paid 7 by whoever gets an account."""

    def __init__(self, services: AccountServices) -> None:
        self.services = services

    async def setup_account(self, account_id: str) -> None:
        """See the payment on the ledger."""
        await self.services.credit_settlement(account_id, Decimal(7), "transaction 1")

    async def settle(self, account_id: str, amount: Decimal) -> Decimal:
        """Pay nobody: nothing is owed here."""
        return Decimal(0)


@settings(max_examples=25, deadline=None)
@given(away_s=strategies.floats(1, 30 * 24 * 3600), jitter=strategies.randoms(use_true_random=False))
def test_a_credit_is_offered_until_it_is_heard(away_s: float, jitter: Random) -> None:
    """Offers come later and later, with jitter, at most an hour apart, for ever, and always under the same key."""
    first_s, hour_s, offers = 0.5, 3600.0, list[tuple[float, str]]()

    class AwayConnector(MemoryConnector):
        async def credit(self, account_id: str, amount: Decimal, idempotency_key: str) -> CreditOutcome:
            offers.append((trio.current_time(), idempotency_key))
            is_away = trio.current_time() < away_s
            return Unanswered("away") if is_away else await super().credit(account_id, amount, idempotency_key)

    async def be_paid_while_the_connector_is_away() -> None:
        connector, store = AwayConnector(), create_memory_store()
        async with open_core(PaidEngine, store=store, connector=connector, chance=jitter.random) as core:
            await core.create_account("alice")
            await trio.sleep(away_s + hour_s)
            assert connector.credited == {"alice": 7}, "credited once, and within an hour of the connector's return"

    trio.run(be_paid_while_the_connector_is_away, clock=trio.testing.MockClock(autojump_threshold=0))
    assert len({key for _, key in offers}) == 1, "however often it is offered, it is the same credit"
    for failures, ((before, _), (after, _)) in enumerate(pairwise(offers)):
        longest_s = min(first_s * 2**failures, hour_s)
        assert longest_s * 0.49 <= after - before <= longest_s, "delays grow, within the bounds of their jitter"


if __name__ == "__main__":
    test_a_credit_is_offered_until_it_is_heard()
