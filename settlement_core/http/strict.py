"""HTTP/1.1 requests, read strictly: what two parsers could understand differently is refused.

h11 reads liberally: lines that end with a bare LF, folded lines, any version, a Content-Length beside chunks. A proxy
in front of this server may read such a request as two requests, or as another one (request smuggling).
"""

from __future__ import annotations

from typing import Any

import h11
from h11._receivebuffer import ReceiveBuffer

__all__ = ["StrictConnection"]

_VERSIONS = frozenset({b"1.0", b"1.1"})
_HTTP_2_PREFACE = (b"PRI", b"*", b"2.0")


class StrictConnection(h11.Connection):
    """The server's side of a connection; refuses with 400, and a head that is too long with 431."""

    def __init__(self, *, max_head: int, http_2: bool) -> None:
        """Refuse heads of more than `max_head` bytes; with `http_2`, let the preface of HTTP/2 pass."""
        super().__init__(h11.SERVER, max_incomplete_event_size=max_head)
        self._http_2 = http_2
        # where h11 finds lines: it offers no other way to see a head as it was sent
        self._receive_buffer = _StrictBuffer(max_head)

    def next_event(self) -> Any:
        """Return the next event, as h11 does."""
        event = super().next_event()
        if type(event) is h11.Request:
            self._check(event)
        return event

    def _check(self, request: h11.Request) -> None:
        if request.http_version not in _VERSIONS:
            preface = (request.method, request.target, request.http_version)
            if not (self._http_2 and preface == _HTTP_2_PREFACE):
                raise _refusal("the version is neither HTTP/1.0 nor HTTP/1.1")
        names = {name for name, _ in request.headers}
        if b"transfer-encoding" in names:
            if b"content-length" in names:
                raise _refusal("the length of the body is given twice")
            if request.http_version == b"1.0":
                raise _refusal("HTTP/1.0 has no transfer encodings")


class _StrictBuffer(ReceiveBuffer):
    """Takes heads and trailers whose lines end with CRLF, are not folded, and are not too long."""

    def __init__(self, max_head: int) -> None:
        super().__init__()
        self._max_head = max_head

    def maybe_extract_lines(self) -> list[bytearray] | None:
        """Return the lines up to the first empty one, or None if that has not arrived."""
        received = bytes(self)
        lines = super().maybe_extract_lines()
        if lines is not None:
            head = received[: len(received) - len(self)]
            if len(head) > self._max_head:
                raise _refusal("the head is too long", 431)
            if head.count(b"\n") != head.count(b"\r\n"):
                raise _refusal("a line ends with a bare LF")
            if b"\n " in head or b"\n\t" in head:
                raise _refusal("a line is folded")
        return lines


def _refusal(reason: str, status: int = 400) -> h11.RemoteProtocolError:
    return h11.RemoteProtocolError(reason, error_status_hint=status)
