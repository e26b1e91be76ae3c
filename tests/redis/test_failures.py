"""Whatever happens to its server, a store loses nothing, doubles nothing, and goes on when it can."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from decimal import Decimal
from functools import partial
from itertools import count
from typing import Any

import anyio
import pytest
import redis

from settlement_core.abc import Arrival
from settlement_core.auditing.audit import audit
from settlement_core.core.journal import open_journal
from settlement_core.stores._steps import make_waits
from settlement_core.stores.redis import RedisStore
from settlement_core.values import commands as c
from settlement_core.values.errors import StoreBroken, StoreUnavailable
from settlement_core.values.records import Payment, Step
from settlement_core.values.reference import Books
from tests.core.worlds import Ears
from tests.redis.proxy import TcpProxy
from tests.redis.servers import HOST, RedisServer, reserve_port, wait_until
from tests.redis.support import apply_until_taken, everything, overview_of, own_state, places_of, raised, store_on
from tests.stores.books import INCOMING, claimed, closed, entered, opened

TIMEOUT_S = 0.3
"""How long an impatient store waits for its server."""

Batch = Sequence[c.Command[Any]]

TOLD: dict[str, Any] = {"reason": "seen", "by": "carol"}
SUSPEND = c.Suspend(settlement_id="s", amount=Decimal(4), details={"n": 1}, at=0.0)
ASSIGN = c.Assign(settlement_id="s", account_id="alice", at=0.0, reason="seen", by="carol")
DELETE = c.CloseAccount(account_id="alice", at=0.0)
OWED: Batch = [opened(), entered("1", "5")]
OPEN: Batch = [*OWED, claimed("t")]
HELD: Batch = [
    opened(),
    entered("1", "5", direction=INCOMING),
    claimed("t", direction=INCOMING),
    c.Hold(account_id="alice", attempt_id="t", reason="400"),
]
SET_UP = c.OpenAccount(account_id="alice", at=0.0, set_up=True)


def put(value: object) -> c.Put:
    """Keep a value of the engine."""
    return c.Put(account_id="alice", key="cursor", value=value)


def hold(attempt_id: str) -> c.Hold:
    """Park an attempt."""
    return c.Hold(account_id="alice", attempt_id=attempt_id, reason="lost")


def note(attempt_id: str, amount: str) -> c.Note:
    """Keep a payment."""
    return c.Note(account_id="alice", attempt_id=attempt_id, payment=Payment(Decimal(amount), {"hash": "0x1"}))


def resolve(attempt_id: str, settled: str) -> c.Resolve:
    """Decide as a person does."""
    return c.Resolve(account_id="alice", attempt_id=attempt_id, settled=Decimal(settled), at=0.0, **TOLD)


RELEASE = c.Release(account_id="alice", attempt_id="t", **TOLD)
FINISH = c.FinishStep(account_id="alice", step=Step.SET_UP)
PRUNE = c.Prune(before=1.0)

DISMISS = c.Dismiss(settlement_id="s", at=0.0, **TOLD)

WRITES: list[tuple[str, Batch, c.Command[Any], Batch]] = [
    # what was before, the command that is late, and what happens before it arrives
    ("open", [], opened(), [DELETE]),
    ("revive", [opened(), DELETE], opened(), [DELETE]),
    ("delete", [opened()], DELETE, [opened()]),
    ("enqueue", [opened()], entered("1", "5"), [claimed("t"), closed("t", "5")]),
    ("enqueue incoming", [opened(), DELETE], entered("1", "5", direction=INCOMING), [opened()]),
    ("claim", OWED, claimed("t"), [closed("t", "2")]),
    ("note", OPEN, note("t", "5"), [closed("t", "1"), claimed("u"), note("u", "3")]),
    ("close", OPEN, closed("t", "1"), [claimed("u"), note("u", "2")]),
    ("hold", OPEN, hold("t"), [resolve("t", "0"), claimed("u")]),
    ("release", HELD, RELEASE, [claimed("u", direction=INCOMING), hold("t")]),
    ("resolve", HELD, resolve("t", "1"), [claimed("u", direction=INCOMING), closed("u", "1")]),
    ("step", [SET_UP], FINISH, [DELETE, SET_UP]),
    ("put", [opened(), put(0)], put(1), [put(2), put(0)]),
    ("suspend", [opened()], SUSPEND, [ASSIGN]),
    ("assign", [opened(), SUSPEND], ASSIGN, [claimed("t", direction=INCOMING), closed("t", "4")]),
    ("dismiss", [opened(), SUSPEND], DISMISS, [ASSIGN]),
    ("assign dismissed", [opened(), SUSPEND, DISMISS], ASSIGN, [claimed("t", direction=INCOMING), closed("t", "4")]),
    ("prune", [*OPEN, closed("t", "5")], PRUNE, [entered("1", "7", at=9.0), claimed("u"), closed("u", "7", at=9.0)]),
]


@contextmanager
def before_write(store: RedisStore, number: int, act: Callable[[], object]) -> Iterator[list[int]]:
    """Do something just before the store sends its first, second, … pipeline that writes; say how many it sent."""
    run, sent = store._servers.run, [0]

    def watched(calls: Any) -> Any:
        if any(call.writes for call in calls):
            sent[0] += 1
            if sent[0] == number:
                act()
        return run(calls)

    store._servers.run = watched  # type: ignore[method-assign]
    yield sent
    store._servers.run = run  # type: ignore[method-assign]


def scripts_run(client: redis.Redis) -> int:
    """Return how many scripts the server has run."""
    stats: Any = client.info("commandstats")
    return int(stats.get("cmdstat_evalsha", {}).get("calls", 0))


@pytest.mark.parametrize(
    ("prepare", "late", "after", "number"),
    [
        *(pytest.param(*life, 1, id=name) for name, *life in WRITES),
        # money without an owner is assigned in three steps
        *(
            pytest.param(*life, number, id=f"{name} {number}")
            for name, *life in WRITES
            for number in (2, 3)
            if name.startswith("assign")
        ),
    ],
)
def test_a_command_that_arrives_late_changes_nothing(
    own_later: tuple[RedisServer, TcpProxy], prepare: Batch, late: c.Command[Any], after: Batch, number: int
) -> None:
    """It times out, is carried out over another connection, others follow, and then it arrives after all."""
    server, proxy = own_later
    direct = store_on(server.url())
    store = store_on(proxy.url(), namespace=places_of(direct).namespace, socket_timeout=TIMEOUT_S)
    direct.apply(prepare)
    with before_write(store, number, proxy.stall), pytest.raises(StoreUnavailable, match="Timeout"):
        store.apply([late])
    try:
        apply_until_taken(direct, [late])
        assert not raised(direct.apply(after))
        before = everything(direct)
        with server.client() as client:
            ran = scripts_run(client)
            proxy.resume()
            wait_until(lambda: scripts_run(client) > ran, "the late command has arrived")
        assert everything(direct) == before
        assert audit(direct).ok
    finally:
        proxy.pass_through()
        store.close()
        direct.close()


@pytest.fixture(name="own_later", scope="module")
def own_later_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RedisServer, TcpProxy]]:
    """Run a server whose every script is one of ours, and a proxy before it."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server, TcpProxy(HOST, server.port) as proxy:
        # every script is loaded, so that EVALSHA carries out what is late
        store = store_on(server.url())
        for _, prepare, late, after in WRITES:
            store.apply([*prepare, late, *after])
        store.close()
        yield server, proxy


