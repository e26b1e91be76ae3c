"""Requests are matched with attempts by amounts, in order."""

from __future__ import annotations

from decimal import Decimal

from settlement_core.observers._unsettled import Unsettled

D = Decimal


def following(*amounts: str, most: int = 100) -> Unsettled[str]:
    """Follow requests of one account; what is kept of each is its amount."""
    unsettled: Unsettled[str] = Unsettled(most)
    for amount in amounts:
        unsettled.request("alice", D(amount), amount)
    return unsettled


def test_an_attempt_settles_the_requests_that_came_before_it() -> None:
    """A request that was told of before the claim, but came after it, is not taken for settled with it."""
    unsettled = following("1", "2", "4")
    assert unsettled.claim("alice", D(3)) == ["1", "2"]
    assert unsettled.close("alice", settled=D(3), whole=True) == ["1", "2"]
    assert unsettled.claim("alice", D(4)) == ["4"]
    assert unsettled.close("alice", settled=D(4), whole=True) == ["4"]
    assert len(unsettled) == 0


def test_what_was_settled_in_part_is_settled_from_the_oldest_request_on() -> None:
    """5 of 1 + 2 + 4 settle the first two and half of the third, which is done once the rest moved."""
    unsettled = following("1", "2", "4")
    assert unsettled.claim("alice", D(7)) == ["1", "2", "4"]
    assert unsettled.close("alice", settled=D(5), whole=False) == ["1", "2"]
    assert unsettled.claim("alice", D(2)) == ["4"]
    assert unsettled.close("alice", settled=D(1), whole=False) == []
    assert unsettled.claim("alice", D(1)) == ["4"]
    assert unsettled.close("alice", settled=D(1), whole=True) == ["4"]


def test_nothing_settled_leaves_every_request_waiting_in_its_place() -> None:
    """Before those that came meanwhile."""
    unsettled = following("1", "2")
    assert unsettled.claim("alice", D(3)) == ["1", "2"]
    unsettled.request("alice", D(4), "4")
    assert unsettled.close("alice", settled=D(0), whole=False) == []
    assert unsettled.drop("alice", waiting=False) == [], "none of them is in an attempt now"
    assert unsettled.claim("alice", D(7)) == ["1", "2", "4"]


def test_an_attempt_given_back_without_a_word_gives_its_requests_back() -> None:
    """The next claim takes them again."""
    unsettled = following("1", "2")
    assert unsettled.claim("alice", D(1)) == ["1"]
    assert unsettled.claim("alice", D(3)) == ["1", "2"]


def test_dust_is_not_waited_for() -> None:
    """1.005 is settled when an attempt of 1.00, the finest the ledger can do, was settled as a whole."""
    unsettled = following("1.005")
    assert unsettled.claim("alice", D("1.00")) == ["1.005"]
    assert unsettled.close("alice", settled=D("1.00"), whole=True) == ["1.005"]


def test_a_request_in_doubt_is_followed_no_more_and_the_next_ones_are() -> None:
    """Money in doubt is out of the way."""
    unsettled = following("1", "2")
    unsettled.claim("alice", D(1))
    assert unsettled.drop("alice", waiting=False) == ["1"]
    assert unsettled.claim("alice", D(2)) == ["2"]
    assert unsettled.drop("alice", waiting=True) == ["2"]
    assert len(unsettled) == 0


def test_no_more_requests_are_followed_than_memory_has_room_for() -> None:
    """The oldest ones are, since the longest wait is what matters; and there is room again afterwards."""
    unsettled = following("1", "2", "3", most=2)
    assert unsettled.claim("alice", D(6)) == ["1", "2"]
    assert (len(unsettled), unsettled.full) == (2, True)
    unsettled.close("alice", settled=D(6), whole=True)
    assert (len(unsettled), unsettled.full) == (0, False)
    unsettled.request("bob", D(1), "b")
    assert unsettled.drop_all() == ["b"]
    assert len(unsettled) == 0


def test_accounts_nobody_asked_for_are_no_trouble() -> None:
    """Attempts from before this run have no requests here."""
    unsettled = following()
    assert unsettled.claim("bob", D(1)) == []
    assert unsettled.close("bob", settled=D(1), whole=True) == []
    assert unsettled.drop("bob", waiting=True) == []
