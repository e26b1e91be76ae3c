"""The feed: everybody can follow from where they stopped, and whoever cannot is told so; it never grows."""

from __future__ import annotations

import json

import anyio
import anyio.lowlevel
import pytest

from settlement_core.observers.feed import EventFeed
from settlement_core.values.events import SettlementInDoubt, SettlementRequested
from tests.core.worlds import D
from tests.observers.listening import sample

pytestmark = pytest.mark.anyio


def requested(amount: int) -> SettlementRequested:
    """Return an event."""
    return SettlementRequested(account_id="alice", key="k", amount=D(amount))


def amounts(found: list[tuple[int, str, bytes]] | None) -> list[str]:
    """Return the amounts of some events."""
    assert found is not None
    return [json.loads(content)["amount"] for _, _, content in found]


async def test_each_event_is_kept_with_what_the_log_says_of_it() -> None:
    """Its time, level, text, type and facts, in one line, whatever a stranger wrote into a reason."""
    feed = EventFeed(now=lambda: 1234.5678)
    reason = "</script>\n\ndata: {}\u2028\x00é"
    feed.observe(SettlementInDoubt(account_id="alice", attempt_id="a", amount=D("1.50"), reason=reason))
    ((number, kind, content),) = feed.after(0, 10) or []
    assert (number, kind) == (1, "SettlementInDoubt")
    assert content.isascii()
    assert b"\n" not in content
    told = json.loads(content)
    assert (told["time"], told["level"], told["event"]) == (1234.568, "error", "SettlementInDoubt")
    assert (told["account_id"], told["amount"], told["reason"]) == ("alice", "1.50", reason)
    assert told["text"].startswith("account alice attempt a: 1.50 is in doubt: </script>")


async def test_a_listener_goes_on_where_it_stopped() -> None:
    """Pages, laid end to end, are all of it, in order; an id of this run leads to its place, others nowhere."""
    feed, other = EventFeed(), EventFeed()
    for amount in range(10):
        feed.observe(requested(amount))
        other.observe(requested(amount))
    first = feed.after(0, 4)
    assert first is not None
    assert amounts(first) == ["0", "1", "2", "3"]
    assert amounts(feed.after(first[-1][0], 100)) == ["4", "5", "6", "7", "8", "9"]
    assert feed.after(10, 100) == []
    assert feed.number(feed.name(7)) == 7
    arabic = feed.name(7)[:-1] + "\u0667"
    for name in (other.name(7), "", "7", "-7", feed.name(7) + "x", arabic, "x" * 10_000):
        assert feed.number(name) is None
    assert feed.after(11, 100) is None, "a place that was never reached is nobody's"


async def test_who_is_too_slow_is_told_and_nothing_grows() -> None:
    """Of a hundred thousand events the last fifty are kept; who comes back for earlier ones gets none of them."""
    feed = EventFeed(max_kept=50)
    for amount in range(100_000):
        feed.observe(requested(amount))
    assert feed.after(0, 100) is None
    assert feed.after(99_949, 100) is None
    assert amounts(feed.after(99_950, 1)) == ["99950"]
    assert len(amounts(feed.after(99_950, 100))) == 50
    assert repr(feed) == "<EventFeed 50 of 100000 events kept>"


async def test_all_who_wait_are_woken_by_an_event_and_by_the_end() -> None:
    """At once; and who waits for what is there already does not wait."""
    feed = EventFeed()
    woken: list[str] = []

    async def wait(name: str, number: int) -> None:
        await feed.wait(number)
        woken.append(name)

    async with anyio.create_task_group() as tasks:
        for name, number in (("a", 0), ("b", 0), ("c", 1)):
            tasks.start_soon(wait, name, number)
        await anyio.sleep(1)
        assert woken == []
        feed.observe(sample(SettlementRequested))
        await anyio.sleep(1)
        assert sorted(woken) == ["a", "b"]
        await wait("late", 0)
        feed.close()
        await anyio.lowlevel.checkpoint()
    assert sorted(woken) == ["a", "b", "c", "late"]
    await feed.wait(5)