@pytest.mark.parametrize(("prepare", "refused", "after"), [w[1:] for w in WRITES], ids=[w[0] for w in WRITES])
def test_a_full_server_takes_all_of_a_command_or_nothing(
    own_later: tuple[RedisServer, TcpProxy], prepare: Batch, refused: c.Command[Any], after: Batch
) -> None:
    """Its memory runs out before each of the pipelines that write in turn; what then holds is whole."""
    server, _ = own_later
    for number in range(1, 4):
        store = store_on(server.url())
        store.apply(prepare)
        before = everything(store)
        with server.client() as client:
            fill = partial(client.config_set, "maxmemory", 1)
            with before_write(store, number, fill) as sent, suppress(StoreUnavailable):
                store.apply([refused])
                assert sent[0] < number, "it was carried out without memory"
            if number == 1:
                with pytest.raises(StoreUnavailable, match="OutOfMemory|OOM"):
                    store.apply([refused])
                assert everything(store) == before
            client.config_set("maxmemory", 0)
        assert not raised(apply_until_taken(store, [refused, *after]))
        assert audit(store).ok
        store.close()


@pytest.mark.slow
def test_a_server_killed_again_and_again_keeps_what_it_acknowledged(own: RedisServer) -> None:
    """Batches are applied until they are taken; the books come out as if nothing had been."""
    store, wanted, kills = store_on(own.url()), Books(), 5
    over = threading.Event()

    def kill() -> None:
        chance = random.Random(1)
        for _ in range(kills):
            over.wait(chance.uniform(0.02, 0.3))
            own.restart()
        over.set()

    thread = threading.Thread(target=kill)
    thread.start()
    for number in count():
        batch = _some_batch(number)
        apply_until_taken(store, batch)
        wanted.apply(batch)
        if over.is_set():
            break
    thread.join(60)
    for account_id in ("alice", "bob"):
        assert own_state(store, account_id) == own_state(wanted, account_id)
    assert audit(store).ok
    store.close()


