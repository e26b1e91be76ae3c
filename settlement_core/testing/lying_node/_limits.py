"""The limits of providers: ranges of logs, sizes of batches, requests a second."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from settlement_core.testing.connector._wire import JSON, Answer
from settlement_core.testing.lying_node._calls import NodeCall, Refusal, body_of, write

__all__ = ["NO_LIMITS", "Limits", "Meter", "refuse_batch", "refuse_logs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a provider allows. None is no limit. Limits are no lies: they also hold while the node is honest.

    Attributes:
        log_range: blocks in one `eth_getLogs` whose ends are numbers.
        batch: calls in one request.
        requests_per_s: requests in a second; as many may come at once after a rest.
    """

    log_range: int | None = None
    batch: int | None = None
    requests_per_s: float | None = None


NO_LIMITS = Limits()


class Meter:
    """Counts requests against a rate: a token bucket that holds one second's worth."""

    def __init__(self, per_s: float | None) -> None:
        self._per_s = inf if per_s is None else per_s
        self._left = self._per_s
        self._at = -inf

    def __repr__(self) -> str:
        return f"<Meter of {self._per_s:g} requests/s>"

    def allows(self, now: float) -> bool:
        """Count one request, unless there were too many; `now` is in seconds."""
        if self._per_s == inf:
            return True
        self._left = min(self._left + (now - self._at) * self._per_s, max(self._per_s, 1.0))
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

    def refusal(self) -> Answer:
        """Return what is answered instead."""
        body = write({"jsonrpc": "2.0", "id": None, "error": {"code": 429, "message": "Too Many Requests"}})
        return Answer(429, body, {"content-type": JSON, "retry-after": "1"})


def refuse_batch(calls: Sequence[NodeCall], limit: int, chance: random.Random) -> Answer:
    """Return one of the ways in which providers refuse a batch: one error, an error for each call, or a status."""
    refusal = Refusal(-32600, f"batch of {len(calls)} calls, the maximum is {limit}")
    one = {"jsonrpc": "2.0", "id": None, "error": refusal.to_json()}
    way = chance.choice(["one", "each", "status"])
    content = [body_of(call, refusal) for call in calls] if way == "each" else one
    return Answer(413 if way == "status" else 200, write(content), {"content-type": JSON})


def refuse_logs(call: NodeCall, limit: int, chance: random.Random) -> Refusal | None:
    """Return why a range of logs is not given, in the words of one of several providers; None if it is."""
    criteria = call.params[0] if call.method == "eth_getLogs" and call.params else None
    if not isinstance(criteria, dict):
        return None
    ends = [str(criteria.get(side)) for side in ("fromBlock", "toBlock")]
    numbers = [int(end, 16) for end in ends if end.startswith("0x")]
    if len(numbers) < 2 or numbers[1] - numbers[0] + 1 <= limit:
        return None
    return chance.choice(
        [
            Refusal(-32005, f"query exceeds max block range {limit}"),
            Refusal(-32602, f"eth_getLogs is limited to a {limit} range"),
            Refusal(-32600, f"you can make eth_getLogs requests with up to a {limit} block range"),
            Refusal(-32000, "block range is too wide"),
        ]
    )
