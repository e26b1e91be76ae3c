"""What may go wrong between an engine and its connector, decided beforehand and repeatable by seed."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from settlement_core.testing.connector._wire import DROP, JSON, Answer

__all__ = [
    "Fault",
    "Faults",
    "Incoming",
    "answer_instead",
    "answer_late",
    "deliver_twice",
    "lose_reply",
    "lose_request",
    "next_fault",
    "random_faults",
    "reply_garbage",
]


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request a fault may befall: the `number`-th, from 0, that this connector was sent."""

    kind: Literal["credit", "message"]
    account_id: str
    key: str | None
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What befalls one request.

    Attributes:
        times: how often the connector acts on it; 0 if it never gets there.
        delay_s: seconds between acting and answering.
        answer: what is answered instead of the truth, `DROP` for nothing.
    """

    times: int = 1
    delay_s: float = 0.0
    answer: Answer | None = None


Faults: TypeAlias = deque[Fault | None] | Callable[[Incoming], Fault | None]
"""A queue, one place per request and None for a good one, or a function deciding for each."""


def next_fault(faults: Faults, incoming: Incoming) -> Fault | None:
    """Return what befalls this request. An exhausted queue lets everything pass."""
    if isinstance(faults, deque):
        return faults.popleft() if faults else None
    return faults(incoming)


def lose_request() -> Fault:
    """Return: the connection closes before the connector acts."""
    return Fault(times=0, answer=DROP)


def lose_reply() -> Fault:
    """Return: the connector acts, and the connection closes before it answers."""
    return Fault(answer=DROP)


def answer_late(delay_s: float) -> Fault:
    """Return: the connector acts at once and answers the truth `delay_s` seconds later."""
    return Fault(delay_s=delay_s)


def answer_instead(status: int, body: bytes = b"", *, acting: bool = False) -> Fault:
    """Return: this answer, whether or not the connector acts."""
    return Fault(times=int(acting), answer=Answer(status, body, {"content-type": "text/plain"}))


def deliver_twice() -> Fault:
    """Return: the network repeats the request; the second answer arrives."""
    return Fault(times=2)


def reply_garbage(status: int = 201, *, seed: int = 0, size: int = 64, acting: bool = True) -> Fault:
    """Return: the connector acts, and answers bytes that only claim to be JSON."""
    noise = random.Random(seed).randbytes(size)
    return Fault(times=int(acting), answer=Answer(status, noise, {"content-type": JSON}))


def random_faults(seed: int, *, rate: float = 0.3, delay_s: float = 0.05) -> Callable[[Incoming], Fault | None]:
    """Return a function that lets a fault befall about `rate` of all requests, the same for the same seed.

    It decides by seed and number alone, so one request more or less changes nothing for the others. All of them
    are faults after which a credit is repeated: no honest connector answers "never" to a good credit.
    """
    kinds: tuple[Callable[[], Fault], ...] = (
        lose_request,
        lose_reply,
        lambda: answer_late(delay_s),
        lambda: answer_instead(503),
        lambda: answer_instead(502, acting=True),
        lambda: answer_instead(429),
        deliver_twice,
        lambda: reply_garbage(seed=seed),
    )

    def decide(incoming: Incoming) -> Fault | None:
        chance = random.Random(f"{seed}/{incoming.number}")
        return chance.choice(kinds)() if chance.random() < rate else None

    return decide
