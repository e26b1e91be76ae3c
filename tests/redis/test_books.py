"""Two workers at the same books: nothing is lost between them, and what is long is read in pages."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from settlement_core.auditing.audit import audit
from settlement_core.stores.redis import RedisStore
from settlement_core.stores.redis.store import FOLD_AT
from settlement_core.values import commands as c
from settlement_core.values.errors import IdempotencyConflict, LocalError, SuspenseConflict, UnknownAccount
from settlement_core.values.records import AttemptState, Direction
from tests.redis.servers import RedisServer
from tests.redis.support import overview_of, places_of, raised, store_on
from tests.redis.test_failures import before_write
from tests.stores.books import INCOMING, OUTGOING, ask, attempts, claimed, closed, entered, opened

TOLD: dict[str, Any] = {"reason": "seen", "by": "carol"}


@pytest.fixture(name="other")
def other_fixture(shared: RedisServer, books: RedisStore) -> Iterator[RedisStore]:
    """Open the test's store once more, as another worker does."""
    store = store_on(shared.url(), namespace=places_of(books).namespace)
    yield store
    store.close()


def at_once(*acts: Callable[[], object]) -> None:
    """Do all this in threads, and raise what they raise."""
    errors: list[BaseException] = []

    def run(act: Callable[[], object]) -> None:
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    if errors:
        raise errors[0]


def uncounted(store: RedisStore, direction: str) -> int:
    """Return how many entries alice's totals do not include yet."""
    keys = places_of(store).account("alice")
    client: Any = store._servers.client_for(keys.account)
    last, counted = client.hmget(keys.account, f"seq.{direction}", f"counted.{direction}")
    return int(last or 0) - int(counted or 0)


