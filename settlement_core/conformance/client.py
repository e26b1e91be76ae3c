"""The engine under test as a connector reaches it: one request, one answer, nothing repeated and nothing followed.

Nothing raises here. An engine that hangs or hangs up gave no answer, and that is an answer's value too.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import anyio

from settlement_core.values.json_text import decode_json

if TYPE_CHECKING:
    import httpx2

__all__ = ["JSON", "OCTETS", "Answer", "Client", "open_client"]

JSON: Final = "application/json"
OCTETS: Final = "application/octet-stream"

ANSWER_S: Final = 15.0
"""Seconds for one answer: well above the 5 s after which connectors give up, so that slow and silent differ."""

MAX_EXCERPT: Final = 80
"""Characters of an answer's body that are quoted."""

IDLE_S: Final = 4.0
"""Seconds an idle connection is kept: below the 5 s after which common servers close it themselves."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `status` is 0 if nothing did, and `problem` then says why; header names are lower-case."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    version: str = ""
    took_s: float = 0.0
    problem: str = ""

    def __str__(self) -> str:
        if not self.status:
            return f"no answer ({self.problem})"
        text = " ".join(self.body[: 4 * MAX_EXCERPT].decode(errors="replace").split())
        text = text if len(text) <= MAX_EXCERPT else text[: MAX_EXCERPT - 1] + "…"
        return f"{self.status} {text}".rstrip()

    @property
    def ok(self) -> bool:
        """Tell whether it is a 2xx."""
        return 200 <= self.status < 300

    @property
    def refuses(self) -> bool:
        """Tell whether it is a 4xx: nothing was stored, and asking again changes nothing."""
        return 400 <= self.status < 500

    @property
    def fails(self) -> bool:
        """Tell whether there is no answer, or a 5xx."""
        return not self.status or self.status >= 500

    @property
    def media_type(self) -> str:
        """Return the content type without its parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def json(self) -> Any:
        """Return the JSON value in the body, or None."""
        try:
            return decode_json(self.body)
        except ValueError:
            return None


class Client:
    """Requests to one engine, each within `ANSWER_S` seconds; get it from `open_client`."""

    def __init__(self, http: httpx2.AsyncClient, url: str) -> None:
        self._http = http
        self.url = url.rstrip("/")

    async def send(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
        """Send one request, its path exactly as it is given; return what came back."""
        began = anyio.current_time()
        try:
            with anyio.fail_after(ANSWER_S):
                response = await self._http.request(method, self.url + path, content=body, headers=headers)
        except TimeoutError:
            return Answer(0, took_s=ANSWER_S, problem=f"nothing within {ANSWER_S:g} s")
        except Exception as error:  # noqa: BLE001  whatever the HTTP library makes of it, there was no answer
            return Answer(0, took_s=anyio.current_time() - began, problem=str(error) or type(error).__name__)
        return Answer(
            response.status_code,
            response.content,
            {name.lower(): value for name, value in response.headers.items()},
            response.http_version,
            anyio.current_time() - began,
        )


@asynccontextmanager
async def open_client(url: str, *, ca_file: str | None = None, http2: bool = False) -> AsyncIterator[Client]:
    """Give a client for the engine at a base URL.

    Args:
        url: where its `/accounts` are; a path prefix is kept.
        ca_file: PEM authorities to trust instead of the system's, for https.
        http2: speak HTTP/2 only: by prior knowledge over http, by ALPN over https.
    """
    import httpx2  # noqa: PLC0415  only who runs the suite pays for it

    tls = ssl.create_default_context(cafile=ca_file) if url.startswith("https:") else _no_tls()
    limits = httpx2.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=IDLE_S)
    # over https, HTTP/1.1 is offered beside it: an engine that only knows that must be able to say so
    http1 = not http2 or url.startswith("https:")
    async with httpx2.AsyncClient(
        verify=tls, trust_env=False, timeout=None, limits=limits, http1=http1, http2=http2
    ) as http:
        yield Client(http, url)


def _no_tls() -> ssl.SSLContext:
    # a bare context, because reading the system's authorities takes longer than most checks
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
