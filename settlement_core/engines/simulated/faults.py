"""Faults on purpose: a plan in the ledger's file, and draws that any run with the same seed repeats.

The plan and the number of draws made so far are part of the file, so all processes share them and a killed
process changes nothing.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from hashlib import sha256

from settlement_core.engines.simulated.records import LedgerRefused

__all__ = ["NO_FAULTS", "FaultPlan", "chance"]

_INTEGERS = ("seed", "lag_at", "pruned_below")


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultPlan:
    """How often each fault happens: probabilities from 0 to 1, drawn from `seed`.

    Attributes:
        drop: a submitted transfer never arrives; half of the callers are told, half believe it did.
        lose_reply: a submitted transfer arrives, but its caller gets an exception.
        delay: the answer to a submit comes `delay_s` seconds late.
        lookup_failure: a look-up (of a transfer, of incoming entries) raises.
        duplicate_event: a page of incoming entries repeats one delivered before, and its own first.
        reorganise: at a new block, all blocks that are not yet final are dropped.
        vanish: a transfer in a dropped block is forgotten; otherwise it waits to be included again.
        fail_at_finality: an included transfer fails for good at the moment it would have become final.
        lag: a look-up is answered by a replica that holds no block above `lag_at`.
        prune: a look-up is answered by a replica that holds no block below `pruned_below`.
    """

    seed: int = 0
    drop: float = 0.0
    lose_reply: float = 0.0
    delay: float = 0.0
    delay_s: float = 0.0
    lookup_failure: float = 0.0
    duplicate_event: float = 0.0
    reorganise: float = 0.0
    vanish: float = 0.0
    fail_at_finality: float = 0.0
    lag: float = 0.0
    lag_at: int = 0
    prune: float = 0.0
    pruned_below: int = 0

    def __post_init__(self) -> None:
        for name in _INTEGERS:
            if type(getattr(self, name)) is not int:
                raise LedgerRefused(f"fault plan: {name} must be an integer, got {getattr(self, name)!r}")
        for name in (field.name for field in fields(self) if field.name not in _INTEGERS):
            value, most = getattr(self, name), 60.0 if name == "delay_s" else 1.0
            if type(value) not in {int, float} or not 0 <= value <= most:
                raise LedgerRefused(f"fault plan: {name} must be 0 to {most:g}, got {value!r}")

    @property
    def disturbs_reading(self) -> bool:
        """Tell whether even a look at the ledger has to draw."""
        return bool(self.lookup_failure or self.duplicate_event or self.lag or self.prune)

    def to_json(self) -> str:
        """Return the plan as JSON text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> FaultPlan:
        """Return the plan that `to_json`, or an operator, wrote; fields left out are off."""
        try:
            value = json.loads(text)
        except ValueError as error:
            raise LedgerRefused(f"fault plan is not JSON: {error}") from error
        known = {field.name for field in fields(cls)}
        if not isinstance(value, dict) or not known.issuperset(value):
            raise LedgerRefused(f"fault plan must be a JSON object with some of {', '.join(sorted(known))}")
        return cls(**value)


NO_FAULTS = FaultPlan()


def chance(seed: int, number: int) -> float:
    """Return draw `number` of a seed, in [0, 1): the same in every process and on every machine."""
    digest = sha256(f"{seed}:{number}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / (1 << 48)