@pytest.mark.slow
def test_two_workers_at_one_account_lose_and_double_nothing(books: RedisStore, other: RedisStore) -> None:
    """Both do anything at all to it at once; each id is entered once, and the books add up."""
    ask(books, opened())

    def hammer(store: RedisStore, seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(60):
            batch = [_any(chance) for _ in range(chance.randint(1, 8))]
            for result in store.apply(batch):
                assert not isinstance(result, Exception) or isinstance(result, LocalError)

    at_once(lambda: hammer(books, 1), lambda: hammer(other, 2))
    report = audit(books)
    assert report.ok, report.problems
    entries = [
        entry
        for direction in Direction
        for entry in ask(books, c.Entries(account_id="alice", direction=direction, limit=100_000))
        if entry.kind == "request"
    ]
    assert len({(entry.direction, entry.entry_id) for entry in entries}) == len(entries)
    assert report.attempts > 4, "they hardly met"


def _any(chance: random.Random) -> c.Command[Any]:
    direction = chance.choice([OUTGOING, INCOMING])
    attempt_id = f"{direction}{chance.randint(1, 30)}"
    amount = Decimal(chance.choice(["1", "0.5", "2.25"]))
    known: dict[str, Any] = {"account_id": "alice", "attempt_id": attempt_id}
    commands: list[c.Command[Any]] = [
        entered(f"e{chance.randint(1, 300)}", "1.25", direction=direction),
        c.Claim(**known, direction=direction, at=0.0, scale=chance.choice([None, 0, 1]), max_entries=5),
        c.Close(**known, settled=amount, at=0.0),
        c.Close(**known, settled=Decimal(0), at=0.0),
        c.Hold(**known, reason="lost"),
        c.Release(**known, **TOLD),
        c.Resolve(**known, settled=amount, at=0.0, **TOLD),
        c.Put(account_id="alice", key="cursor", value=chance.randint(1, 3)),
        c.Prune(before=1.0),
    ]
    return chance.choice([*commands[:4], *commands])


def test_two_workers_that_forget_at_once_forget_once(books: RedisStore, other: RedisStore) -> None:
    """One has looked at what the other forgets meanwhile, at whatever point."""
    batch: list[c.Command[Any]] = [opened()]
    for number in range(20):
        batch += [entered(f"{number}", "1"), claimed(f"t{number}"), closed(f"t{number}", "1")]
    books.apply(batch)
    run, forgotten, turn = books._servers.run, 0, 0

    def meanwhile(calls: Any) -> Any:
        nonlocal forgotten, turn
        turn += 1
        if turn % 5 == 0:
            forgotten += ask(other, c.Prune(before=1.0, limit=1))
        return run(calls)

    books._servers.run = meanwhile  # type: ignore[method-assign]
    mine = ask(books, c.Prune(before=1.0))
    books._servers.run = run  # type: ignore[method-assign]
    assert (mine > 0, forgotten > 0, mine + forgotten) == (True, True, 20)
    assert audit(books).ok
    assert overview_of(books).outgoing.pruned == 20


def test_a_key_used_while_it_is_being_forgotten_is_kept(books: RedisStore, other: RedisStore) -> None:
    """A replay that comes just before is a use."""
    books.apply([opened(), entered("1", "5"), claimed("t"), closed("t", "5")])
    with before_write(books, 1, lambda: other.apply([entered("1", "5", at=100.0)])):
        assert ask(books, c.Prune(before=1.0)) == 0
    assert ask(books, entered("1", "5")) == c.Entered(Decimal(5), replay=True)
    assert overview_of(books).outgoing.entered == 5


def test_totals_are_folded_before_many_entries_are_to_be_counted(books: RedisStore, other: RedisStore) -> None:
    """Two workers queue far more at once than are ever left to be added up."""
    ask(books, opened())

    def enqueue(store: RedisStore, start: int) -> None:
        for first in range(start, start + FOLD_AT, 100):
            store.apply([entered(f"{number}", "0.001") for number in range(first, first + 100)])

    at_once(lambda: enqueue(books, 0), lambda: enqueue(other, FOLD_AT))
    assert uncounted(books, "o") <= FOLD_AT
    totals = overview_of(books).outgoing
    assert totals.entered == totals.queued == Decimal(2 * FOLD_AT) / 1000
    many = [entered(f"x{number}", "0.001") for number in range(FOLD_AT + 1)]
    books.apply([*many, entered("i", "1", direction=INCOMING)])
    assert uncounted(books, "o") <= FOLD_AT
    assert not raised(books.apply([claimed("t"), closed("t", "0.5")]))
    assert audit(books).ok


def test_a_claim_finds_enough_dust_however_long_the_queue(books: RedisStore) -> None:
    """Thousands of entries become one, again and again, until those that are left make one unit."""
    ask(books, opened())
    books.apply([entered(f"{number}", "0.00008") for number in range(13_000)])
    bounds: dict[str, Any] = {"max_entries": 1000, "scale": 0}
    answers = [
        ask(books, c.Claim(account_id="alice", direction=OUTGOING, attempt_id=attempt_id, at=0.0, **bounds))
        for attempt_id in ("dust", "more dust", "still more", "t")
    ]
    assert answers[:3] == [c.NothingToClaim(Decimal("1.04"), summed_up=True)] * 3
    assert isinstance(answers[3], c.Claimed)
    assert (answers[3].attempt.amount, answers[3].attempt.dust) == (Decimal(1), Decimal("0.04"))
    assert overview_of(books).outgoing.queued == Decimal("0.04")
    assert ask(books, closed("t", "1")) == c.Applied(changed=True)
    assert ask(books, claimed("u", scale=0)) == c.NothingToClaim(Decimal("0.04"))
    assert audit(books).ok


def _suspended(store: RedisStore) -> list[Any]:
    return ask(store, c.Suspense())


@pytest.mark.parametrize("number", [1, 2, 3])
def test_an_assignment_cut_between_its_steps_is_finished_by_whoever_shares_next(
    books: RedisStore, other: RedisStore, number: int
) -> None:
    """The money is entered once, and is nobody else's."""
    books.apply([opened("alice"), opened("bob")])
    ask(books, c.Suspend(settlement_id="s", amount=Decimal(4), details=None, at=0.0))
    assign = c.Assign(settlement_id="s", account_id="alice", at=0.0, **TOLD)

    def die() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), before_write(books, number, die):
        books.apply([assign])
    ask(other, c.Share(worker="w", lease_s=600.0))
    (to_bob,) = other.apply([c.Assign(settlement_id="s", account_id="bob", at=0.0, **TOLD)])
    assert isinstance(to_bob, SuspenseConflict) == (number > 1)
    owner = "alice" if number > 1 else "bob"
    assert overview_of(other, owner).incoming.entered == 4
    assert [overview_of(other, name).incoming.entered for name in ("alice", "bob")].count(Decimal(4)) == 1
    assert _suspended(other) == []
    client: Any = other._servers.client_for("x")
    assert client.zcard(places_of(other).suspense_assigning) == 0
    assert audit(other).ok


