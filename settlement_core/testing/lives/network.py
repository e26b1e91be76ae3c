"""Messages between the parties: each may be lost, late, doubled or answered with an error, and outlives who sent it."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any

import anyio

from settlement_core.testing.lives.diary import Diary
from settlement_core.testing.lives.script import Fault, Mishap, Place

__all__ = ["AnsweredError", "Faults", "Network", "NoAnswer"]

LATENCY_S = 0.05
TIMEOUT_S = 10.0

Reply = Callable[[object], None]


class NoAnswer(Exception):
    """Nobody answered in time: whether it arrived is unknown."""


class AnsweredError(Exception):
    """The other party answered with an error; `status` is what its HTTP server would say."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"answered with status {status}")


class Faults:
    """The faults of one life, by the order of what happens at each place."""

    def __init__(self, faults: tuple[Fault, ...], diary: Diary) -> None:
        self._planned = {
            (fault.side, fault.place, fault.nth + more): fault
            for fault in reversed(faults)
            for more in range(fault.times)
        }
        self._seen: dict[tuple[str, Place], int] = {}
        self._diary = diary

    def draw(self, side: str, place: Place) -> Fault | None:
        """Return what goes wrong here now."""
        nth = self._seen[side, place] = self._seen.get((side, place), 0) + 1
        fault = self._planned.get((side, place, nth))
        if fault is not None:
            self._diary.fault(f"{place} {fault.mishap}", f"{side}: {place} {nth} {fault.mishap} ({fault.extra})")
        return fault


class Network:
    """Delivers messages in order of their times, also those of earlier lives."""

    def __init__(self, now: Callable[[], float], diary: Diary) -> None:
        self.faults = Faults((), diary)
        self._now = now
        self._diary = diary
        self._under_way: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._wake: anyio.Event | None = None
        self._latest: dict[tuple[str, Place], int] = {}

    def post(self, delay_s: float, deliver: Callable[[], None]) -> None:
        """Have something done later, whatever becomes of who asks for it."""
        heapq.heappush(self._under_way, (self._now() + delay_s, next(self._numbers), deliver))
        if self._wake is not None:
            self._wake.set()

    @property
    def is_quiet(self) -> bool:
        """Tell whether nothing is under way."""
        return not self._under_way

    async def run(self) -> None:
        """Deliver; never returns."""
        while True:
            self._wake = anyio.Event()
            while self._under_way and self._under_way[0][0] <= self._now():
                heapq.heappop(self._under_way)[2]()
            if self._under_way:
                # never 0, however the difference of the two is rounded
                with anyio.move_on_after(max(self._under_way[0][0] - self._now(), 1e-6)):
                    await self._wake.wait()
            else:
                await self._wake.wait()

    async def call(
        self, side: str, place: Place, arrive: Callable[[Reply], None], *, fails: Callable[[], None] = lambda: None
    ) -> Any:
        """Send a message and return its answer, a value given to `reply`, or raise it if it is an exception.

        Raises `NoAnswer` after 10 seconds; the message may arrive later all the same. `fails` is called if what is
        asked is to fail for good where it arrives.
        """
        fault, number = self.faults.draw(side, place), next(self._numbers)
        message = _Message(self, side=side, place=place, arrive=arrive, fault=fault, number=number)
        if message.mishap is Mishap.FAILS:
            fails()
        message.send()
        with anyio.move_on_after(TIMEOUT_S):
            await message.answered.wait()
        if not message.answers:
            raise NoAnswer(f"no answer to {place} within {TIMEOUT_S:g} s")
        if isinstance(message.answers[0], Exception):
            raise message.answers[0]
        return message.answers[0]

    def note_arrival(self, side: str, place: Place, number: int) -> None:
        """Count a message that others overtook."""
        latest = self._latest.get((side, place), 0)
        if number < latest:
            self._diary.count("reordered")
        self._latest[side, place] = max(number, latest)


class _Message:
    """One message, and what comes back."""

    def __init__(
        self,
        network: Network,
        *,
        side: str,
        place: Place,
        arrive: Callable[[Reply], None],
        fault: Fault | None,
        number: int,
    ) -> None:
        self.mishap = None if fault is None else fault.mishap
        self.answered = anyio.Event()
        self.answers: list[object] = []
        self._network = network
        self._side = side
        self._place = place
        self._arrive = arrive
        self._extra = 0 if fault is None else fault.extra
        self._number = number

    def send(self) -> None:
        """Post it, as often and as late as its fault says."""
        post, late = self._network.post, LATENCY_S + self._extra
        match self.mishap:
            case Mishap.LOST_REQUEST:
                pass
            case Mishap.ERROR:
                post(LATENCY_S, lambda: self._reply(AnsweredError(self._extra)))
            case Mishap.LATE:
                post(late, self._there)
            case Mishap.TWICE:
                post(LATENCY_S, self._there)
                post(late, self._there)
            case _:
                post(LATENCY_S, self._there)

    def _there(self) -> None:
        self._network.note_arrival(self._side, self._place, self._number)
        self._arrive(self._reply)

    def _reply(self, value: object) -> None:
        if self.mishap is Mishap.ERROR_AFTER:
            value = AnsweredError(self._extra)
        if self.mishap is not Mishap.LOST_REPLY:
            self._network.post(LATENCY_S, lambda: self._back(value))

    def _back(self, value: object) -> None:
        self.answers.append(value)
        self.answered.set()
