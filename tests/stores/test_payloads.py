"""JSON values are kept as they were when they were handed over, in every store."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
import redis

from settlement_core.abc import Store
from settlement_core.stores.sqlite import SqliteStore
from settlement_core.values import commands as c
from settlement_core.values.errors import LocalError
from settlement_core.values.records import Payment
from tests.redis.support import places_of, store_on
from tests.stores.books import INCOMING, ask, attempts, claimed, entered, opened


def _note(reference: object) -> c.Note:
    return c.Note(account_id="alice", attempt_id="t", payment=Payment(Decimal(1), reference))


def test_a_payment_changed_after_it_was_noted_stays_as_noted(store: Store) -> None:
    """Neither the engine's own object nor one read back is the store's: changing them changes nothing."""
    reference: dict[str, Any] = {"signed": ["0x1"], "pair": (1, 2)}
    store.apply([opened(), entered("1", "1"), claimed("t"), _note(reference)])
    reference["signed"].append("0x2")
    attempts(store)[0].payment.reference["signed"].append("0x3")  # type: ignore[index, union-attr]
    ask(store, claimed("t")).attempt.payment.reference.clear()  # type: ignore[union-attr]
    assert attempts(store)[0].payment == Payment(Decimal(1), {"signed": ["0x1"], "pair": [1, 2]})


def test_a_payment_is_the_same_when_noted_again_as_what_json_makes_of_it(store: Store) -> None:
    """A tuple comes back as a list, and is recognised all the same."""
    results = store.apply([opened(), entered("1", "1"), claimed("t"), _note((1, 2)), _note((1, 2)), _note([1, 2])])
    assert results[-3:] == [c.Applied(changed=True), c.Applied(changed=False), c.Applied(changed=False)]


def test_details_of_unattributed_money_stay_as_reported(store: Store) -> None:
    """What the engine saw on the ledger cannot be changed afterwards by accident."""
    details = {"from": ["0xabc"]}
    store.apply([c.Suspend(settlement_id="s", amount=Decimal(1), details=details, at=0.0)])
    details["from"].clear()
    ask(store, c.Suspense())[0].details["from"].clear()  # type: ignore[index]
    assert ask(store, c.Suspense())[0].details == {"from": ["0xabc"]}


def test_a_value_of_the_engine_stays_as_saved(store: Store) -> None:
    """Saved values are copies, and so are loaded ones; None deletes."""
    value = {"tags": [1]}
    put = c.Put(account_id="", key="cursor", value=value)
    assert ask(store, put) == c.Applied(changed=True)
    assert ask(store, put) == c.Applied(changed=False)
    value["tags"].append(2)
    loaded: Any = ask(store, c.Get(account_id="", key="cursor"))
    loaded["tags"].append(3)
    assert ask(store, c.Get(account_id="", key="cursor")) == {"tags": [1]}
    assert ask(store, c.Get(account_id="alice", key="cursor")) is None
    assert ask(store, c.Put(account_id="", key="cursor", value=None)) == c.Applied(changed=True)
    assert ask(store, c.Get(account_id="", key="cursor")) is None


@pytest.mark.parametrize("value", [Decimal(1), {1, 2}, float("nan"), float("inf"), b"raw"])
def test_what_is_not_json_is_refused_and_changes_nothing(store: Store, value: object) -> None:
    """A value that could not be read back is refused, alone: the commands around it go through."""
    batch: list[c.Command[Any]] = [
        opened(),
        entered("1", "1"),
        claimed("t"),
        _note(value),
        c.Suspend(settlement_id="s", amount=Decimal(1), details=value, at=0.0),
        c.Put(account_id="", key="cursor", value={"deep": value}),
        entered("2", "1"),
    ]
    results = store.apply(batch)
    for refusal, what in zip(
        results[3:6],
        ("the payment of attempt 't'", "the details of unattributed settlement 's'", "the engine's value 'cursor'"),
        strict=True,
    ):
        assert type(refusal) is LocalError
        assert str(refusal).startswith(f"cannot keep {what}: ")
        assert str(refusal).endswith("; nothing was recorded")
    assert results[6] == c.Entered(Decimal(1), replay=False)
    assert attempts(store)[0].payment is None
    assert ask(store, c.Suspense()) == []
    assert ask(store, c.Get(account_id="", key="cursor")) is None


def test_a_bottomless_value_is_refused(store: Store) -> None:
    """A value nested beyond all bounds is refused like any other that cannot be written."""
    bottomless: list[Any] = []
    for _ in range(100_000):
        bottomless = [bottomless]
    with pytest.raises(LocalError, match="cannot keep the engine's value 'deep'"):
        ask(store, c.Put(account_id="", key="deep", value=bottomless))


HALF = "no such file: \udcff\0"
"""As in an error about a file whose name is no text; with NUL, at which SQLite's own functions end text."""