def test_money_assigned_to_nobody_stays_where_it_was(books: RedisStore, other: RedisStore) -> None:
    """Though the account is opened just then, it is never entered and unassigned at once."""
    ask(books, opened("bob"))
    ask(books, c.Suspend(settlement_id="s", amount=Decimal(4), details=None, at=0.0))
    assign = c.Assign(settlement_id="s", account_id="alice", at=0.0, **TOLD)
    for number in range(1, 4):

        def interfere() -> None:
            ask(other, c.Share(worker="w", lease_s=600.0))
            ask(other, opened())
            ask(other, c.Share(worker="w", lease_s=600.0))

        with before_write(books, number, interfere):
            (answer,) = books.apply([assign])
        assert isinstance(answer, UnknownAccount)
    assert [item.settlement_id for item in _suspended(books)] == ["s"]
    ask(books, opened())
    assert not raised(books.apply([assign]))
    assert overview_of(books).incoming.entered == 4
    assert audit(books).ok


def test_money_whose_id_an_account_used_otherwise_stays_unassigned(books: RedisStore) -> None:
    """Also if the first try was cut, and it was tried again."""
    books.apply([opened(), entered("s", "5", direction=INCOMING)])
    ask(books, c.Suspend(settlement_id="s", amount=Decimal(4), details=None, at=0.0))
    assign = c.Assign(settlement_id="s", account_id="alice", at=0.0, **TOLD)

    def die() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), before_write(books, 2, die):
        books.apply([assign])
    for _ in range(2):
        assert isinstance(books.apply([assign])[0], IdempotencyConflict)
        assert [item.settlement_id for item in _suspended(books)] == ["s"]
    assert overview_of(books).incoming.entered == 5


def _damage(store: RedisStore, what: str) -> None:
    partition = places_of(store).partition("alice")
    client: Any = store._servers.client_for(partition.due)
    if what == "due":
        client.zrem(partition.due, "alice")
    elif what == "stray":
        client.zadd(partition.due, {"nobody": 0})
    else:
        client.delete(partition.unclosed)


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("due", "'alice' is missing from the index 'due' of partition "),
        ("stray", "'nobody' is in the index 'due' of partition "),
        ("unclosed", "'t\\nalice' is missing from the index 'unclosed' of partition "),
    ],
)
def test_a_damaged_index_is_found(books: RedisStore, what: str, sentence: str) -> None:
    """It would hide money that is due, or in doubt."""
    books.apply([opened(), opened("bob"), entered("1", "5"), claimed("t")])
    assert books.inspect() == []
    _damage(books, what)
    (problem,) = books.inspect()
    assert problem.startswith(sentence)
    assert not audit(books).ok


def test_what_is_kept_of_an_account_between_batches_counts_no_dust_twice(books: RedisStore, other: RedisStore) -> None:
    """An attempt is ended without another look at the account, after dust was queued and others queued more."""
    books.apply([opened(), entered("1", "1.75"), entered("i", "2.5", direction=INCOMING)])
    books.apply([claimed("t", scale=0), claimed("c", direction=INCOMING, scale=0)])
    books.apply([c.Hold(account_id="alice", attempt_id="c", reason="400")])
    other.apply([entered("2", "1"), entered("j", "1", direction=INCOMING)])
    books.apply([closed("t", "0.5")])
    report = audit(books)
    assert report.ok, report.problems
    assert (report.outgoing.queued, report.incoming.queued) == (Decimal("2.25"), Decimal("1.5"))
    books.apply([claimed("u")])
    assert overview_of(books).outgoing.open == Decimal("2.25")


