"""The whole system, life after life: two engines, two connectors, one ledger. Only books, ledger and messages survive.

The core is the real one; what it talks to is simulated, under virtual time, and so exactly repeatable.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from itertools import count

import anyio

from settlement_core.core import journal
from settlement_core.core.config import CoreConfig
from settlement_core.testing.clocks import virtual_backend
from settlement_core.testing.lives.connector import Connector, Request
from settlement_core.testing.lives.diary import Diary, Tally
from settlement_core.testing.lives.engines import engine_of
from settlement_core.testing.lives.judgement import judge, judge_the_end
from settlement_core.testing.lives.ledger import Fate, Ledger, Tx
from settlement_core.testing.lives.network import Faults, Network
from settlement_core.testing.lives.script import (
    ACCOUNTS,
    SIDES,
    Amnesia,
    ClockJump,
    Deposit,
    Happening,
    Life,
    Outage,
    Owe,
    Pausing,
    Person,
    Reorganisation,
    Setting,
)
from settlement_core.testing.lives.side import Side, Worker
from settlement_core.testing.lives.stores import SharedBooks, WorkerStore
from settlement_core.testing.lives.witness import Witness
from settlement_core.values.amounts import total
from settlement_core.values.commands import Overview

__all__ = ["System", "Violated"]

BEGAN_AT = 1_700_000_000.0
"""The wall clock at the beginning, in seconds since 1970."""

IN_PEACE_S = 86_400.0
"""How long a peaceful life may take until everything is settled and credited."""

MANY_STEPS = 200_000
"""A life takes a thousand or two; one that takes so many is going in circles."""

_FARTHEST_S = 2 * 86_400.0
"""How far a wall clock may be off; more would outlast the time for which idempotency keys are kept."""


class Violated(AssertionError):
    """Something that must never happen did.

    The message tells what, the script that makes it happen again, as Python, and the story of how it came about.
    """

    def __init__(self, violations: list[str], script: str, story: str) -> None:
        self.violations = tuple(violations)
        self.script = script
        super().__init__("\n".join([*violations, "", script, "", "The story, in seconds of simulated time:", story]))


class System:
    """Two peers and a ledger. `live` runs one life, `end_in_peace` the last."""

    def __init__(self, setting: Setting, *, backend: str, tally: Tally | None = None) -> None:
        self.tally = tally or Tally()
        self._setting = setting
        self._backend = backend
        self._time_s = 0.0
        self._began_s: float | None = None
        self._lives = 0
        self.steps = 0
        self._life = Life()
        self._violations: list[str] = []
        self._script = [f"system = System({setting}, backend={backend!r})"]
        self._everything: anyio.CancelScope | None = None
        self._numbers = count(1)
        self._diary = Diary(self.now, self.tally)
        self._network = Network(self.now, self._diary)
        self._ledger = Ledger(self.now, self._diary)
        self._sides = {name: self._new_side(name) for name in SIDES}
        self._deposits = 0

    def now(self) -> float:
        """Return the true time in seconds since the beginning."""
        return self._time_s if self._began_s is None else self._time_s + anyio.current_time() - self._began_s

    def live(self, life: Life) -> None:
        """Run one life. Raises `Violated`."""
        self._script.append(f"system.live({life})")
        self._run(life, lambda: anyio.sleep(life.lasts_s))

    def end_in_peace(self) -> None:
        """Run a life in which nothing goes wrong, until everything is settled and credited. Raises `Violated`."""
        self._script.append("system.end_in_peace()")
        self._run(Life(workers=2), self._until_all_is_done)
        self._raise_if(judge_the_end(self._sides, self._ledger, self._setting))

    # one life

    def _run(self, life: Life, until: Callable[[], object]) -> None:
        self._lives += 1
        self.steps = 0
        self._life = life
        self.tally.lives += 1
        self._diary.tell(f"--- life {self._lives} on {self._backend}: {life}")
        self._network.faults = Faults(life.faults, self._diary)
        name, options = virtual_backend(self._backend, on_step=self._step, seed=life.seed)
        with _virtual_chance(life.seed):
            anyio.run(self._live, life, until, backend=name, backend_options=options)
        self._raise_if(judge(self._sides, self._ledger))
        self._time_s += life.gap_s
        self.tally.simulated_s += life.gap_s

    def _raise_if(self, found: list[str]) -> None:
        if self._violations or found:
            raise Violated([*self._violations, *found], "\n".join(self._script), self._diary.story())

    async def _live(self, life: Life, until: Callable[[], object]) -> None:
        self._began_s = anyio.current_time()
        for side in self._sides.values():
            many = life.workers if self._setting.shared else 1
            side.workers = [self._new_worker(side, number, life.seed) for number in range(many)]
        try:
            async with anyio.create_task_group() as tasks:
                self._everything = tasks.cancel_scope
                tasks.start_soon(self._network.run, name="network")
                workers = [worker for side in self._sides.values() for worker in side.workers]
                for worker in workers:
                    tasks.start_soon(worker.run, name=worker.name)
                for side in self._sides.values():
                    for request in side.connector.requests.values():
                        tasks.start_soon(side.ask_to_settle, request)
                for thing in (*life.owes, *life.deposits, *life.happenings):
                    tasks.start_soon(self._happen, thing)
                await until()  # type: ignore[misc]
                for worker in workers:
                    worker.leave()
                for worker in workers:
                    await worker.ended.wait()
                tasks.cancel_scope.cancel()
        finally:
            elapsed_s = anyio.current_time() - self._began_s
            self._began_s = None
            self._time_s += elapsed_s
            self.tally.simulated_s += elapsed_s

    def _step(self) -> None:
        self.steps += 1
        if self.steps == MANY_STEPS and self._everything is not None:
            self._violations.append(
                f"after {MANY_STEPS} steps, {self.now():g} s since the beginning, no end is in sight"
            )
            self._everything.cancel()
        for cut in self._life.cuts:
            if cut.step == self.steps:
                for side in self._sides.values():
                    for number, worker in enumerate(side.workers):
                        if cut.side is None or (cut.side, cut.worker) == (side.name, number):
                            worker.cut(cut.ending)

    async def _happen(self, thing: Owe | Deposit | Happening) -> None:
        await anyio.sleep(thing.at_s)
        match thing:
            case Owe(side=name, account=account, amount=amount):
                request: Request = self._sides[name].connector.owe(account, amount)
                self._diary.tell(f"{name}: connector asks to settle {account} {amount:f} ({request.key})")
                await self._sides[name].ask_to_settle(request)
            case Deposit(side=name, memo=memo, amount=amount):
                self._deposits += 1
                self._ledger.submit(Tx(f"deposit{self._deposits}", name, memo, amount, self.now() + 60.0))
            case Outage():
                await self._be_away(thing)
            case ClockJump(side=name, by_s=by_s):
                self._diary.fault("clock jump", f"{name}: the wall clock jumps by {by_s:g} s")
                side = self._sides[name]
                side.wall_ahead_s = max(-_FARTHEST_S, min(_FARTHEST_S, side.wall_ahead_s + by_s))
            case Reorganisation(forget=forget):
                self._ledger.reorganise(forget=forget)
            case Amnesia(side=name):
                self._diary.fault("amnesia", f"{name}: connector forgets all keys")
                self._sides[name].connector.forget()
            case Person(side=name):
                await self._sides[name].decide()
            case Pausing(side=name, account=account, for_s=for_s):
                await self._sides[name].pause(account, paused=True)
                await anyio.sleep(for_s)
                await self._sides[name].pause(account, paused=False)

    async def _be_away(self, outage: Outage) -> None:
        workers = self._sides[outage.side].workers
        away = [w for number, w in enumerate(workers) if outage.worker in {None, number}]
        for worker in away:
            self._diary.fault("store outage", f"{worker.name}: its store is away for {outage.for_s:g} s")
            worker.store.unreachable = True
        await anyio.sleep(outage.for_s)
        for worker in away:
            worker.store.unreachable = False

    async def _until_all_is_done(self) -> None:
        with anyio.move_on_after(IN_PEACE_S):
            while not self._is_all_done():
                await anyio.sleep(60.0)
                for side in self._sides.values():
                    await side.decide()

    def _is_all_done(self) -> bool:
        txs = self._ledger.transactions().values()
        moving = any(fate in {Fate.WAITING, Fate.INCLUDED} for _, fate in txs)
        return self._network.is_quiet and not moving and not judge_the_end(self._sides, self._ledger, self._setting)

    # making the parts

    def _new_side(self, name: str) -> Side:
        setting = self._setting
        books = SharedBooks(self.now, shared=setting.shared)
        config = CoreConfig(
            stop_after_doubts=0,  # lives hold more doubts than any operator would bear
            max_entries=setting.max_entries,
            connector_scale=setting.connector_scale,
            credit_cap=setting.credit_cap,
            lease_s=60.0,
            poll_s=20.0,
            shutdown_s=5.0,
        )
        return Side(
            name=name,
            books=books,
            connector=Connector(name, self.now, self._diary, setting.forgetful_after_s),
            witness=Witness(name, books, self._diary, self._violations),
            ledger=self._ledger,
            network=self._network,
            diary=self._diary,
            config=config,
        )

    def _new_worker(self, side: Side, number: int, seed: int) -> Worker:
        name = f"{side.name}{number}.{self._lives}"
        peer = next(other for other in self._sides.values() if other is not side)
        worker: Worker

        def power_fails() -> None:
            worker.alive = False
            worker.store.lost = True

        worker = Worker(
            name=name,
            side=side,
            peer=peer,
            store=WorkerStore(
                side.books,
                name,
                side=side.name,
                faults=self._network.faults,
                power_fails=power_fails,
                blame=side.witness.blame,
            ),
            connect=engine_of(
                worker=name,
                side=side.name,
                ledger=self._ledger,
                network=self._network,
                witness=side.witness,
                setting=self._setting,
                numbers=self._numbers,
            ),
            now=lambda: BEGAN_AT + self.now() + side.wall_ahead_s,
            chance=random.Random(seed).random,
        )
        return worker

    # looking from outside

    def credited(self, side: str, account: str) -> Decimal:
        """Return what a side's connector has credited to an account, each key once."""
        return total(amount for owner, amount in self._sides[side].connector.credited.values() if owner == account)

    def __repr__(self) -> str:
        sums = {
            name: [self._sides[name].books.ask(Overview(account_id=account)) for account in ACCOUNTS] for name in SIDES
        }
        return f"<System after {self._lives} lives: {sums}>"


@contextmanager
def _virtual_chance(seed: int) -> Iterator[None]:
    """Have the journal's jitter follow the seed, and its own look at the clock follow virtual time."""
    before, clock = random.getstate(), vars(journal)["monotonic"]
    random.seed(seed)
    vars(journal)["monotonic"] = anyio.current_time
    try:
        yield
    finally:
        vars(journal)["monotonic"] = clock
        random.setstate(before)
