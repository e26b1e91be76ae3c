"""What befalls requests on their way: losses before and after the node acted, delays, and answers of proxies."""

from __future__ import annotations

import random

from settlement_core.testing.connector._wire import DROP, JSON, Answer
from settlement_core.testing.lying_node._kinds import WireLie

__all__ = ["WIRE_LIES"]

_LATE_S = 0.15
"""Seconds that a request or an answer is late at most: more than a few polls of an engine under test."""

_HTML = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"

_DEEP = 50_000
"""Arrays within one another: more than a recursive parser survives."""


def _lost(_body: bytes, _: random.Random) -> Answer:
    return DROP


def _gateway(_body: bytes, chance: random.Random) -> Answer:
    return Answer(chance.choice([500, 502, 503, 504]), _HTML, {"content-type": "text/html"})


def _too_many(_body: bytes, _: random.Random) -> Answer:
    return Answer(429, b'{"jsonrpc":"2.0","error":{"code":429,"message":"Too Many Requests"}}', {"content-type": JSON})


def _empty(_body: bytes, _: random.Random) -> Answer:
    return Answer(200, b"", {"content-type": JSON})


def _cut(body: bytes, chance: random.Random) -> Answer:
    return Answer(200, body[: chance.randrange(max(len(body), 1))], {"content-type": JSON})


def _noise(_body: bytes, chance: random.Random) -> Answer:
    return Answer(200, chance.randbytes(64), {"content-type": JSON})


def _deep(_body: bytes, _: random.Random) -> Answer:
    return Answer(200, b"[" * _DEEP + b"]" * _DEEP, {"content-type": JSON})


WIRE_LIES = (
    WireLie(name="the request is lost", acts=False, answer=_lost),
    WireLie(name="the answer is lost", answer=_lost),
    WireLie(name="the request is late", late_s=_LATE_S),
    WireLie(name="the answer is late", delay_s=_LATE_S),
    WireLie(name="a gateway answers before the node acts", acts=False, answer=_gateway),
    WireLie(name="a gateway answers after the node has acted", answer=_gateway),
    WireLie(name="too many requests", acts=False, answer=_too_many),
    WireLie(name="an empty body", answer=_empty),
    WireLie(name="a body cut in the middle", answer=_cut),
    WireLie(name="a body of noise", answer=_noise),
    WireLie(name="a body nested too deeply", answer=_deep),
)
"""What befalls requests."""
