"""One signed POST, and whether it was taken. What is told of it names neither the URL's path nor the answer."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import anyio

from settlement_core.values.errors import LocalError

if TYPE_CHECKING:
    import httpx2

__all__ = ["check_url", "open_client", "post", "sign_webhook"]

MAX_ANSWER: Final = 64 * 1024
"""Bytes of an answer that are read, so that the connection can be used again; what they say does not matter."""


def open_client(
    *, timeout_s: float, connections: int, transport: httpx2.AsyncBaseTransport | None
) -> httpx2.AsyncClient:
    """Return a client, to be opened, that keeps so many connections; it asks no proxy and no .netrc."""
    import httpx2  # noqa: PLC0415 - only who opens webhooks pays for it

    return httpx2.AsyncClient(
        headers={"Accept-Encoding": "identity", "User-Agent": "settlement-core", "Content-Type": "application/json"},
        timeout=timeout_s,
        limits=httpx2.Limits(max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=4.0),
        trust_env=False,
        transport=transport,
    )


def sign_webhook(secret: str, body: bytes, *, at: int) -> str:
    """Return the value of `Settlement-Signature` for a body sent `at` so many seconds since 1970."""
    code = hmac.new(secret.encode(), b"%d." % at + body, hashlib.sha256)
    return f"t={at},v1={code.hexdigest()}"


async def post(client: httpx2.AsyncClient, url: str, body: bytes, *, signature: str, timeout_s: float) -> str | None:
    """Send once; return None if it was taken, else why not, without a word of the URL or the answer."""
    status: int | None = None
    problem = f"no answer within {timeout_s:g} s"
    try:
        with anyio.move_on_after(timeout_s):
            async with client.stream(
                "POST", url, content=body, headers={"Settlement-Signature": signature}
            ) as response:
                status = response.status_code
                await _read_off(response)
    except Exception as error:  # noqa: BLE001  whatever HTTP library or loop make of it, there is no answer
        problem = f"no answer: {type(error).__name__}"
    if status is None:
        return problem
    # which stands, whatever became of the body
    return None if 200 <= status < 300 else f"status {status}"


async def _read_off(response: httpx2.Response) -> None:
    """Read the rest, but not for ever."""
    size = 0
    with anyio.CancelScope() as reading:
        async for chunk in response.aiter_raw():
            size += len(chunk)
            if size > MAX_ANSWER:
                # not `break`, which would leave httpx's generators to the garbage collector; trio rejects that
                reading.cancel()


def check_url(url: str) -> str:
    """Return scheme and host of a usable URL, or raise LocalError with a sentence that tells no secret."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise LocalError("cannot use the webhook URL: it has no valid host and port") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise LocalError("cannot use the webhook URL: it must begin with http:// or https:// and a host")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise LocalError("cannot use the webhook URL: it holds spaces or characters outside ASCII")
    if parts.username is not None or parts.password is not None:
        raise LocalError("cannot use the webhook URL: it names a user; messages are signed instead")
    return f"{parts.scheme}://{parts.netloc}"
