"""Two tours for `check_store` through every turn that a command can take, so that none is left to chance."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from settlement_core.testing._store_scripts import ACCOUNTS, HOUR, KEYS, Step
from settlement_core.values import commands as c
from settlement_core.values.records import Direction, Payment
from settlement_core.values.records import Step as AccountStep

__all__ = ["tours"]


def tours() -> list[list[Step]]:
    """Return scripts that visit every turn a command can take, so that none is left to chance."""
    alice = ACCOUNTS[0]
    o, i = Direction.OUTGOING, Direction.INCOMING
    told: dict[str, Any] = {"reason": "seen", "by": "carol"}

    def enter(entry_id: str, amount: str, direction: Direction = o, hours: int = 0) -> c.Enqueue:
        at = HOUR + hours * 3600.0
        return c.Enqueue(account_id=alice, direction=direction, entry_id=entry_id, amount=Decimal(amount), at=at)

    def claim(attempt_id: str, direction: Direction = o, **bounds: Any) -> c.Claim:
        return c.Claim(account_id=alice, direction=direction, attempt_id=attempt_id, at=HOUR, **bounds)

    def close(attempt_id: str, settled: str) -> c.Close:
        why = f"{settled} moved"
        return c.Close(account_id=alice, attempt_id=attempt_id, settled=Decimal(settled), at=HOUR, reason=why)

    def note(attempt_id: str, amount: str) -> c.Note:
        return c.Note(account_id=alice, attempt_id=attempt_id, payment=Payment(Decimal(amount), {"hash": "0x1"}))

    def hold(attempt_id: str) -> c.Hold:
        return c.Hold(account_id=alice, attempt_id=attempt_id, reason="lost")

    def release(attempt_id: str) -> c.Release:
        return c.Release(account_id=alice, attempt_id=attempt_id, **told)

    def resolve(attempt_id: str, settled: str) -> c.Resolve:
        return c.Resolve(account_id=alice, attempt_id=attempt_id, settled=Decimal(settled), at=HOUR, **told)

    tour: list[c.Command[Any]] = [
        # an account's life: set-up first, tear-down last
        c.OpenAccount(account_id=alice, at=HOUR, set_up=True),
        *(claim("a"), enter("1", "1.50"), enter("1", "1.5", hours=1), enter("1", "2"), claim("a")),
        *(c.Due(), c.Overview(), *(c.FinishStep(account_id=alice, step=step) for step in AccountStep)),
        # leftovers, dust and caps; one attempt at a time; a key used after it was claimed
        *(claim("a"), claim("b"), enter("2", "0.75"), enter("1", "1.50", hours=2), note("a", "1.5"), note("a", "1")),
        *(close("a", "2"), close("a", "1"), close("a", "1"), close("a", "1.1"), claim("a")),
        *(claim("b", scale=0, cap=Decimal(5)), close("b", "1"), claim("c", scale=0), claim("c", max_entries=1)),
        # in doubt
        *(hold("c"), hold("c"), enter("3", "7"), claim("d"), resolve("c", "9"), resolve("c", "0.1"), resolve("c", "0")),
        # forgetting, with a key used later than its attempt was closed
        *(close("d", "7"), enter("3", "7", hours=5), c.Prune(before=HOUR + 3 * 3600.0, limit=10_000)),
        *(enter("1", "9"), enter("3", "7")),
        # held: nothing new is claimed until a decision; released, held again, resolved while released
        *(enter("x", "3", i), claim("x", i), hold("x"), enter("y", "3", i), claim("y", i), c.Due(), claim("y", i)),
        *(release("x"), release("x"), claim("y", i), claim("y", i), hold("x"), release("x"), resolve("x", "2")),
        *(claim("y", i, max_integer=9), close("y", "3"), enter("z", "0.123", i), claim("z", i, max_integer=20)),
        *(hold("z"), claim("v", i), resolve("z", "0"), claim("v", i), note("v", "1")),
        *_unattributed(alice),
        # a tombstone drains, takes what comes in, answers replays, and is torn down when nothing more can go out
        c.CloseAccount(account_id=alice, at=HOUR, tear_down=True),
        *(enter("4", "1"), enter("3", "7"), enter("u", "1", i), claim("e"), close("e", "0"), claim("f")),
        *(close("f", "9.15"), claim("g"), c.OpenAccount(account_id=alice, at=HOUR, set_up=True), claim("g")),
        *(c.CloseAccount(account_id=alice, at=HOUR, tear_down=True), claim("g"), claim("h")),
        *(c.FinishStep(account_id=alice, step=step) for step in AccountStep),
        *(
            claim("h"),
            c.Due(),
            c.Overview(),
            c.Entries(account_id=alice, direction=o),
            c.History(),
            *_notes(alice),
            c.Suspense(assigned=True),
        ),
    ]
    tour += _paused()
    tour += _retired(alice)
    return [[Step((command,), reopen=True) for command in tour], [Step(tuple(tour), whole_again=True, fail_after=150)]]


def _unattributed(alice: str) -> list[c.Command[Any]]:
    """Assign money without an owner, and dismiss it: then it waits no longer, and only an operator can assign it."""
    told: dict[str, Any] = {"reason": "seen", "by": "carol"}
    incoming = Direction.INCOMING
    credit = c.Enqueue(account_id=alice, direction=incoming, entry_id="t", amount=Decimal(1), at=HOUR)
    return [
        c.Suspend(settlement_id="s", amount=Decimal(4), details={"n": 1}, at=HOUR),
        c.Suspend(settlement_id="s", amount=Decimal(5), details={"n": 1}, at=HOUR),
        *(c.Assign(settlement_id="s", account_id=owner, at=HOUR, **told) for owner in (ACCOUNTS[2], alice, alice)),
        c.Assign(settlement_id="s", account_id=ACCOUNTS[1], at=HOUR, **told),
        *(c.Dismiss(settlement_id=which, at=HOUR, **told) for which in ("s", "nothing")),
        *(c.Suspend(settlement_id=which, amount=Decimal(1), details="spam", at=HOUR) for which in ("t", "u")),
        *(c.Dismiss(settlement_id="t", reason=reason, by="dave", at=HOUR) for reason in ("spam", "again")),
        *(c.Suspense(), c.Suspense(assigned=True), credit),
        c.Suspend(settlement_id="t", amount=Decimal(1), details="spam", at=HOUR),
        *(c.Assign(settlement_id="t", account_id=alice, at=HOUR, learned=learned, **told) for learned in (True, False)),
        c.Dismiss(settlement_id="t", at=HOUR, **told),
    ]


def _retired(alice: str) -> list[c.Command[Any]]:
    """Have what is long over leave the history; what is not stays, and settlement ids are known for ever."""
    late = HOUR + 36_000.0
    incoming = Direction.INCOMING

    def credit(entry_id: str, amount: str, account_id: str = alice) -> c.Enqueue:
        at = late + 1
        return c.Enqueue(account_id=account_id, direction=incoming, entry_id=entry_id, amount=Decimal(amount), at=at)

    def retire(before: float, *attempt_ids: str) -> c.Retire:
        return c.Retire(account_id=alice, attempt_ids=attempt_ids, before=before)

    told: dict[str, Any] = {"reason": "seen", "by": "carol"}
    asked = [c.KnowsSettlement(account_id=alice, settlement_id=one) for one in ("x", "y", "1", "w")]
    return [
        *(retire(HOUR, "a", "x", "y"), retire(late, "a", "x", "never", "h"), c.Prune(before=late, limit=10_000)),
        *(retire(late, *"abcdefgh"), retire(late, *"xyzv"), retire(late, *"xyzv"), c.Overview(), c.History(), *asked),
        *(credit("x", "3"), credit("x", "3.00"), credit("x", "4"), credit("w", "5"), credit("y", "3", ACCOUNTS[1])),
        *(c.Entries(account_id=alice, direction=direction) for direction in Direction),
        # what alice was credited long ago is nobody else's
        c.Suspend(settlement_id="x", amount=Decimal(3), details=None, at=HOUR),
        *(c.Assign(settlement_id="x", account_id=owner, at=HOUR, **told) for owner in (ACCOUNTS[1], alice)),
        *(credit("x", "3"), c.Suspense(assigned=True), c.Overview()),
        c.Claim(account_id=alice, direction=incoming, attempt_id="x2", at=late),
    ]


def _notes(account_id: str) -> list[c.Command[Any]]:
    """Set and delete values of the engine, and list them."""
    return [
        *(c.Put(account_id=owner, key=key, value=[owner]) for owner in ("", account_id) for key in KEYS),
        c.Values(),
        c.Put(account_id=account_id, key=KEYS[0], value=None),
        c.Values(),
        c.Values(after=("", KEYS[0])),
        c.Put(account_id=account_id, key=KEYS[1], value=None),
        c.Values(),
    ]


def _paused() -> list[c.Command[Any]]:
    """Pause an account: what is open goes on to its end, nothing new is begun, what comes in waits."""
    bob = ACCOUNTS[1]

    def pause(*, paused: bool, reason: str = "é “why”", account_id: str = bob) -> c.Pause:
        return c.Pause(account_id=account_id, paused=paused, reason=reason, by="carol", at=HOUR)

    def enter(entry_id: str, direction: Direction) -> c.Enqueue:
        return c.Enqueue(account_id=bob, direction=direction, entry_id=entry_id, amount=Decimal(3), at=HOUR)

    def claim(attempt_id: str, direction: Direction) -> c.Claim:
        return c.Claim(account_id=bob, direction=direction, attempt_id=attempt_id, at=HOUR)

    script: list[c.Command[Any]] = [
        *(pause(paused=True), c.OpenAccount(account_id=bob, at=HOUR, set_up=True), pause(paused=False)),
        *(
            pause(paused=True),
            pause(paused=True, reason="again"),
            c.Overview(),
            pause(paused=True, account_id="nobody"),
        ),
        *(c.FinishStep(account_id=bob, step=step) for step in AccountStep),
    ]
    for direction in Direction:
        name = direction.value
        script += [
            *(enter("1", direction), claim(f"{name}1", direction), pause(paused=False), claim(f"{name}1", direction)),
            *(pause(paused=True), claim(f"{name}2", direction), c.Due(), enter("2", direction)),
            c.Close(account_id=bob, attempt_id=f"{name}1", settled=Decimal(1), at=HOUR),
            *(claim(f"{name}2", direction), c.Overview(account_id=bob)),
        ]
    held = c.Hold(account_id=bob, attempt_id="incoming2", reason="refused")
    script += [
        *(pause(paused=False), claim("incoming2", Direction.INCOMING), held, pause(paused=True)),
        c.Release(account_id=bob, attempt_id="incoming2", reason="", by="carol"),
        *(claim("incoming3", Direction.INCOMING), pause(paused=False), claim("incoming3", Direction.INCOMING)),
        *(c.CloseAccount(account_id=bob, at=HOUR, tear_down=True), pause(paused=True), c.Overview()),
        *(claim("outgoing9", Direction.OUTGOING), c.Prune(before=HOUR + 36_000.0, limit=10_000), c.Overview()),
    ]
    return script