def test_a_reason_with_half_a_character_is_kept_as_its_escape(store: Store) -> None:
    """Parking must not fail for an odd message, and what is kept can be answered; the same in every store."""
    hold = c.Hold(account_id="alice", attempt_id="t", reason=HALF)
    release = c.Release(account_id="alice", attempt_id="t", reason=HALF, by=HALF)
    assert (
        store.apply(
            [
                opened(),
                entered("1", "1", direction=INCOMING),
                claimed("t", direction=INCOMING),
                hold,
                hold,
                release,
                release,
            ]
        )[-4:]
        == [c.Applied(changed=True), c.Applied(changed=False)] * 2
    )
    resolve = c.Resolve(account_id="alice", attempt_id="t", settled=Decimal(1), reason=HALF, by=HALF, at=0.0)
    assert store.apply([resolve, resolve]) == [c.Applied(changed=True), c.Applied(changed=False)]
    assert (attempts(store)[0].reason, attempts(store)[0].resolved_by) == (r"no such file: \udcff\x00",) * 2


def test_json_with_half_a_character_is_kept_as_its_escape(store: Store) -> None:
    """Of money's details, of payments and of the engine's values; NUL is JSON's to write, and stays."""
    odd = {HALF: [HALF]}
    store.apply(
        [
            *(opened(), entered("1", "1"), claimed("t"), _note(odd)),
            c.Suspend(settlement_id="s", amount=Decimal(1), details=odd, at=0.0),
            c.Put(account_id="", key="cursor", value=odd),
        ]
    )
    written = "no such file: \\udcff\0"
    whole = {written: [written]}
    assert attempts(store)[0].payment == Payment(Decimal(1), whole)
    assert ask(store, c.Suspense())[0].details == whole
    assert ask(store, c.Get(account_id="", key="cursor")) == whole
    again = c.Put(account_id="", key="cursor", value=odd)
    assert ask(store, again) == c.Applied(changed=False)


@pytest.mark.parametrize(
    "command",
    [
        opened("\ud800"),
        entered("\ud800", "1"),
        c.Put(account_id="", key="\ud800", value=1),
        c.Suspend(settlement_id="\ud800", amount=Decimal(1), details=None, at=0.0),
        c.Overview(account_id="\ud800"),
        c.Suspense(after="\ud800"),
        c.Values(after=("\ud800", "cursor")),
    ],
    ids=lambda command: type(command).__name__,
)
def test_a_name_with_half_a_character_is_refused_in_the_same_words(store: Store, command: c.Command[Any]) -> None:
    """Written as its escape it could become the same as another name; nothing is recorded."""
    store.apply([opened()])
    (refusal,) = store.apply([command])
    assert type(refusal) is LocalError
    kind = type(command).__name__
    assert str(refusal) == f"cannot keep {kind}: '\\ud800' holds half a character; nothing was recorded"
    assert [account.account_id for account in ask(store, c.Overview())] == ["alice"]
    assert ask(store, c.Overview())[0].incoming.entered == 0


def test_a_value_equal_to_the_one_before_it_replaces_it_all_the_same(store: Store) -> None:
    """Python takes 1 for true, and 1.0 for 1: what is loaded is what was saved last."""
    for value in (1, True, 1.0, [0], [False]):
        store.apply([c.Put(account_id="", key="cursor", value=value)])
        loaded = ask(store, c.Get(account_id="", key="cursor"))
        assert repr(loaded) == repr(value)


def test_half_characters_of_earlier_versions_are_read_as_their_escapes(sqlite: SqliteStore, shared_redis: Any) -> None:
    """They kept what no answer could be made of; it is shown, and the money can be assigned."""
    suspended = c.Suspend(settlement_id="s", amount=Decimal(1), details="HALF", at=0.0)
    on_redis = store_on(shared_redis.url())
    assigned = c.Assign(settlement_id="s", account_id="alice", reason="seen", by="ann", at=1.0)
    try:
        for store in (sqlite, on_redis):
            store.apply([opened(), suspended])
        sqlite._connection.execute("UPDATE suspense SET details = ?", (r'"\ud800"',))
        with redis.Redis.from_url(shared_redis.url(), decode_responses=True) as client:
            key = places_of(on_redis).suspense
            row = client.hget(key, "s")
            assert row is not None
            client.hset(key, "s", row.replace("HALF", r"\\ud800"))
        for store in (sqlite, on_redis):
            assert ask(store, c.Suspense())[0].details == r"\ud800"
            assert ask(store, assigned) == c.Entered(Decimal(1), replay=False)
            assert ask(store, c.Suspense()) == []
    finally:
        on_redis.close()
