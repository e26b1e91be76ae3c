"""Where a life can be struck: at the beginning, at every wait and at the end of every call an engine gets or makes.

The engine's code is not changed. Its calls are awaited step by step, so a strike falls exactly between two of them,
on trio and asyncio, in real and in virtual time.
"""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import anyio

__all__ = ["BEGINS", "ENDS", "ENGINE_CALLS", "SERVICE_CALLS", "Moment", "Watch", "Watched"]

BEGINS: Final = 0
ENDS: Final = -1

ENGINE_CALLS = frozenset({"setup_account", "prepare", "submit", "verify", "settle", "handle_message"})

SERVICE_CALLS = frozenset({"credit_settlement", "report_unattributed", "save", "send_message"})
"""What an engine asks of the core that leaves traces."""

_CALLS = 2
"""How many calls of one name are struck: `verify` differs before and after finality."""

_SAVES = 4
"""The same for calls of the services: the first of them are seldom the ones that matter."""

_WAITS = 3
"""Waits of one call that are struck, spread over all of them."""

_SHIELDED_S = 1.0
"""How long a call that was struck stays where it is, if it is shielded from its end."""

_MOST_CAUGHT = 100
"""Cancellations caught by one call after which it is abandoned."""

_HELD_S = 0.25
"""How long blocks wait for the engine to look at what it has submitted; some only look once there is a block."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A place in a life: the `number`th call of this name, at its `wait`th wait, or as it begins or ends."""

    call: str
    number: int
    wait: int

    def __str__(self) -> str:
        call = self.call if self.number == 1 else f"{self.call} number {self.number}"
        if self.wait == BEGINS:
            return f"as {call} began"
        if self.wait == ENDS:
            return f"as {call} had ended, but its answer was not heard"
        return f"in the middle of {call}"


class Watch:
    """Counts what one life does, strikes it at one moment, and keeps what was found wrong on the way.

    Args:
        moment: where to strike; nowhere by default.
        strike: called with this watch once, at the moment; it may cancel the life, or raise for a call to fail.
        hear: told the name, the arguments and the result of every call that returned.
    """

    def __init__(
        self,
        moment: Moment | None,
        strike: Callable[[Watch], None],
        hear: Callable[[str, tuple[Any, ...], Any], Awaitable[None]],
    ) -> None:
        self.problems: list[str] = []
        self.raised: list[tuple[str, Exception]] = []
        self.struck_at: float | None = None
        self.cancelled = False
        self.unstoppable = False
        self.blocks_at = anyio.current_time() + _HELD_S
        """When the ledger may go on: the engine is to see what it submitted before that is final."""
        self._moment = moment
        self._strike = strike
        self._hear = hear
        self._calls: Counter[str] = Counter()
        self._waits: dict[tuple[str, int], int] = {}

    def moments(self) -> list[Moment]:
        """Return where another life like this one can be struck."""
        found = []
        for (call, number), waits in self._waits.items():
            service = call in SERVICE_CALLS
            if number <= (_SAVES if service else _CALLS):
                places = [BEGINS, ENDS] if service else [BEGINS, *_spread(waits), ENDS]
                found += [Moment(call, number, place) for place in places]
        return found

    def calls_that_fail(self) -> list[Moment]:
        """Return the beginnings and ends of calls that may fail: those of the store's never do, they wait."""
        failing = ENGINE_CALLS | {"send_message"}
        return [moment for moment in self.moments() if moment.call in failing and moment.wait in {BEGINS, ENDS}]

    async def call(self, name: str, member: Callable[..., Awaitable[Any]], *args: Any, **more: Any) -> Any:
        """Await one call."""
        self._calls[name] += 1
        number = self._calls[name]
        self._waits[name, number] = 0
        if name in {"submit", "settle"}:
            self.blocks_at = anyio.current_time() + (_HELD_S if name == "submit" else 0.0)
        await self._pass(Moment(name, number, BEGINS))
        try:
            result = await _Steps(member(*args, **more), partial(self._step, name, number), self, name)
        except Exception as error:
            self.raised.append((name, error))
            raise
        if name == "verify":
            self.blocks_at = anyio.current_time()
        await self._hear(name, args, result)
        await self._pass(Moment(name, number, ENDS))
        return result

    def _step(self, name: str, number: int) -> None:
        self._waits[name, number] += 1
        self._reach(Moment(name, number, self._waits[name, number]))

    async def _pass(self, moment: Moment) -> None:
        if self._reach(moment) and self.cancelled:
            with anyio.move_on_after(_SHIELDED_S):
                await anyio.sleep_forever()

    def _reach(self, moment: Moment) -> bool:
        if moment != self._moment or self.struck_at is not None:
            return False
        self.struck_at = anyio.current_time()
        self._strike(self)
        return True


class Watched:
    """An engine, or the services it is given, under watch: it has exactly the members of what it stands for."""

    def __init__(self, target: object, calls: frozenset[str], watch: Watch) -> None:
        self._target = target
        self._calls = calls
        self._watch = watch

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._target, name)
        return partial(self._watch.call, name, member) if name in self._calls and callable(member) else member


class _Steps:
    """Awaits something, telling `on_wait` before each of its waits, and `watch` if it swallows its cancellation."""

    def __init__(self, awaited: Awaitable[Any], on_wait: Callable[[], None], watch: Watch, name: str) -> None:
        self._awaited = awaited
        self._on_wait = on_wait
        self._watch = watch
        self._name = name

    def __await__(self) -> Generator[Any, Any, Any]:
        steps: Any = self._awaited.__await__()
        step = partial(steps.send, None)
        caught = 0
        while True:
            try:
                waits_for = step()
            except StopIteration as end:
                if caught:
                    self._swallowed("returned as if nothing had happened")
                return end.value
            except Exception as error:
                if caught:
                    self._swallowed(f"raised {type(error).__name__} instead of letting it through")
                raise
            if caught >= _MOST_CAUGHT:
                self._swallowed(f"went on after catching it {caught} times")
                self._watch.unstoppable = True
                _keep_for_ever(steps)
                yield from anyio.sleep_forever().__await__()
            self._on_wait()
            try:
                value = yield waits_for
            except GeneratorExit:
                steps.close()
                raise
            except BaseException as thrown:  # noqa: BLE001 - all of it is the engine's to handle
                caught += self._is_cancellation(thrown)
                step = partial(steps.throw, thrown)
            else:
                caught += self._is_cancellation(getattr(value, "error", None))  # trio sends it as an outcome
                step = partial(steps.send, value)

    def _is_cancellation(self, thrown: BaseException | None) -> bool:
        return self._watch.cancelled and isinstance(thrown, anyio.get_cancelled_exc_class())

    def _swallowed(self, did: str) -> None:
        self._watch.problems.append(f"{self._name} swallows cancellation: cancelled, it {did}")


def _keep_for_ever(steps: object) -> None:
    """Leak a coroutine that cannot be stopped.

    The interpreter closes a coroutine as it frees it, at its own end at the latest. One that catches that as well
    would keep the process from ending.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(steps))


def _spread(waits: int) -> list[int]:
    """Return at most `_WAITS` numbers from 1 to `waits`, the first and the last among them."""
    if waits <= _WAITS:
        return list(range(1, waits + 1))
    return [1 + round(place * (waits - 1) / (_WAITS - 1)) for place in range(_WAITS)]
