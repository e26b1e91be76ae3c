"""Bounds on what one HTTP/2 connection may cost, counted frame by frame before anything is parsed.

An HTTP/2 frame of a few bytes can cost as much as a request. Frames are paid for from an allowance that grows with
time, and with what the connection achieves: answered requests and the bytes of their answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

__all__ = ["Flood", "FrameMeter"]

FRAMES_AT_ONCE = 4
"""Frames that are parsed until other connections have a turn."""

ALLOWANCE = 500.0
"""Frames that a client may send before anything is answered; 32 requests with their bodies are 64."""

ALLOWANCE_PER_S = 100.0
"""Frames a second for a client that only keeps its connection alive."""

ALLOWANCE_PER_ANSWER = 10.0
"""Frames per answered request: its own, window updates, a ping; clients send about six."""

ALLOWANCE_PER_SENT = 4.0
"""Frames per part that is sent to the client: a client may update two windows for each."""

MAX_RESETS = 100
"""Requests that may end without an answer, beyond as many as were answered."""

MAX_FRAME = 16 * 1024
"""Bytes of a frame, as we announce; the parser collects a longer one before it refuses it."""

LARGE_DATA = 256
"""Bytes from which a part of a body is free: the body's length is bounded elsewhere."""

_PREFACE = len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
_DATA, _HEADERS, _CONTINUATION, _GOAWAY = 0, 1, 9, 7
_END_HEADERS, _PADDED = 0x4, 0x8
_FRAME_HEAD = 9


class Flood(Exception):
    """A client asks for more than a connection may cost. Its connection ends."""


class FrameMeter:
    """Divides received bytes into pieces of few frames, and raises `Flood` for a frame beyond the bounds."""

    def __init__(self, *, max_head: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Allow heads of at most `max_head` compressed bytes."""
        self.answered = 0
        self.resets = 0
        self._max_head = max_head
        self._clock = clock
        self._allowance = ALLOWANCE
        self._at = clock()
        self._skip = _PREFACE
        self._dropping = False
        self._frame_head = bytearray()
        self._header_block = 0

    def __repr__(self) -> str:
        return f"<FrameMeter: {self.answered} answered, {self.resets} reset, {self._allowance:.0f} frames allowed>"

    def is_partial(self) -> bool:
        """Return whether a frame, or a head of several frames, has begun and not ended."""
        return bool(self._skip or self._frame_head or self._header_block)

    def note_answer(self) -> None:
        """Count an answered request."""
        self.answered += 1
        self._earn(ALLOWANCE_PER_ANSWER)

    def note_sent(self, length: int) -> None:
        """Count a part of an answer."""
        self._earn(ALLOWANCE_PER_SENT * (1 + length // MAX_FRAME))

    def note_reset(self) -> None:
        """Count a request that ended without an answer, whichever side reset it."""
        self.resets += 1
        if self.resets - self.answered > MAX_RESETS:
            raise Flood(f"{self.resets} requests were reset and {self.answered} answered")

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Yield what the parser may get, in pieces of at most `FRAMES_AT_ONCE` frames.

        GOAWAY frames are left out: the client then opens no further streams, but those that are open are to be
        answered, which the parser would refuse.
        """
        piece = bytearray()
        frames = at = 0
        while at < len(data):
            if self._skip:
                part = data[at : at + self._skip]
                at += len(part)
                self._skip -= len(part)
                if not self._dropping:
                    piece += part
                continue
            part = data[at : at + _FRAME_HEAD - len(self._frame_head)]
            at += len(part)
            self._frame_head += part
            if len(self._frame_head) < _FRAME_HEAD:
                break
            if frames == FRAMES_AT_ONCE:
                yield bytes(piece)
                piece.clear()
                frames = 0
            frames += 1
            self._begin_frame()
            if not self._dropping:
                piece += self._frame_head
            self._frame_head.clear()
        if piece:
            yield bytes(piece)

    def _begin_frame(self) -> None:
        length, kind, flags = int.from_bytes(self._frame_head[:3]), self._frame_head[3], self._frame_head[4]
        if length > MAX_FRAME:
            raise Flood(f"a frame of {length} bytes")
        self._skip, self._dropping = length, kind == _GOAWAY
        if kind in {_HEADERS, _CONTINUATION}:
            self._header_block += length
            if self._header_block > self._max_head:
                raise Flood(f"a head of more than {self._max_head} bytes")
            if flags & _END_HEADERS:
                self._header_block = 0
        if kind != _DATA or flags & _PADDED or length < LARGE_DATA:
            self._pay()

    def _pay(self) -> None:
        now = self._clock()
        self._earn((now - self._at) * ALLOWANCE_PER_S)
        self._at = now
        if self._allowance < 1:
            raise Flood(f"more than {ALLOWANCE:.0f} frames, and {ALLOWANCE_PER_S:.0f} a second, for nothing")
        self._allowance -= 1

    def _earn(self, frames: float) -> None:
        self._allowance = min(ALLOWANCE, self._allowance + frames)