def _some_batch(number: int) -> list[c.Command[Any]]:
    """Return a batch that changes two accounts, and money without an owner."""
    batch: list[c.Command[Any]] = [
        opened("alice"),
        opened("bob"),
        c.Suspend(settlement_id=f"s{number}", amount=Decimal(1), details=None, at=0.0),
        c.Assign(settlement_id=f"s{number}", account_id="bob", at=0.0, **TOLD),
    ]
    for owner in ("alice", "bob"):
        batch += [
            entered(f"{number}", "3.5", account_id=owner),
            claimed(f"{owner}{number}", account_id=owner, scale=0),
            c.Put(account_id=owner, key="cursor", value=number),
            closed(f"{owner}{number}", "2", account_id=owner, at=float(number)),
        ]
    return batch


def test_what_a_paused_server_carries_out_late_holds_once(own: RedisServer) -> None:
    """The store times out, the server goes on, and the batch is applied again."""
    store = store_on(own.url(), socket_timeout=TIMEOUT_S)
    wanted = Books()
    for number in range(4):
        batch = _some_batch(number)
        with before_write(store, number, own.pause):
            try:
                store.apply(batch)
                assert number == 0
            except StoreUnavailable as problem:
                assert "Timeout" in str(problem)  # noqa: PT017 - it need not be raised
        own.resume()
        apply_until_taken(store, batch)
        wanted.apply(batch)
    for account_id in ("alice", "bob"):
        assert own_state(store, account_id) == own_state(wanted, account_id)
    store.close()


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_silent_server_holds_up_neither_the_loop_nor_its_end(own: RedisServer, backend: str) -> None:
    """What it carries out afterwards holds once, though nobody waited for it."""
    store = store_on(own.url(), socket_timeout=60)
    store.apply([opened()])

    async def main() -> None:
        async with open_journal(store, observer=Ears(), drain_s=0.1) as journal:
            await journal.ask(entered("1", "5"))
            own.pause()
            handle = journal.submit(entered("2", "7"))
            await anyio.sleep(0.1)
            assert not handle.done

    with pytest.raises(ExceptionGroup) as caught:
        anyio.run(main, backend=backend)
    assert caught.group_contains(StoreUnavailable, match="1 commands were not recorded")
    own.resume()
    apply_until_taken(store, [entered("2", "7"), entered("3", "1")])
    assert overview_of(store).outgoing.entered == 13
    store.close()


