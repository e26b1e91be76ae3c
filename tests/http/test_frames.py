"""What HTTP/2 frames cost, counted without a connection: in virtual time, exactly."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from settlement_core.http import frames
from settlement_core.http.frames import ALLOWANCE, FRAMES_AT_ONCE, MAX_FRAME, MAX_RESETS, Flood, FrameMeter

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MAX_HEAD = 16 * 1024

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
END_HEADERS, PADDED = 0x4, 0x8


def frame(kind: int, payload: bytes = b"", flags: int = 0, stream: int = 1) -> bytes:
    """Return a frame."""
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


class Clock:
    """Shows what it is told."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def meter_after_preface() -> tuple[FrameMeter, Clock]:
    """Return a meter whose client has begun, and its clock."""
    clock = Clock()
    meter = FrameMeter(max_head=MAX_HEAD, clock=clock)
    assert b"".join(meter.pieces(PREFACE)) == PREFACE
    return meter, clock


FLOODS = {
    "PING": frame(PING, b"12345678"),
    "SETTINGS": frame(SETTINGS),
    "WINDOW_UPDATE": frame(WINDOW_UPDATE, b"\x00\x00\x00\x01"),
    "PRIORITY": frame(PRIORITY, b"\x00\x00\x00\x03\x10"),
    "RST_STREAM": frame(RST_STREAM, b"\x00\x00\x00\x08"),
    "empty DATA": frame(DATA),
    "tiny DATA": frame(DATA, b"x"),
    "padded DATA": frame(DATA, b"\xff" + bytes(1000), PADDED),
    "HEADERS": frame(HEADERS, b"x", END_HEADERS),
    "CONTINUATION": frame(CONTINUATION, b"", END_HEADERS),
    "GOAWAY": frame(GOAWAY, bytes(8)),
    "unknown": frame(0xEE),
}


@pytest.mark.parametrize("kind", FLOODS)
def test_a_client_has_500_frames_and_100_a_second(kind: str) -> None:
    """Of any kind that carries next to nothing; time that nobody uses is not saved up."""
    meter, clock = meter_after_preface()
    clock.now += 3600
    list(meter.pieces(500 * FLOODS[kind]))
    clock.now += 1
    list(meter.pieces(100 * FLOODS[kind]))
    with pytest.raises(Flood, match="more than 500 frames, and 100 a second"):
        list(meter.pieces(FLOODS[kind]))


def test_large_parts_of_bodies_are_free() -> None:
    """A body of any length is sent in few frames for its bytes."""
    meter, _ = meter_after_preface()
    for _ in range(1000):
        list(meter.pieces(frame(DATA, bytes(MAX_FRAME))))


def test_a_client_that_is_answered_may_go_on_for_ever() -> None:
    """A request with a body, four window updates and a ping, ten thousand times within a second."""
    meter, _ = meter_after_preface()
    request = FLOODS["HEADERS"] + FLOODS["tiny DATA"] + 4 * FLOODS["WINDOW_UPDATE"] + FLOODS["PING"]
    for _ in range(10_000):
        list(meter.pieces(request))
        meter.note_answer()


def test_a_long_answer_may_be_acknowledged_part_by_part() -> None:
    """Two window updates for each of ten thousand frames."""
    meter, _ = meter_after_preface()
    for _ in range(10_000):
        meter.note_sent(MAX_FRAME)
        list(meter.pieces(2 * FLOODS["WINDOW_UPDATE"]))


def test_at_most_100_more_requests_are_reset_than_answered() -> None:
    """Whoever resets them; the 101st is a flood."""
    meter, _ = meter_after_preface()
    for _ in range(50):
        meter.note_answer()
    for _ in range(MAX_RESETS + 50):
        meter.note_reset()
    with pytest.raises(Flood, match="151 requests were reset and 50 answered"):
        meter.note_reset()


def test_a_frame_is_refused_by_its_length_before_it_is_collected() -> None:
    """The parser would keep 16 MiB of it first."""
    meter, _ = meter_after_preface()
    with pytest.raises(Flood, match="a frame of 16385 bytes"):
        list(meter.pieces((MAX_FRAME + 1).to_bytes(3) + b"\x00\x00\x00\x00\x00\x01"))


def test_a_head_is_bounded_over_all_of_its_frames() -> None:
    """16 KiB, then one byte more in a CONTINUATION frame; the next head begins anew."""
    meter, _ = meter_after_preface()
    for _ in range(2):
        list(meter.pieces(frame(HEADERS, bytes(10_000)) + frame(CONTINUATION, bytes(6384), END_HEADERS)))
    assert not meter.is_partial()
    list(meter.pieces(frame(HEADERS, bytes(10_000)) + frame(CONTINUATION, bytes(6384))))
    assert meter.is_partial()
    with pytest.raises(Flood, match="a head of more than 16384 bytes"):
        list(meter.pieces(frame(CONTINUATION, b"x")))


WHOLE = st.builds(frame, st.sampled_from([DATA, SETTINGS, PING, GOAWAY, 0xEE]), st.binary(max_size=40))


@given(st.lists(WHOLE, max_size=60), st.lists(st.integers(0, 2000), max_size=20))
def test_the_parser_gets_all_but_goaway_whatever_the_portions(sent: list[bytes], cuts: list[int]) -> None:
    """In pieces of few frames."""
    wire = PREFACE + b"".join(sent)
    places = sorted({min(cut, len(wire)) for cut in cuts} | {0, len(wire)})
    meter = FrameMeter(max_head=MAX_HEAD, clock=Clock())
    pieces = [piece for start, end in pairwise(places) for piece in meter.pieces(wire[start:end])]
    assert b"".join(pieces) == PREFACE + b"".join(one for one in sent if one[3] != GOAWAY)
    assert all(len(piece) <= len(PREFACE) + FRAMES_AT_ONCE * 49 for piece in pieces)
    assert not meter.is_partial()


def test_the_bounds_leave_room_for_a_full_connection() -> None:
    """32 requests with bodies at once, before any is answered, are an eighth of what is allowed."""
    assert 2 * 32 * 8 > ALLOWANCE > 2 * 32 * 4
    assert frames.ALLOWANCE_PER_ANSWER > 6
