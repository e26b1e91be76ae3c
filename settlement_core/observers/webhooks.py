"""Events as signed HTTP messages to one URL: each until it was taken, those of one account in order.

From the moment it is queued, a message is delivered at least once, as long as the process lives and for at most
`give_up_after_s`. The queue is bounded and in memory: what finds it full is dropped, counted and logged. The store
remains the truth, which the operator's API tells. A receiver has to:

* check the signature, `Settlement-Signature: t=SECONDS,v1=HEX`: HMAC-SHA256, under the shared secret, of the seconds
  since 1970 as written, a full stop, and the body as it came; and refuse what is older than a few minutes;
* know the `id` of what it has handled: the same message may come twice;
* answer 2xx within the timeout. Anything else, redirects included, has the message sent again.
"""

from __future__ import annotations

import logging
import random
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import anyio
from anyio.abc import TaskGroup

from settlement_core.observers._messages import message_of
from settlement_core.observers._posting import open_receiver, sign_webhook
from settlement_core.outbound.trust import StrPath
from settlement_core.values.backoff import Backoff
from settlement_core.values.errors import LocalError
from settlement_core.values.events import CoreStarted, Event

if TYPE_CHECKING:
    import httpx2

__all__ = ["WEBHOOK_BACKOFF", "WebhookStatistics", "Webhooks", "open_webhooks", "sign_webhook"]

logger = logging.getLogger("settlement_core")

WEBHOOK_BACKOFF: Final = Backoff(first_s=1.0, max_s=300.0)
"""A receiver that was restarted is tried again soon; one that is down for long, every few minutes."""

DAY_S: Final = 24 * 3600.0

AT_ONCE: Final = 8
"""Messages on their way at the same time, each of another account."""

MIN_SECRET: Final = 16
"""Characters; shorter secrets can be guessed from one message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookStatistics:
    """A snapshot of messages, `queued` now and the others since the start.

    `dropped` ones found the queue full, `abandoned` ones became too old or were left at the end.
    """

    queued: int
    delivered: int
    tries_failed: int
    dropped: int
    abandoned: int


@dataclass(frozen=True, slots=True)
class _Message:
    body: bytes
    give_up_at: float


class Webhooks:
    """An `Observer` that sends what it hears of; `open_webhooks` gives one. An idle account has no task."""

    def __init__(
        self,
        tasks: TaskGroup,
        send: Callable[[bytes], Awaitable[str | None]],
        *,
        origin: str,
        backoff: Backoff,
        max_queued: int,
        give_up_after_s: float,
        now: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self._tasks = tasks
        self._send = send
        self._origin = origin
        self._backoff = backoff
        self._max_queued = max_queued
        self._give_up_after_s = give_up_after_s
        self._now = now
        self._chance = chance
        self._queues: dict[str, deque[_Message]] = {}
        self._at_once = anyio.Semaphore(AT_ONCE)
        self._closing = anyio.Event()
        self._idle = anyio.Event()
        self._ended = False
        self._failing = False
        self._dropped_in_a_row = 0
        self._asset = ""
        self._queued = self._delivered = self._tries_failed = self._dropped = self._abandoned = 0

    def __repr__(self) -> str:
        """Show where it points, but no path: that may be a secret."""
        return f"<Webhooks to {self._origin}, {self._queued} queued>"

    def observe(self, event: Event) -> None:
        """Queue the event's message, if it has one and there is room."""
        if isinstance(event, CoreStarted):
            self._asset = event.asset
        found = message_of(event)
        if found is None:
            return
        if self._ended or self._queued >= self._max_queued:
            self._drop()
            return
        self._tell_dropped()
        body = found.to_json(message_id=str(uuid.uuid4()), at=self._now(), asset=self._asset)
        message = _Message(body, anyio.current_time() + self._give_up_after_s)
        self._queued += 1
        queue = self._queues.get(found.account_id)
        if queue is None:
            queue = self._queues[found.account_id] = deque()
            self._tasks.start_soon(self._deliver_all, found.account_id, name=f"webhooks of {found.account_id or 'all'}")
        queue.append(message)

    def statistics(self) -> WebhookStatistics:
        """Return a snapshot."""
        return WebhookStatistics(
            queued=self._queued,
            delivered=self._delivered,
            tries_failed=self._tries_failed,
            dropped=self._dropped,
            abandoned=self._abandoned,
        )

    async def drain(self, deadline_s: float) -> None:
        """Try everything queued once more, without waiting for back-offs, until the deadline; then take no more."""
        self._closing.set()
        abandoned_before = self._abandoned
        try:
            with anyio.move_on_after(deadline_s):
                while self._queues:
                    self._idle = anyio.Event()
                    await self._idle.wait()
        finally:
            self._ended = True
            self._tell_dropped()
            self._abandoned += self._queued
            left = self._abandoned - abandoned_before
            if left:
                logger.error("webhooks to %s: ending with %d messages not delivered", self._origin, left)

    async def _deliver_all(self, account_id: str) -> None:
        queue = self._queues[account_id]
        while queue:
            await self._deliver(queue[0])
            queue.popleft()
            self._queued -= 1
        del self._queues[account_id]
        self._idle.set()

    async def _deliver(self, message: _Message) -> None:
        """Return once the message was taken, or is too old."""
        failures = 0
        while True:
            async with self._at_once:
                problem = await self._send(message.body)
            if problem is None:
                self._succeeded()
                return
            failures += 1
            self._failed(problem)
            delay_s = self._backoff.delay_s(failures, self._chance())
            if self._closing.is_set():
                self._abandoned += 1
                return
            if anyio.current_time() + delay_s > message.give_up_at:
                self._abandoned += 1
                logger.error("webhooks to %s: gave a message up after %d tries: %s", self._origin, failures, problem)
                return
            with anyio.move_on_after(delay_s):
                await self._closing.wait()

    def _succeeded(self) -> None:
        self._delivered += 1
        if self._failing:
            self._failing = False
            logger.info("webhooks to %s are taken again", self._origin)

    def _failed(self, problem: str) -> None:
        self._tries_failed += 1
        # once for all messages that wait for the same receiver
        if not self._failing:
            self._failing = True
            logger.warning("webhooks to %s fail, and are sent again later: %s", self._origin, problem)

    def _drop(self) -> None:
        self._dropped += 1
        if not self._dropped_in_a_row:
            logger.error("webhooks to %s: no room for more than %d, dropping", self._origin, self._max_queued)
        self._dropped_in_a_row += 1

    def _tell_dropped(self) -> None:
        if self._dropped_in_a_row:
            logger.error("webhooks to %s: dropped %d messages", self._origin, self._dropped_in_a_row)
            self._dropped_in_a_row = 0


