"""Leases by themselves, asked round by round: what is told, hurried, given up and remembered."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest

from settlement_core.core.config import CoreConfig
from settlement_core.core.services import Services
from settlement_core.core.sharing import Change, Sharing
from settlement_core.core.supervisor import Supervisor, _Halt
from settlement_core.values.commands import Ring, Share, Shares
from settlement_core.values.errors import LeadershipLost, LeaseLost
from settlement_core.values.records import Direction
from tests.core.worlds import Ears

pytestmark = pytest.mark.anyio


class Rounds:
    """A journal in which the test answers each round of sharing."""

    def __init__(self) -> None:
        self.shares: list[Share] = []
        self.wall = 0.0
        self.sharing = Sharing(
            worker="a", journal=cast("Any", self), config=CoreConfig(), now=lambda: self.wall, tasks=cast("Any", None)
        )
        self.changes: list[Change] = []

    def submit(self, share: Share, then: Any = None) -> None:
        """Take a round's command."""
        self.shares.append(share)
        self._then = then

    def play(self, leases: dict[int, str], *, excess: int = 0, rings: tuple[Ring, ...] = ()) -> None:
        """Have a round asked, and answer it; what was hurried before is over."""
        self.sharing.ask(self.changes.append)
        self.answer(leases, excess=excess, rings=rings)

    def answer(self, leases: dict[int, str], *, excess: int = 0, rings: tuple[Ring, ...] = ()) -> None:
        """Answer the round that was asked last."""
        self._then(Shares(shared=True, partitions=8, leases=leases, excess=excess, rings=rings), len(self.shares))

    def hurries(self) -> bool:
        """Tell whether the next round is to be asked at once; forget it."""
        hurried = self.sharing._hurried.is_set()
        self.sharing._hurried = anyio.Event()
        return hurried


async def test_only_the_end_of_what_holds_up_a_partition_to_be_given_up_hurries_a_round() -> None:
    """The last that is under way there, and nowhere else."""
    rounds = Rounds()
    for partition in (0, 0, 1, 1):
        rounds.sharing.enter(partition)
    rounds.play({0: "t0", 1: "t1"}, excess=1)
    assert rounds.changes[-1].yielding == {0}
    assert not rounds.hurries()
    for partition, hurries in ((1, False), (1, False), (0, False), (0, True)):
        rounds.sharing.leave(partition)
        assert rounds.hurries() is hurries, partition


@pytest.mark.parametrize("clock", ["of the loop", "on the wall"])
async def test_a_lease_counts_from_its_request_not_from_its_answer(clock: str) -> None:
    """The answer is 4 s on its way, by either clock: the lease may be used for 4 s less after it."""
    rounds = Rounds()

    async def pass_s(seconds: float) -> None:
        if clock == "on the wall":
            rounds.wall += seconds
        else:
            await anyio.sleep(seconds)

    rounds.sharing.ask(rounds.changes.append)
    await pass_s(4.0)
    rounds.answer({0: "t0"})
    await pass_s(CoreConfig().lease_s - 4.5)
    assert rounds.sharing.is_certain(0, "t0")
    await pass_s(0.5)
    assert not rounds.sharing.is_certain(0, "t0")


async def test_a_lease_that_was_lost_already_is_no_news() -> None:
    """Only the refusal of one that is held changes anything, and has the store asked."""
    rounds = Rounds()
    rounds.play({0: "t0", 1: "t1"})
    assert not rounds.sharing.drop(0, "an older one")
    assert not rounds.sharing.drop(5, "t0")
    assert rounds.sharing.held == {0: "t0", 1: "t1"}
    assert not rounds.hurries()
    assert rounds.sharing.drop(0, "t0")
    assert rounds.sharing.held == {1: "t1"}
    assert rounds.hurries()
    assert not rounds.sharing.drop(0, "t0")


async def test_the_latest_ring_of_each_partition_is_said_to_be_heard() -> None:
    """Whatever their order."""
    rounds = Rounds()
    rings = [
        Ring(account_id=f"x{number}", partition=p, number=number, nudge=False) for p, number in ((0, 5), (0, 3), (1, 2))
    ]
    rounds.play({0: "t0", 1: "t1"}, rings=tuple(rings))
    rounds.play({0: "t0", 1: "t1"})
    rounds.play({0: "t0", 1: "t1"})
    assert [share.heard for share in rounds.shares] == [{}, {0: 5, 1: 2}, {}]


async def test_what_is_to_be_given_up_stays_the_same_however_busy_the_others_become() -> None:
    """Else nothing would ever be given up; first chosen is where the least is under way."""
    rounds = Rounds()
    rounds.sharing.enter(0)
    for _ in range(2):
        rounds.sharing.enter(1)
    rounds.play({0: "t0", 1: "t1"}, excess=1)
    assert rounds.changes[-1].yielding == {0}
    for _ in range(5):
        rounds.sharing.enter(0)
    rounds.play({0: "t0", 1: "t1"}, excess=1)
    assert rounds.sharing.is_yielding(0)
    assert not rounds.sharing.is_yielding(1)
    assert (rounds.changes[-1].yielding, rounds.changes[-1].kept) == (frozenset(), frozenset())
    rounds.play({0: "t0", 1: "t1"})
    assert rounds.changes[-1].kept == {0}


class Partitions:
    """Accounts 1 to 3, each in the partition of its number; the second is to be given up."""

    def partition(self, account_id: str) -> int:
        """Return the number."""
        return {"outgoing": 1, "incoming": 1}.get(account_id, 0) or int(account_id)

    def token(self, account_id: str) -> str:
        """Return the lease on it."""
        return f"t{account_id}"

    def is_yielding(self, partition: int) -> bool:
        """Tell whether it is the second."""
        return partition == 2


def supervisor() -> Supervisor:
    """Return one whose accounts those are, at work in no task group."""
    made = Supervisor()
    made._tasks = cast("Any", SimpleNamespace())
    made._context = cast("Any", SimpleNamespace(stopping=False, sharing=Partitions()))
    return made


async def test_nothing_is_begun_in_a_partition_that_is_to_be_given_up() -> None:
    """An account rung for there is the next owner's."""
    supervising = supervisor()
    assert supervising._start_lane("2", Direction.OUTGOING) is None
    assert supervising.active() == 0
    with pytest.raises(AttributeError):  # it goes on to begin, for which there is nothing here
        supervising._start_lane("3", Direction.OUTGOING)


async def test_what_halted_is_forgotten_with_its_partition_and_no_other() -> None:
    """Whoever gets it tries again."""
    supervising = supervisor()
    supervising._halted = {(name, direction): _Halt("broken", "", 0.0) for name in "123" for direction in Direction}
    supervising._lose({1, 7})
    assert {name for name, _ in supervising.halted()} == {"2", "3"}


async def test_an_engine_whose_save_is_refused_hears_which_worker_was_silent() -> None:
    """As the core, which ends, does."""

    class Refusing:
        async def ask(self, command: Any) -> None:
            assert command.lease == "the lead"
            raise LeaseLost("")

    services = Services(
        journal=cast("Any", Refusing()),
        sharing=cast("Any", SimpleNamespace(lead_token="the lead", worker="worker-7")),
        connector=cast("Any", None),
        observer=Ears(),
        now=lambda: 0.0,
        ring=lambda *_: None,
        nudge=lambda _: None,
    )
    with pytest.raises(LeadershipLost, match="^worker 'worker-7' was silent for longer than its lease"):
        await services.save("next", 8)
