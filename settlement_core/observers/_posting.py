"""One signed POST, and whether it was taken. What is told of it names neither the URL's path nor the answer."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from settlement_core.outbound.client import NoReply, Outbound, open_outbound
from settlement_core.outbound.trust import StrPath, make_trust
from settlement_core.outbound.urls import CheckedUrl, check_proxy, check_url

if TYPE_CHECKING:
    import httpx2

__all__ = ["Receiver", "open_receiver", "sign_webhook"]

MAX_ANSWER: Final = 64 * 1024
"""Bytes of an answer that are read, so that the connection can be used again; what they say does not matter."""


def sign_webhook(secret: str, body: bytes, *, at: int) -> str:
    """Return the value of `Settlement-Signature` for a body sent `at` so many seconds since 1970."""
    code = hmac.new(secret.encode(), b"%d." % at + body, hashlib.sha256)
    return f"t={at},v1={code.hexdigest()}"


class Receiver:
    """Who is sent webhooks; `open_receiver` gives one."""

    def __init__(self, outbound: Outbound, target: CheckedUrl) -> None:
        self._outbound = outbound
        self._target = target
        self.origin = target.origin

    async def post(self, body: bytes, *, signature: str) -> str | None:
        """Send once; return None if it was taken, else why not, without a secret or a word of the answer."""
        headers = {"Content-Type": "application/json", "Settlement-Signature": signature}
        reply = await self._outbound.post(self._target.url, body, headers=headers, max_bytes=MAX_ANSWER)
        if isinstance(reply, NoReply):
            return reply.reason
        return None if 200 <= reply.status < 300 else f"status {reply.status}"


@asynccontextmanager
async def open_receiver(
    url: str,
    *,
    timeout_s: float,
    connections: int,
    ca_file: StrPath | None,
    proxy: str | None,
    transport: httpx2.AsyncBaseTransport | None,
) -> AsyncIterator[Receiver]:
    """Give the receiver at a URL; raise `LocalError` if any of these cannot be used."""
    target = check_url(
        url, "webhook URL", example="https://receiver.example/hook", instead="messages are signed instead"
    )
    through = check_proxy(proxy, "webhook proxy")
    async with open_outbound(
        target,
        timeout_s=timeout_s,
        trust=make_trust(target, ca_file=ca_file, proxy=through),
        max_connections=connections,
        ca_option="--webhook-ca",
        proxy=through,
        transport=transport,
    ) as outbound:
        yield Receiver(outbound, target)
