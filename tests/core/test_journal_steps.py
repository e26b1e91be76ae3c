"""Stores that tell where they wait: only the waits are made in a thread."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any

import anyio
import anyio.to_thread
import pytest

from settlement_core.abc import Arrival
from settlement_core.core.journal import open_journal
from settlement_core.stores._steps import make_waits
from settlement_core.values.commands import Command, Enqueue, Result
from settlement_core.values.errors import StoreBroken, StoreUnavailable
from tests.core.stores import FlakyStore
from tests.core.test_journal import enqueue, entered, opened
from tests.core.worlds import Ears

BACKENDS = pytest.mark.parametrize("backend", ["trio", "asyncio"])


class SteppedFlakyStore(FlakyStore):
    """Waits twice a batch; applies between its waits. Remembers which thread did what."""

    def __init__(self, failures: Sequence[Exception] = (), wait_s: float = 0.001) -> None:
        super().__init__(list(failures), threaded=True)
        self.wait_s = wait_s
        self.computed: set[int] = set()
        self.waited: set[int] = set()
        self.given_up = 0

    def apply(self, commands: Sequence[Command[Any]]) -> list[Result]:
        """Apply, making the waits here."""
        return make_waits(self.apply_in_steps(commands))

    def apply_in_steps(self, commands: Sequence[Command[Any]]) -> Generator[Callable[[], Any], Any, list[Result]]:
        """Wait, apply, wait."""
        self.batches.append(list(commands))
        try:
            assert (yield self._wait) == "waited"
            self.computed.add(threading.get_ident())
            results = self.inner.apply(commands)
            yield self._wait
        except OSError as problem:
            raise StoreUnavailable(f"the disk says {problem}") from problem
        except GeneratorExit:
            self.given_up += 1
            raise
        return results

    def _wait(self) -> str:
        self.waited.add(threading.get_ident())
        time.sleep(self.wait_s)
        if self.failures:
            raise self.failures.pop(0)
        return "waited"


class RemoteFlakyStore(FlakyStore):
    """Applies a batch once something has arrived from `far`, and wants to have it within `within_s`."""

    def __init__(self, within_s: float | None = None) -> None:
        super().__init__([], threaded=True)
        self.near, self.far = socket.socketpair()
        self.within_s = within_s
        self.given_up = 0

    def apply_in_steps(self, commands: Sequence[Command[Any]]) -> Generator[Callable[[], Any], Any, list[Result]]:
        """Wait, apply."""
        self.batches.append(list(commands))
        try:
            if not (yield Arrival(self.near.fileno(), self.within_s)):
                raise StoreUnavailable("nobody answered")
        except GeneratorExit:
            self.given_up += 1
            raise
        self.near.recv(1)
        return self.inner.apply(commands)

    def close(self) -> None:
        """Close both ends."""
        self.near.close()
        self.far.close()


@BACKENDS
def test_only_the_waits_of_a_stepped_store_are_made_in_a_thread(backend: str) -> None:
    """And what it returns reaches who asked."""
    store = SteppedFlakyStore()
    opened(store)

    async def main() -> None:
        async with open_journal(store, observer=Ears()) as journal, anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(journal.ask, enqueue(str(number)))

    anyio.run(main, backend=backend)
    assert entered(store) == 20
    assert store.computed == {threading.get_ident()}
    assert store.waited
    assert threading.get_ident() not in store.waited


@BACKENDS
def test_what_a_wait_raises_is_the_store_s_to_explain(backend: str) -> None:
    """A passing failure: the same batch again. One that nobody explains: the end."""
    store = SteppedFlakyStore([OSError("no room"), OSError("still no room")])
    opened(store)

    async def ask() -> None:
        async with open_journal(store, observer=Ears()) as journal:
            await journal.ask(enqueue("a"))

    anyio.run(ask, backend=backend)
    assert entered(store) == 1
    (again, *batches) = store.batches
    assert len(batches) == 2
    assert all(batch == again for batch in batches)
    store.failures.append(StoreBroken("the disk image is malformed"))
    with pytest.raises(ExceptionGroup) as caught:
        anyio.run(ask, backend=backend)
    assert caught.group_contains(StoreBroken, match="malformed")


@BACKENDS
def test_a_store_that_never_stops_failing_is_told_that_its_batch_is_given_up(backend: str) -> None:
    """At the end of the drain, and between two waits: nothing may be left half done."""
    store = SteppedFlakyStore(wait_s=0.2)
    opened(store)

    async def main() -> None:
        async with open_journal(store, observer=Ears(), drain_s=0.05) as journal:
            journal.submit(enqueue("a"))
            await anyio.sleep(0.05)

    with pytest.raises(ExceptionGroup) as caught:
        anyio.run(main, backend=backend)
    assert caught.group_contains(StoreUnavailable, match="1 commands were not recorded")
    assert store.given_up == 1


def test_whoever_makes_the_waits_at_once_gets_the_same() -> None:
    """Results, and failures as the store explains them."""
    store = SteppedFlakyStore()
    opened(store)
    command: Enqueue = enqueue("a")
    (result,) = store.apply([command])
    assert (result.amount, result.replay) == (1, False)
    store.failures.append(OSError("no room"))
    with pytest.raises(StoreUnavailable, match="the disk says no room"):
        store.apply([command])


@BACKENDS
def test_what_arrives_is_waited_for_without_a_thread(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop is free meanwhile, and nothing is applied before."""
    store = RemoteFlakyStore()
    opened(store)
    monkeypatch.setattr(anyio.to_thread, "run_sync", None)

    async def main() -> None:
        async with open_journal(store, observer=Ears()) as journal:
            handle = journal.submit(enqueue("a"))
            await anyio.wait_all_tasks_blocked()
            assert not handle.done
            assert entered(store) == 0
            store.far.send(b"!")
            await handle.wait()

    anyio.run(main, backend=backend)
    assert entered(store) == 1
    store.close()


@BACKENDS
def test_what_does_not_arrive_in_time_is_the_store_s_to_explain(backend: str) -> None:
    """Here: the same batch again."""
    store = RemoteFlakyStore(within_s=0.01)
    opened(store)
    ears = Ears()

    async def main() -> None:
        async with open_journal(store, observer=ears) as journal:
            handle = journal.submit(enqueue("a"))
            while len(store.batches) < 2:
                await anyio.sleep(0.01)
            store.far.send(b"!")
            await handle.wait()

    anyio.run(main, backend=backend)
    assert entered(store) == 1
    assert all(batch == store.batches[0] for batch in store.batches)
    store.close()


@BACKENDS
def test_what_never_arrives_does_not_hold_up_the_end(backend: str) -> None:
    """It is given up when the drain is over, and the store told."""
    store = RemoteFlakyStore()
    opened(store)

    async def main() -> None:
        async with open_journal(store, observer=Ears(), drain_s=0.05) as journal:
            journal.submit(enqueue("a"))
            await anyio.wait_all_tasks_blocked()

    with pytest.raises(ExceptionGroup) as caught:
        anyio.run(main, backend=backend)
    assert caught.group_contains(StoreUnavailable, match="1 commands were not recorded")
    assert store.given_up == 1
    store.close()


def test_an_arrival_can_be_waited_for_without_a_loop() -> None:
    """Something to read, the end of the stream, or nothing in time."""
    near, far = socket.socketpair()
    assert not Arrival(near.fileno(), 0.01)()
    far.send(b"!")
    assert Arrival(near.fileno(), None)()
    near.recv(1)
    far.close()
    assert Arrival(near.fileno(), 10)()
    near.close()
