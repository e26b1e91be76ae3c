"""What an engine's parts tell one another, and the operator, about now. Nothing here is relied on for money."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["State"]


@dataclass(slots=True)
class State:
    """Where things stand.

    Attributes:
        trouble: why the watcher's latest round failed; empty if it did not.
        alarm: why nothing new is paid until a person has looked; empty if nothing is wrong.
        suspicion: why nothing new is paid until more is known.
        stuck: by nonce, why its transaction is not in the node's pool.
        held_up: accounts that could not be paid for the node's trouble, or under suspicion.
        priced_out: accounts that could not be paid for the price of gas.
        short: by account, the wei (or units of the token) that were missing when it was to be paid.
        scanned: the last block whose incoming payments are credited; -1 if there is none yet.
        blocked: why signed payments cannot apply until a person has done something; empty if they can.
        scan_trouble: why the scan for incoming payments does not get on; empty if it does.
        reorganised: what became of blocks that had been taken for final; empty if they stand.
        unexplained: how the balance differs from what all payments make it; empty if it does not.
        ignored: how many payments of strangers were below the minimum since the start, and their sum in units.
    """

    trouble: str = ""
    alarm: str = ""
    suspicion: str = ""
    stuck: dict[int, str] = field(default_factory=dict)
    held_up: set[str] = field(default_factory=set)
    priced_out: set[str] = field(default_factory=set)
    short: dict[str, Shortage] = field(default_factory=dict)
    scanned: int = -1
    blocked: str = ""
    scan_trouble: str = ""
    reorganised: str = ""
    unexplained: str = ""
    ignored: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Shortage:
    """What an account's payment needs to be possible: so many wei, and units of the token."""

    wei: int
    units: int