def test_answers_left_on_a_connection_are_never_taken_for_the_next_ones(own: RedisServer) -> None:
    """Whatever went wrong in reading them."""
    store = store_on(own.url())
    store.apply([opened(), entered("1", "5")])
    servers: Any = store._servers

    def read_response(**_: object) -> None:
        own.pause()  # so that the rest comes later
        raise ValueError("not to be read")

    kept = servers._kept
    kept.read_response = read_response
    with pytest.raises(ValueError, match="not to be read"):
        store.apply([entered("2", "7")])
    assert (servers._kept, servers._doubted) == (None, True)
    del kept.read_response
    own.resume()
    answers = store.apply([entered("3", "9"), entered("1", "5"), entered("2", "7")])
    assert [(answer.amount, answer.replay) for answer in answers] == [(9, False), (5, True), (7, True)]
    assert overview_of(store).outgoing.entered == 21
    store.close()


def test_a_batch_too_long_to_be_sent_at_once_is_sent_in_a_wait(shared: RedisServer) -> None:
    """Nothing of it is lost, and every answer reaches its command."""
    store = store_on(shared.url())
    store.apply([opened(), entered("0", "1")])  # which loads the script
    batch = [entered(f"{number}-{'k' * 200}", f"{number + 1}") for number in range(512)]
    waits: list[str] = []

    def make(wait: Callable[[], Any]) -> Any:
        waits.append("answer" if isinstance(wait, Arrival) else "other")
        return wait()

    answers = make_waits(store.apply_in_steps(batch), make=make)
    assert [answer.amount for answer in answers] == list(range(1, 513))
    assert waits[0] == "other"
    assert set(waits[1:]) == {"answer"}
    waits.clear()
    make_waits(store.apply_in_steps(batch[:2]), make=make)
    assert set(waits) == {"answer"}
    assert overview_of(store).outgoing.entered == 512 * 513 // 2 + 1
    store.close()


def test_a_connection_that_its_server_has_closed_is_made_anew_unnoticed(shared: RedisServer) -> None:
    """Servers close what was idle for long."""
    store = store_on(shared.url())
    store.apply([opened()])
    with shared.client() as client:
        for _ in range(3):
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            assert not raised(store.apply([entered("1", "5")]))
    assert overview_of(store).outgoing.entered == 5
    store.close()


def test_a_primary_that_becomes_a_replica_takes_nothing_until_it_is_one_again(own: RedisServer) -> None:
    """Its readings are not refused, but nothing is written."""
    store = store_on(own.url())
    store.apply([opened()])
    before = everything(store)
    port, claim = reserve_port()
    with own.client() as client:
        client.replicaof(HOST, port)
        with pytest.raises(StoreUnavailable, match="READONLY|read only|replica"):
            store.apply([entered("1", "5")])
        with pytest.raises(StoreUnavailable, match="is a replica, which forgets what it is told"):
            store.apply([entered("1", "5")])
        client.replicaof("NO", "ONE")
    claim.close()
    assert everything(store) == before
    assert not raised(store.apply([entered("1", "5")]))
    store.close()


def test_a_server_busy_with_somebody_elses_script_is_waited_for(own: RedisServer) -> None:
    """Until an operator kills that script."""
    store = store_on(own.url())
    store.apply([opened()])
    with own.client() as client, own.client() as endless:
        client.config_set("lua-time-limit", 1)
        thread = threading.Thread(target=_run_for_ever, args=(endless,))
        thread.start()
        wait_until(lambda: _is_busy(client), "the script runs")
        with pytest.raises(StoreUnavailable, match="BUSY|[Bb]usy"):
            store.apply([entered("1", "5")])
        client.script_kill()
        thread.join(10)
    assert not raised(apply_until_taken(store, [entered("1", "5")]))
    assert overview_of(store).outgoing.entered == 5
    store.close()


