"""Calling foreign code: whatever it does becomes a value or a clean cancellation, never a half-raised group."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import anyio

from settlement_core.values.texts import whole_text

__all__ = ["Failed", "describe", "perform", "perform_within"]

T = TypeVar("T")

logger = logging.getLogger("settlement_core")


@dataclass(frozen=True, slots=True)
class Failed:
    """Foreign code raised; what it had done by then is unknown, unless the kind of all its errors says so."""

    error: BaseException

    @property
    def reason(self) -> str:
        """Return what happened in one line."""
        return describe(self.error)

    def log_unknown(self, doing: str) -> None:
        """Log where it was raised: whoever has to find out what became of `doing` begins there."""
        logger.warning("%s raised, and what it had done by then is not known", doing, exc_info=self.error)

    def words_if_only(self, kind: type[Exception]) -> str | None:
        """Return the messages of the errors if all of them are of this kind, else None.

        A task group wraps the error of a child task in an exception group, also in groups within groups. A group that
        holds anything else means that something else happened, too.
        """
        errors = list(_leaves(self.error))
        return "; ".join(map(_words, errors)) if all(isinstance(error, kind) for error in errors) else None


async def perform(call: Callable[[], Awaitable[T]], *, misbehaved: Callable[[str], None]) -> T | Failed:
    """Await `call`; return its value, or `Failed` if it raised.

    Our own cancellation goes through as such. Errors raised beside it are told to `misbehaved` first, since
    nobody above could do anything with a group of both. On asyncio, code may also raise a cancellation that
    nobody asked for; that is a failure like any other.
    """
    try:
        return await call()
    except Exception as error:
        logger.debug("foreign code raised", exc_info=error)
        return Failed(error)
    except anyio.get_cancelled_exc_class() as error:
        if anyio.get_current_task().has_pending_cancellation():
            raise
        return Failed(error)
    except BaseExceptionGroup as group:
        errors, rest = group.split(Exception)
        if errors is not None:
            misbehaved(describe(errors))
        assert rest is not None, "a group of Exceptions only is an Exception"
        other = rest.split(anyio.get_cancelled_exc_class())[1]
        if other is not None:
            raise other from None
        if not anyio.get_current_task().has_pending_cancellation():
            return Failed(group)
        raise next(_leaves(rest)) from None


async def perform_within(
    deadline_s: float, call: Callable[[], Awaitable[T]], *, misbehaved: Callable[[str], None]
) -> T | Failed:
    """Await `call` for a caller of ours; as `perform`, and `Failed` with a TimeoutError once `deadline_s` have passed.

    The caller's task may be cancelled by asyncio itself (`task.cancel()`, `asyncio.timeout`). In a task of its own
    `call` cannot be mistaken for the source of that, so it reaches the caller.
    """
    answer: list[T | Failed] = []

    async def run() -> None:
        answer.append(await perform(call, misbehaved=misbehaved))

    with anyio.move_on_after(deadline_s):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run, name="asking the engine")
    return answer[0] if answer else Failed(TimeoutError(f"no answer within {deadline_s:g} s"))


def describe(error: BaseException) -> str:
    """Return an error, or a group of them, as one line that names the types."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(describe(part) for part in error.exceptions)
    text = " ".join(_words(error).split())[:500]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _words(error: BaseException) -> str:
    try:
        return whole_text(error)
    except Exception:  # noqa: BLE001 - foreign code as well
        return "its text cannot be read"


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _leaves(part)
    else:
        yield error
