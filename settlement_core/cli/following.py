"""A running server's events as they come, over its operator's API, for as long as anybody wants them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx2

from settlement_core.values.errors import LocalError

__all__ = ["Heard", "events_of", "follow"]

SILENCE_S = 30.0
"""The server says something at least every ten seconds; if not, the connection is dead."""

PAUSE_S = 2.0
"""Between a connection that broke and the next try."""


@dataclass(frozen=True, slots=True)
class Heard:
    """An event, by its type; "resync" says that some may have been missed, "lost" that the server does not answer."""

    kind: str
    content: dict[str, Any]
    event_id: str = ""


def follow(client: httpx2.Client, url: str) -> Iterator[Heard]:
    """Yield events for ever, through broken connections. Raises `LocalError` where asking again would not help."""
    last, reached = "", False
    while True:
        headers = {"last-event-id": last} if last else {}
        try:
            with client.stream("GET", "/events", headers=headers, timeout=SILENCE_S) as answer:
                _check(answer)
                reached = True
                for heard in events_of(answer.iter_lines()):
                    last = heard.event_id or last
                    yield heard
        except httpx2.ReadTimeout:
            if not reached:
                raise LocalError(
                    f"no events come from {url}: a proxy on the way keeps them back (nginx: proxy_buffering off)"
                ) from None
        except (httpx2.TransportError, httpx2.InvalidURL, httpx2.UnsupportedProtocol) as problem:
            if not reached:
                raise LocalError(f"no server answers at {url}: {problem}") from None
        yield Heard("lost", {})
        time.sleep(PAUSE_S)


def events_of(lines: Iterator[str]) -> Iterator[Heard]:
    """Yield the events of a stream: lines, and an empty one after each event."""
    parts: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if line and colon and name:
            parts[name] = value.removeprefix(" ")
        elif not line:
            if "data" in parts:
                yield Heard(parts.get("event", ""), json.loads(parts["data"]), parts.get("id", ""))
            parts = {}


def _check(answer: httpx2.Response) -> None:
    if answer.is_success or answer.status_code in {httpx2.codes.TOO_MANY_REQUESTS, httpx2.codes.SERVICE_UNAVAILABLE}:
        return
    answer.read()
    try:
        detail = str(answer.json().get("detail", ""))
    except (ValueError, AttributeError):
        detail = "what answers there is no settlement engine's operator API"
    if answer.status_code == httpx2.codes.UNAUTHORIZED:
        detail += "; set SETTLEMENT_ADMIN_TOKEN, or SETTLEMENT_ADMIN_TOKEN_FILE to the file that holds it"
    raise LocalError(detail)