def _run_for_ever(client: redis.Redis) -> None:
    with pytest.raises(redis.ResponseError):
        client.eval("while true do end", 0)


def _is_busy(client: redis.Redis) -> bool:
    try:
        client.ping()
    except redis.ResponseError:
        return True
    return False


@pytest.mark.parametrize("when", ["before every pipeline", "between loading and running"])
def test_scripts_forgotten_at_any_time_are_loaded_again(shared: RedisServer, when: str) -> None:
    """SCRIPT FLUSH, or a server that never knew them, costs time and nothing else."""
    store, wanted = store_on(shared.url()), Books()
    with shared.client() as client:
        run, load = store._servers.run, store._servers._client.script_load  # type: ignore[attr-defined]
        chance = random.Random(1)

        def forgetful(calls: Any) -> Any:
            client.script_flush()
            return run(calls)

        def in_vain(source: str) -> Any:
            sha = load(source)
            if chance.random() < 0.2:
                client.script_flush()
            return sha

        store._servers.run = forgetful  # type: ignore[method-assign]
        if when == "between loading and running":
            store._servers._client.script_load = in_vain  # type: ignore[attr-defined]
        for number in range(3):
            apply_until_taken(store, _some_batch(number))
            wanted.apply(_some_batch(number))
        store._servers.run = run  # type: ignore[method-assign]
        store._servers._client.script_load = load  # type: ignore[attr-defined]
    for account_id in ("alice", "bob"):
        assert own_state(store, account_id) == own_state(wanted, account_id)
    store.close()


def test_what_is_read_after_a_write_sees_it_though_its_script_had_to_be_loaded(own: RedisServer) -> None:
    """On a server that knows some of the scripts, and not that of the write."""
    store = store_on(own.url())
    store.apply([opened(), claimed("t")])
    assert isinstance(store.apply([entered("1", "5"), claimed("t")])[1], c.Claimed)
    with own.client() as client:
        client.script_flush()
    store.apply([c.Overview(), claimed("t")])
    assert store.apply([entered("2", "5"), c.Overview(account_id="alice")])[1][0].outgoing.entered == 10
    store.close()


def test_a_key_of_another_type_breaks_the_store_at_once(shared: RedisServer) -> None:
    """It is not tried again for ever: nobody but a person can mend it."""
    store = store_on(shared.url())
    store.apply(OWED)
    with shared.client() as client:
        client.set(places_of(store).account("bob").account, "mine")
    for command in (opened("bob"), entered("1", "1", account_id="bob"), c.Overview(account_id="bob")):
        with pytest.raises(StoreBroken, match="WRONGTYPE"):
            store.apply([command])
    assert overview_of(store).outgoing.queued == 5
    store.close()


def test_a_batch_is_written_to_the_disk_once(own: RedisServer) -> None:
    """Though its requests are for a hundred accounts: a server carries out in turns what comes in a long pipeline.

    And what such a transaction cannot be had for is not carried out in part.
    """
    store = store_on(own.url())
    store.apply([opened(f"peer-{number}") for number in range(100)])
    store.apply([entered("first", "5", account_id="peer-0")])  # which has the server load the script
    batch = [entered("key", "5", account_id=f"peer-{number}") for number in range(100)]
    with own.client() as client:
        client.config_resetstat()
        assert not raised(store.apply(batch))
        commands = client.info("commandstats")
        assert (commands["cmdstat_exec"]["calls"], commands["cmdstat_evalsha"]["calls"]) == (1, 100)
        client.config_set("maxmemory", 1)
        with pytest.raises(StoreUnavailable, match="OutOfMemory|OOM"):
            store.apply([replace(command, entry_id="other key") for command in batch])
        client.config_set("maxmemory", 0)
    overviews = store.apply([c.Overview()])[0]
    assert sorted(overview.outgoing.entered for overview in overviews) == [*[5] * 99, 10]
    store.close()
