"""Calling foreign code: every way it can end becomes a value or a clean cancellation."""

from __future__ import annotations

import asyncio
import logging
from typing import NoReturn

import anyio
import pytest
import sniffio

from settlement_core.core.effects import Failed, describe, perform

pytestmark = pytest.mark.anyio


async def test_a_value_is_returned() -> None:
    """Nothing happens to it."""

    async def call() -> int:
        return 7

    assert await perform(call, misbehaved=print) == 7


async def test_what_foreign_code_raised_is_in_the_debug_log_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whoever looks for the line in their engine finds it there."""
    error = ValueError("a")

    async def call() -> NoReturn:
        raise error

    with caplog.at_level(logging.DEBUG, "settlement_core"):
        failed = await perform(call, misbehaved=print)
    assert isinstance(failed, Failed)
    assert failed.error is error
    (record,) = caplog.records
    assert (record.name, record.levelname, record.message) == ("settlement_core", "DEBUG", "foreign code raised")
    assert record.exc_info is not None
    assert record.exc_info[1] is error


async def test_a_group_of_errors_is_one_failure() -> None:
    """It is described by its parts."""

    async def call() -> NoReturn:
        raise ExceptionGroup("x", [ValueError("a\nb"), ExceptionGroup("y", [KeyError()])])

    failed = await perform(call, misbehaved=print)
    assert isinstance(failed, Failed)
    assert failed.reason == "ValueError: a b; KeyError"
    assert describe(RuntimeError("x" * 1000)) == "RuntimeError: " + "x" * 500


async def test_errors_beside_our_cancellation_are_told_and_the_cancellation_goes_on() -> None:
    """A group of both would otherwise break the task group above."""
    told: list[str] = []

    async def call() -> NoReturn:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class() as cancelled:
            raise BaseExceptionGroup("both", [cancelled, ValueError("beside")]) from None
        raise AssertionError("unreachable")

    with anyio.CancelScope() as scope:
        scope.cancel()
        await perform(call, misbehaved=told.append)
    assert scope.cancelled_caught
    assert told == ["ValueError: beside"]


async def test_an_exit_beside_a_cancellation_is_not_swallowed() -> None:
    """SystemExit and KeyboardInterrupt leave through every layer."""

    async def call() -> NoReturn:
        raise BaseExceptionGroup("both", [SystemExit(3), ValueError("beside")])

    told: list[str] = []
    with pytest.raises(BaseExceptionGroup) as caught:
        await perform(call, misbehaved=told.append)
    assert [type(error) for error in caught.value.exceptions] == [SystemExit]
    assert told == ["ValueError: beside"]


@pytest.mark.parametrize("grouped", [False, True])
async def test_a_cancellation_that_nobody_asked_for_is_a_failure(grouped: bool) -> None:
    """On asyncio a library may raise CancelledError by itself; taken as ours it would end the account unseen."""
    if sniffio.current_async_library() != "asyncio":
        pytest.skip("trio has no such thing")

    async def call() -> NoReturn:
        error = asyncio.CancelledError("the future was cancelled")
        raise BaseExceptionGroup("of one", [error]) if grouped else error

    failed = await perform(call, misbehaved=print)
    assert isinstance(failed, Failed)
    assert "CancelledError: the future was cancelled" in failed.reason


class _MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_an_error_whose_text_cannot_be_read_is_described_all_the_same() -> None:
    """A payment must not stay open because the error about it is broken as well; half characters become escapes."""
    assert describe(_MuteError()) == "_MuteError: its text cannot be read"
    assert describe(ValueError("\udcff")) == r"ValueError: \udcff"
    assert Failed(ExceptionGroup("", [_MuteError()])).words_if_only(_MuteError) == "its text cannot be read"
