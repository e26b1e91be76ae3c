"""Delays grow, carry chance, and never keep two tries more than an hour apart (RFC 38, "Retry behavior")."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from settlement_core.values.backoff import CREDIT_BACKOFF, SETTLE_BACKOFF, STORE_BACKOFF, Backoff

policies = st.builds(
    lambda first_s, more, factor, jitter: Backoff(
        first_s=first_s, max_s=min(first_s + more, 3600.0), factor=factor, jitter=jitter
    ),
    st.floats(0.001, 3600.0),
    st.floats(0.0, 3600.0),
    st.floats(1.0, 10.0),
    st.floats(0.0, 0.99),
)
chances = st.floats(0.0, 1.0, exclude_max=True)


@given(policies, st.integers(1, 10**9), chances)
def test_a_delay_keeps_within_its_bounds(policy: Backoff, failures: int, chance: float) -> None:
    """Above nothing, and at most the maximum, which is at most an hour."""
    assert 0 < policy.delay_s(failures, chance) <= policy.max_s <= 3600


@given(policies, st.integers(1, 200), chances)
def test_delays_never_shrink_as_failures_go_on(policy: Backoff, failures: int, chance: float) -> None:
    """With the same luck the next delay is at least as long."""
    assert policy.delay_s(failures, chance) <= policy.delay_s(failures + 1, chance)


@given(policies, st.integers(1, 200), chances)
def test_chance_only_shortens_and_by_no_more_than_its_part(policy: Backoff, failures: int, chance: float) -> None:
    """Jitter spreads tries that would come together."""
    longest = policy.delay_s(failures, 0.0)
    assert longest * (1 - policy.jitter) <= policy.delay_s(failures, chance) <= longest


def test_delays_double_until_the_maximum() -> None:
    """The plain case, in numbers."""
    policy = Backoff(first_s=0.5, max_s=10.0)
    assert [policy.delay_s(n, 0.0) for n in range(1, 8)] == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert policy.delay_s(3, 0.5) == 1.5


def test_the_policies_in_use_try_at_least_hourly_and_soon_at_first() -> None:
    """A request that takes a minute still leaves two starts no more than an hour apart."""
    assert CREDIT_BACKOFF.delay_s(10**6, 0.0) + 60 == 3600
    assert SETTLE_BACKOFF.delay_s(10**6, 0.0) + 60 == 3600
    assert CREDIT_BACKOFF.delay_s(1, 0.0) == 0.5
    assert STORE_BACKOFF.delay_s(10**6, 0.0) == 5.0


@pytest.mark.parametrize(
    ("first_s", "max_s"), [(0.0, 1.0), (-1.0, 1.0), (2.0, 1.0), (1.0, 3601.0), (float("nan"), 1.0)]
)
def test_a_policy_out_of_bounds_is_refused(first_s: float, max_s: float) -> None:
    """Nobody configures a delay of more than an hour, or none."""
    with pytest.raises(ValueError, match="back-off needs 0 < first_s <= max_s <= 3600"):
        Backoff(first_s=first_s, max_s=max_s)


@pytest.mark.parametrize(("factor", "jitter"), [(0.5, 0.5), (2.0, 1.0), (2.0, -0.1)])
def test_a_policy_that_shrinks_or_waits_for_nothing_is_refused(factor: float, jitter: float) -> None:
    """Jitter may not take the whole delay away."""
    with pytest.raises(ValueError, match="back-off needs factor >= 1 and 0 <= jitter < 1"):
        Backoff(first_s=1.0, max_s=1.0, factor=factor, jitter=jitter)
