"""One POST, one reply, within one deadline; the body is read raw and to a bound.

A reply of a few kilobytes never unfolds into megabytes: no content encoding is asked for, and none is unpacked. The
status stands however the body ends, so `Reply.flaw` says why a body is not whole, and nothing is raised.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import anyio

from settlement_core.outbound.trust import describe_failure
from settlement_core.outbound.urls import CheckedUrl, make_excerpter

if TYPE_CHECKING:
    import httpx2

__all__ = ["NoReply", "Outbound", "Reply", "open_outbound"]

IDLE_S: Final = 4.0
"""Seconds an idle connection is kept: below the 5 s after which common servers close it themselves."""

USUAL_HEADERS: Final = {"Accept-Encoding": "identity", "Connection": "keep-alive", "User-Agent": "settlement-core"}


@dataclass(frozen=True, slots=True)
class Reply:
    """A status, and as much of the body as was read.

    Attributes:
        status: HTTP's.
        headers: by name in lower case.
        body: raw bytes, at most as many as were allowed.
        flaw: why the body is not whole; "" if it is.
        too_long: whether that is because it is longer than allowed.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    flaw: str = ""
    too_long: bool = False

    @property
    def encoded(self) -> bool:
        """Return whether the body is in a content encoding, which was not asked for."""
        return self.headers.get("content-encoding", "identity").strip().lower() != "identity"


@dataclass(frozen=True, slots=True)
class NoReply:
    """No status came, for this reason; if `sent` is false, the request certainly never left."""

    reason: str
    sent: bool = True


class Outbound:
    """Sends requests to one server; `open_outbound` gives one, and ends its connections."""

    def __init__(
        self,
        transport: httpx2.AsyncBaseTransport,
        *,
        headers: Mapping[str, str],
        timeout_s: float,
        secrets: Iterable[str],
        ca_option: str,
    ) -> None:
        self._transport = transport
        self._headers = headers
        self._ca_option = ca_option
        self.timeout_s = timeout_s
        # of foreign words one short line, without what a careless server may echo of our secrets
        self.excerpt = make_excerpter(secrets)

    async def post(
        self, url: str, content: bytes, *, headers: Mapping[str, str], max_bytes: int, body_s: float | None = None
    ) -> Reply | NoReply:
        """Send one request, once, and return its reply, or why there is none, within the timeout.

        At most `max_bytes` of the body are returned, and at most `body_s` seconds of the timeout are spent on it.
        """
        import httpx2  # noqa: PLC0415  only who asks others pays for it

        deadline = anyio.current_time() + self.timeout_s
        request = httpx2.Request("POST", url, content=content, headers={**self._headers, **headers})
        try:
            # httpx's own timeouts begin anew with each byte; this one does not
            with anyio.fail_after(self.timeout_s):
                response = await self._transport.handle_async_request(request)
        except TimeoutError:
            return NoReply(f"no answer within {self.timeout_s:g} s")
        except httpx2.ConnectError as error:
            # there never was a connection
            return NoReply(self._no_answer(error), sent=False)
        except Exception as error:  # noqa: BLE001  whatever HTTP library or loop make of it, there is no answer
            return NoReply(self._no_answer(error))
        body_end = deadline if body_s is None else min(deadline, anyio.current_time() + body_s)
        try:
            return await _read(response, max_bytes, body_end)
        finally:
            with suppress(Exception):  # the status stands, however the connection ends
                await response.aclose()

    def _no_answer(self, error: Exception) -> str:
        if "Timeout" in type(error).__name__:
            return f"no answer within {self.timeout_s:g} s"
        return f"no answer: {self.excerpt(describe_failure(error, ca_option=self._ca_option))}"


async def _read(response: httpx2.Response, max_bytes: int, deadline: float) -> Reply:
    if response.status_code < 200:
        return Reply(response.status_code, response.headers, b"", "nobody asked to switch protocols")
    parts: list[bytes] = []
    size = 0
    flaw = "the answer did not end in time"
    with anyio.CancelScope(deadline=deadline) as reading:
        try:
            async with aclosing(response.aiter_raw()) as chunks:
                async for chunk in chunks:
                    size += len(chunk)
                    if size <= max_bytes:
                        parts.append(chunk)
                    else:
                        # Not `break`: httpx leaves the generators below its own to the garbage collector then,
                        # which trio rejects. A cancelled read unwinds all of them.
                        flaw = f"the answer is longer than {max_bytes} bytes"
                        reading.cancel()
            if size <= max_bytes:
                flaw = ""
        except Exception:  # noqa: BLE001  the status stands, whatever broke after it
            flaw = "the answer broke off"
    return Reply(response.status_code, response.headers, b"".join(parts), flaw, size > max_bytes)


@asynccontextmanager
async def open_outbound(
    target: CheckedUrl,
    *,
    timeout_s: float,
    trust: ssl.SSLContext,
    max_connections: int,
    ca_option: str,
    headers: Mapping[str, str] | None = None,
    secrets: Iterable[str] = (),
    proxy: CheckedUrl | None = None,
    transport: httpx2.AsyncBaseTransport | None = None,
) -> AsyncIterator[Outbound]:
    """Give what sends requests to a target. Runs on trio and on asyncio.

    Args:
        target: the server. Its user name and password, if it has them, are sent with every request.
        timeout_s: seconds that one call may take as a whole.
        trust: from `make_trust`.
        max_connections: connections at a time; further calls wait, within their timeout.
        ca_option: the setting that names a file of authorities, for errors.
        headers: sent with every request.
        secrets: never shown, besides those of the URLs.
        proxy: an HTTP proxy to go through. No proxy is ever taken from the environment.
        transport: instead of the network.
    """
    import httpx2  # noqa: PLC0415  only who asks others pays for it

    shown = {**USUAL_HEADERS, **(headers or {})}
    if target.authorization is not None:
        shown["Authorization"] = target.authorization
    if transport is None:
        limits = httpx2.Limits(
            max_connections=max_connections, max_keepalive_connections=max_connections, keepalive_expiry=IDLE_S
        )
        # HTTP/1.1 on purpose (RFC 38 allows it): over HTTP/2 one broken connection leaves all calls unanswered.
        # The transport alone: what a client adds (cookies, redirects, unpacking) must not happen here
        transport = httpx2.AsyncHTTPTransport(verify=trust, trust_env=False, limits=limits, proxy=_proxy(proxy, trust))
    async with transport:
        yield Outbound(
            transport,
            headers=shown,
            timeout_s=timeout_s,
            secrets=(*target.secrets, *(() if proxy is None else proxy.secrets), *secrets),
            ca_option=ca_option,
        )


def _proxy(proxy: CheckedUrl | None, trust: ssl.SSLContext) -> httpx2.Proxy | None:
    if proxy is None:
        return None
    import httpx2  # noqa: PLC0415  only who asks others pays for it

    headers = {} if proxy.authorization is None else {"Proxy-Authorization": proxy.authorization}
    return httpx2.Proxy(proxy.url, headers=headers, ssl_context=trust if proxy.over_tls else None)