def test_what_is_closed_leaves_the_index_of_what_is_not(books: RedisStore) -> None:
    """So that looking for what waits for a person stays quick for ever."""
    books.apply([opened(), entered("1", "5"), claimed("t"), entered("2", "5"), closed("t", "5"), claimed("u")])
    partition = places_of(books).partition("alice")
    client: Any = books._servers.client_for(partition.unclosed)
    assert client.zrange(partition.unclosed, 0, -1) == ["u\nalice"]


def test_history_of_many_accounts_is_laid_end_to_end(books: RedisStore) -> None:
    """Claims of several accounts at the very same moments come in pages that overlap nowhere and miss nothing."""
    owners = [f"account {number} é€😀" for number in range(12)]
    for number in range(3):
        for owner in owners:
            books.apply([opened(owner), entered(f"{number}", "1", account_id=owner)])
            books.apply([claimed(f"{number}", account_id=owner, at=float(number))])
            books.apply([closed(f"{number}", "1", account_id=owner)] if number < 2 else [])
    for states in (frozenset[AttemptState](), frozenset({AttemptState.OPEN}), frozenset({AttemptState.CLOSED})):
        whole = ask(books, c.History(states=states, limit=1000))
        assert len(whole) == {0: 36, 1: 12}.get(0 if not states else 1 if AttemptState.OPEN in states else 2, 24)
        assert all(before.claimed_at <= after.claimed_at for before, after in pairwise(whole))
        for limit in (1, 5, 7):
            assert _paged(books, states, limit) == whole


def test_one_account_s_history_is_read_from_either_end(books: RedisStore) -> None:
    """Of attempts claimed at the same moment, too; page after page."""
    books.apply([opened("alice"), entered("k", "1", account_id="alice")])
    for name in ("10", "27", "1"):
        books.apply([claimed(name, account_id="alice"), closed(name, "0", account_id="alice")])
    for newest, names in ((False, ["10", "27", "1"]), (True, ["1", "27", "10"])):
        whole = ask(books, c.History(account_id="alice", newest=newest))
        assert [attempt.attempt_id for attempt in whole] == names
        later = c.History(account_id="alice", newest=newest, after=names[0], limit=1)
        assert [attempt.attempt_id for attempt in ask(books, later)] == names[1:2]


def _paged(store: RedisStore, states: frozenset[AttemptState], limit: int) -> list[Any]:
    found: list[Any] = []
    query = c.History(states=states, limit=limit)
    while page := ask(store, query):
        found += page
        last = page[-1]
        query = c.History(states=states, limit=limit, after=last.attempt_id, after_account=last.account_id)
    return found


def test_no_character_and_no_digit_is_lost(books: RedisStore) -> None:
    """Names in all scripts, amounts of a thousand digits on either side of the point."""
    name, amount = "日本 é{x}:😀\u2028", "9" * 1000 + "." + "7" * 1000
    books.apply([opened(name), entered(name, amount, account_id=name), entered(name, amount, account_id=name)])
    books.apply([c.Put(account_id=name, key=name, value={name: name})])
    assert overview_of(books, name).outgoing.queued == Decimal(amount)
    claim = ask(books, claimed(name, account_id=name))
    assert isinstance(claim, c.Claimed)
    assert f"{claim.attempt.amount:f}" == amount
    assert ask(books, closed(name, "9" * 1000, account_id=name)) == c.Applied(changed=True)
    assert overview_of(books, name).outgoing.queued == Decimal("0." + "7" * 1000)
    assert ask(books, c.Get(account_id=name, key=name)) == {name: name}
    assert [attempt.attempt_id for attempt in attempts(books, name)] == [name]
    assert ask(books, c.Due()) == [name]
    assert audit(books).ok


def test_a_name_that_is_half_a_character_is_refused(books: RedisStore) -> None:
    """Alone: what is beside it in the batch goes through."""
    batch: Sequence[c.Command[Any]] = [opened(), opened("\udcff"), entered("\udcff", "1"), entered("1", "1")]
    results = books.apply(batch)
    assert [type(result) for result in results] == [c.Applied, LocalError, LocalError, c.Entered]
    assert "half a character; nothing was recorded" in str(results[1])
