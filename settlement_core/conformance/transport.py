"""Checks of HTTP itself: versions, connections, and requests that are none."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

import anyio

from settlement_core.conformance.client import JSON, open_client
from settlement_core.conformance.findings import Deviation, Level, NotObserved, check, demand
from settlement_core.conformance.world import World, new_key

__all__ = ["CHECKS"]

_STRANGE: Final = (
    *(("GET", "/"), ("HEAD", "/"), ("GET", "/accounts"), ("PUT", "/accounts"), ("OPTIONS", "/accounts")),
    *(("GET", "/accounts/{id}"), ("POST", "/accounts/{id}"), ("POST", "/accounts/{id}/nothing")),
    *(("GET", "/accounts/{id}/settlements"), ("HEAD", "/accounts/{id}/messages"), ("DELETE", "/accounts")),
    *(("POST", "/accounts//settlements"), ("GET", "/accounts/%zz"), ("GET", "/?q=%ff")),
)

_NOTICE_S: Final = 1.0
"""How long an engine is given to notice that a request was cut off, and to hang up as well."""


@check(
    "transport.http2",
    Level.SHOULD,
    "Settlement Engine HTTP API",
    "HTTP/2 is spoken",
)
async def http2(world: World) -> str:
    """Open an account by HTTP/2: by prior knowledge over http, by ALPN over https."""
    body = json.dumps({"id": await world.account("http2")}).encode()
    async with open_client(world.client.url, ca_file=world.options.ca_file, http2=True) as client:
        answer = await client.send("POST", "/accounts", body, {"content-type": JSON})
    demand(answer.status, f"it is not: {answer}")
    demand(answer.ok and answer.version == "HTTP/2", f"answered {answer}, by {answer.version}")
    return f"answered {answer.status} by HTTP/2"


@check(
    "transport.keep-alive",
    Level.EXPECTED,
    "Settlement Engine HTTP API",
    "connections are kept open",
)
async def keep_alive(world: World) -> str:
    """See whether a connection is kept for the next request."""
    answer = await world.settle(await world.account("http"))
    if not answer.status:
        raise NotObserved(str(answer))
    closed = "close" in answer.headers.get("connection", "").lower() or answer.version == "HTTP/1.0"
    demand(not closed, f"answered by {answer.version} with Connection: close")
    return f"{answer.version} connections are kept"


@check(
    "transport.strange",
    Level.EXPECTED,
    "Settlement Engine HTTP API",
    "other paths and methods are no failure",
)
async def strange(world: World) -> str:
    """Use paths and methods that are not RFC 38's."""
    account_id = await world.account("http")
    failed = []
    for method, path in _STRANGE:
        answer = await world.client.send(method, path.format(id=account_id))
        if answer.fails:
            failed.append(f"{method} {path} with {answer}")
    demand(not failed, f"answered {'; '.join(failed)}")
    return f"none of {len(_STRANGE)} was answered 5xx"


@check(
    "transport.cut-off",
    Level.EXPECTED,
    "Settlement Engine HTTP API",
    "requests that are cut off do no harm",
)
async def cut_off(world: World) -> str:
    """Hang up in the middle of requests, and then ask for a settlement."""
    target = urlsplit(world.client.url)
    if target.scheme != "http" or target.hostname is None:
        raise NotObserved("only tried over http")
    account_id = await world.account("http")
    head = (
        f"POST {target.path}/accounts/{account_id}/settlements HTTP/1.1\r\nHost: {target.netloc}\r\n"
        f"Content-Type: {JSON}\r\nIdempotency-Key: {new_key()}\r\nContent-Length: 40\r\n\r\n"
    ).encode()
    for part in (head[:10], head[:-30], head, head + b'{"amount":'):
        try:
            async with await anyio.connect_tcp(target.hostname, target.port or 80) as stream:
                await stream.send(part)
                await stream.send_eof()
                # so that it has seen our end before it is asked for the next settlement
                with anyio.move_on_after(_NOTICE_S), suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                    while True:
                        await stream.receive()
        except (OSError, anyio.BrokenResourceError) as error:
            raise Deviation(f"cannot connect any more: {error}") from None
    answer = await world.settle(account_id)
    demand(answer.ok, f"the next settlement was answered {answer}")
    return "the next settlement was accepted"


CHECKS = (http2, keep_alive, strange, cut_off)