@asynccontextmanager
async def open_webhooks(
    url: str,
    secret: str,
    *,
    backoff: Backoff = WEBHOOK_BACKOFF,
    timeout_s: float = 10.0,
    max_queued: int = 10_000,
    give_up_after_s: float = DAY_S,
    drain_s: float = 5.0,
    now: Callable[[], float] = time.time,
    chance: Callable[[], float] = random.random,
    ca_file: StrPath | None = None,
    proxy: str | None = None,
    transport: httpx2.AsyncBaseTransport | None = None,
) -> AsyncIterator[Webhooks]:
    """Give an `Observer` that posts events to a URL; open it around the core, to hear the last events too.

    On leaving the block, what is queued is tried once more within `drain_s` seconds, and the rest given up and logged;
    if the block is cancelled, at once.

    Args:
        url: http:// or https://; a path or query in it may be secret, and is never shown.
        secret: known to the receiver, at least 16 characters; never shown.
        backoff: delays between tries of the same message.
        timeout_s: how long one try may take.
        max_queued: messages waiting at most; more are dropped.
        give_up_after_s: how long a message is tried.
        drain_s: see above.
        now: the wall clock, seconds since 1970.
        chance: random numbers in [0, 1) for jitter.
        ca_file: the PEM file of the only authorities to trust, instead of those of SSL_CERT_FILE or the system's.
        proxy: URL of the HTTP proxy to go through; none is taken from the environment.
        transport: instead of the network.

    Raises a `LocalError` if any of these cannot be used.
    """
    if len(secret) < MIN_SECRET:
        raise LocalError(f"a webhook secret has at least {MIN_SECRET} characters, this one {len(secret)}")
    async with (
        open_receiver(
            url, timeout_s=timeout_s, connections=AT_ONCE, ca_file=ca_file, proxy=proxy, transport=transport
        ) as receiver,
        anyio.create_task_group() as tasks,
    ):

        async def send(body: bytes) -> str | None:
            # signed anew for each try: the receiver refuses old signatures
            signature = sign_webhook(secret, body, at=int(now()))
            return await receiver.post(body, signature=signature)

        webhooks = Webhooks(
            tasks,
            send,
            origin=receiver.origin,
            backoff=backoff,
            max_queued=max_queued,
            give_up_after_s=give_up_after_s,
            now=now,
            chance=chance,
        )
        try:
            yield webhooks
        finally:
            await webhooks.drain(drain_s)
            tasks.cancel_scope.cancel()
