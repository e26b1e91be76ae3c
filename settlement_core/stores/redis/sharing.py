"""A worker's part in sharing a store: leases on partitions, each with a token unlike any before.

Whether a lease has run out is the server's to say, by its clock, and only a worker that takes part of the work may
take it. What protects money is not time but the token: `change.lua` refuses whoever comes with an old one.
"""

from __future__ import annotations

from settlement_core.stores.redis.layout import Keyspace, PartitionKeys
from settlement_core.stores.redis.queries import Work
from settlement_core.stores.redis.scripts import Call, Reply, script
from settlement_core.values.commands import Nudge, Share
from settlement_core.values.results import Applied, Ring, Shares

__all__ = ["nudge", "share"]

_NUDGE = "!"
"""Marks a ring by which a person asks to try now; no account id begins with it."""


def share(places: Keyspace, command: Share) -> Work[Shares]:
    """Renew, give up and take leases."""
    lasts_ms = int(command.lease_s * 1000)
    what = "leaving" if command.leaving else "here"
    (counted,) = yield [
        Call(
            script("workers"),
            [places.workers, places.sharing],
            [command.worker, lasts_ms, places.channel, what],
            writes=True,
        )
    ]
    may_seize, workers = counted[0] == 1, counted[1:]
    yielding = range(len(places.partitions)) if command.leaving else command.yielding
    replies: list[Reply] = yield [
        _lease(places, partition, command, "free" if partition.number in yielding else "renew")
        for partition in places.partitions
    ]
    wanted = [
        partition
        for partition, (_, owner, left_ms, *_) in zip(places.partitions, replies, strict=True)
        if partition.number not in yielding and (not owner or (may_seize and owner != command.worker and left_ms <= 0))
    ]

    def take(chosen: list[PartitionKeys]) -> Work[None]:
        if chosen:
            what = "seize" if may_seize else "take"
            taken = yield [_lease(places, partition, command, what) for partition in chosen]
            for partition, reply in zip(chosen, taken, strict=True):
                replies[partition.number] = reply

    fair = 0
    if command.alone and not command.leaving:
        lead = places.partition("")
        yield from take([partition for partition in wanted if partition is lead])
        fair = len(places.partitions) if replies[lead.number][0] else 0
        wanted = [partition for partition in wanted if partition is not lead]
    elif not command.leaving:
        fair = _fair_share(command.worker, workers, len(places.partitions))
        # workers that look at the same moment begin in different places
        start = len(wanted) * workers.index(command.worker) // len(workers)
        wanted = [*wanted[start:], *wanted[:start]]
    missing = fair - sum(1 for reply in replies if reply[0])
    yield from take(wanted[: max(0, missing)])
    held = {number: reply for number, reply in enumerate(replies) if reply[0]}
    return Shares(
        shared=True,
        partitions=len(places.partitions),
        leases={number: reply[0] for number, reply in held.items()},
        excess=max(0, len(held) - fair),
        rings=tuple(ring for number, reply in held.items() for ring in _rings(number, reply[3:])),
    )


def nudge(places: Keyspace, command: Nudge) -> Work[Applied]:
    """Ring the account's worker, if there is one."""
    partition = places.partition(command.account_id)
    call = Call(
        script("nudge"),
        [partition.lease, partition.rings],
        [_NUDGE + command.account_id, places.channel],
        writes=True,
    )
    (rung,) = yield [call]
    return Applied(changed=rung == 1)


def _lease(places: Keyspace, partition: PartitionKeys, command: Share, what: str) -> Call:
    heard = command.heard.get(partition.number, 0)
    arguments = [command.worker, int(command.lease_s * 1000), heard, places.channel, what]
    return Call(script("lease"), [partition.lease, partition.rings], arguments, writes=what != "renew")


def _fair_share(worker: str, workers: list[str], partitions: int) -> int:
    """Return how many partitions are this worker's part; over all workers they add up to all."""
    return partitions // len(workers) + (workers.index(worker) < partitions % len(workers))


def _rings(partition: int, told: list[str]) -> list[Ring]:
    return [
        Ring(partition, int(number), said.removeprefix(_NUDGE), nudge=said.startswith(_NUDGE))
        for said, number in zip(told[::2], told[1::2], strict=True)
    ]
