"""One check for every engine: it is cancelled, crashed, shut down and not heard at every phase, and pays once.

For engine authors. The engine runs in the real core, on a ledger of yours; a crash leaves the ledger and what the
store held at that instant, and nothing else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from settlement_core.testing import _engine_incoming as incoming
from settlement_core.testing import _engine_outgoing as outgoing
from settlement_core.testing import _engine_replicas as replicas
from settlement_core.testing._engine_cuts import UnstoppableError
from settlement_core.testing._engine_ledger import BUTTONS, LedgerControls, OpenLedger, button
from settlement_core.testing._engine_lives import Life, Trial
from settlement_core.testing._engine_phases import Moment, Watch

__all__ = ["PROMISES", "EngineReport", "LedgerControls", "OpenLedger", "Promise", "check_engine", "find_engine_faults"]

WITHIN_S: Final = 30.0
"""Seconds one settlement may take: many blocks of a ledger on one's own machine."""


@dataclass(frozen=True, slots=True)
class EngineReport:
    """What became of every promise, by its name: kept, broken (and how), or not tried (and why).

    `lives` is how many were struck and found whole afterwards.
    """

    held: tuple[str, ...]
    broken: dict[str, str]
    skipped: dict[str, str]
    lives: int

    def __str__(self) -> str:
        lines = [f"{len(self.held)} promises held, through {self.lives} lives cut short"]
        lines += [f"- {name}: held" for name in self.held]
        lines += [f"- {name}: BROKEN: {problem}" for name, problem in self.broken.items()]
        lines += [f"- {name}: skipped: {reason}" for name, reason in self.skipped.items()]
        return "\n".join(lines)


async def check_engine(
    open_ledger: OpenLedger,
    *,
    amount: Decimal = Decimal(10),
    within_s: float = WITHIN_S,
    stride: int = 1,
    only: Collection[str] | None = None,
) -> EngineReport:
    """Raise AssertionError, naming every broken promise, unless the engine keeps all of `PROMISES` that can be tried.

    Runs on trio and asyncio, in real and in virtual time. Example, for an engine that can be asked (`Bank` is yours):

        @asynccontextmanager
        async def open_bank():
            yield Bank()  # has connect(services), paid(account_id), and as many buttons as it can

        async def test_my_engine():
            print(await check_engine(open_bank))

    An engine that makes a new transaction each time it is asked to submit the same payment fails with

        this engine breaks 7 of 26 promises:
        - submits_twice_and_pays_once: paid 20 by a payment of 10: submitted twice, it pays twice
        - pays_once_although_it_crashes: crashed in the middle of submit: paid 20 for a settlement of 10: what may …

    Every promise gets a ledger of `open_ledger`. A call that shields itself from cancellation for ever holds up the
    check, too: give your test a time limit.

    Args:
        open_ledger: opens a ledger with the engine under test; see `LedgerControls`.
        amount: about how much each settlement is, in standard units; more than the engine's least payment.
        within_s: seconds one settlement may take until it is final, blocks and retries included.
        stride: for slow ledgers, strike at every second, third, … moment of a life only.
        only: try these promises alone, by their names, besides a life in peace; as while one of them is being mended.

    Returns:
        Which promises were tried, and which were skipped for want of a button.
    """
    report = await find_engine_faults(open_ledger, amount=amount, within_s=within_s, stride=stride, only=only)
    if report.broken:
        told = "".join(f"\n- {name}: {problem}" for name, problem in report.broken.items())
        raise AssertionError(
            f"this engine breaks {len(report.broken)} of {len(report.broken) + len(report.held)} promises:{told}"
        )
    return report


async def find_engine_faults(
    open_ledger: OpenLedger,
    *,
    amount: Decimal = Decimal(10),
    within_s: float = WITHIN_S,
    stride: int = 1,
    only: Collection[str] | None = None,
) -> EngineReport:
    """Return what became of every promise; as `check_engine`, but without raising."""
    if only is not None and (unknown := set(only) - {promise.name for promise in PROMISES}):
        raise ValueError(f"no promise is called {', '.join(sorted(unknown))}; see PROMISES")
    check = Check(open_ledger, amount=amount, within_s=within_s, stride=stride)
    held: list[str] = []
    broken: dict[str, str] = {}
    skipped: dict[str, str] = {}
    try:
        await check.look()
    except AssertionError as problem:
        return EngineReport((), {"starts": str(problem)}, {}, 0)
    for number, promise in enumerate(PROMISES):
        # the first shows what there is to strike
        if number and only is not None and promise.name not in only:
            continue
        lacking = check.lacking(promise)
        if lacking:
            skipped[promise.name] = lacking
            continue
        try:
            await promise.keep(check)
        except UnstoppableError as problem:
            broken[promise.name] = str(problem)
            check.gave_up = True
        except AssertionError as problem:
            broken[promise.name] = str(problem)
        else:
            held.append(promise.name)
    return EngineReport(tuple(held), broken, skipped, check.lives)


class Check:
    """What the promises share: how to open ledgers, what the engine can do, and what a life in peace looks like."""

    def __init__(self, open_ledger: OpenLedger, *, amount: Decimal, within_s: float, stride: int) -> None:
        self.lives = 0
        self.gave_up = False
        self.trace: Watch | None = None
        self._open_ledger = open_ledger
        self._amount = amount
        self._within_s = within_s
        self._stride = stride
        self._has: set[str] = set()

    @property
    def peace(self) -> Watch:
        """What the engine does in peace."""
        assert self.trace is not None
        return self.trace

    def moments(self) -> list[Moment]:
        """Return when to strike: at every moment of a life in peace, or every few."""
        return self.peace.moments()[:: self._stride]

    async def on_a_fresh_ledger(self, act: Callable[[Trial], Awaitable[None]]) -> None:
        """Act on a trial of its own; raise AssertionError as `act` does."""
        problem: AssertionError | None = None
        async with self._open_ledger() as ledger:
            try:
                await act(Trial(ledger, amount=self._amount, within_s=self._within_s))
            except AssertionError as error:  # in here, where no task group of the ledger's wraps it
                problem = error
        if problem is not None:
            raise problem

    async def look(self) -> None:
        """See what can be tried."""

        async def act(trial: Trial) -> None:
            async def see(life: Life) -> None:
                self._has = {name for name in BUTTONS if button(trial.ledger, name) is not None}
                self._has |= {name for name in ("handle_message",) if hasattr(life.engine, name)}
                self._has |= {"verify"} if life.verifiable else set()

            await trial.live(see)

        await self.on_a_fresh_ledger(act)

    def lacking(self, promise: Promise) -> str:
        """Return why a promise cannot be tried, or nothing if it can."""
        if self.gave_up:
            return "the engine could not be stopped before"
        missing = [name for name in promise.needs if name not in self._has]
        if "verify" in missing:
            return "a minimal engine cannot be asked what became of a payment"
        if "handle_message" in missing:
            return "the engine handles no messages"
        if missing:
            return f"the ledger has no {' and no '.join(missing)}"
        if promise.struck and self.trace is None:
            return "the engine does not even settle in peace"
        return ""


@dataclass(frozen=True, slots=True)
class Promise:
    """A claim about any engine; it is tried where the engine and its ledger have all that it `needs`.

    Attributes:
        struck: it repeats a life in peace and strikes it wherever that one was seen to be.
    """

    keep: Callable[[Check], Awaitable[None]]
    needs: tuple[str, ...] = ()
    struck: bool = False

    @property
    def name(self) -> str:
        """The claim in words."""
        return self.keep.__name__


PROMISES: Final[tuple[Promise, ...]] = (
    Promise(outgoing.pays_exactly_once_in_peace),
    Promise(outgoing.prepares_without_effect, ("verify",)),
    Promise(outgoing.verifies_what_was_never_submitted, ("verify",)),
    Promise(outgoing.submits_twice_and_pays_once, ("verify",)),
    Promise(outgoing.prepares_twice_and_pays_once, ("verify",)),
    Promise(outgoing.rejects_for_good, ("verify", "reject_next")),
    Promise(outgoing.pays_once_although_it_is_cancelled, struck=True),
    Promise(outgoing.pays_once_although_it_crashes, struck=True),
    Promise(outgoing.pays_once_although_it_is_shut_down, struck=True),
    Promise(outgoing.pays_once_although_a_call_fails, struck=True),
    Promise(outgoing.pays_once_although_the_store_forgets, ("verify",), struck=True),
    Promise(outgoing.pays_once_although_a_request_is_lost, ("lose_next_request",)),
    Promise(outgoing.pays_once_although_a_reply_is_lost, ("lose_next_reply",)),
    Promise(outgoing.pays_once_in_the_end_after_a_rejection, ("reject_next",)),
    Promise(outgoing.pays_once_through_a_reorganisation, ("verify", "reorganise")),
    Promise(replicas.ends_no_payment_that_a_lagging_replica_does_not_hold, ("verify", "fall_behind", "catch_up")),
    Promise(replicas.ends_no_payment_that_a_pruned_replica_does_not_hold, ("verify", "prune", "catch_up")),
    Promise(replicas.ends_no_payment_between_two_replicas, ("verify", "fall_behind", "catch_up")),
    Promise(incoming.credits_what_came_while_it_was_down, ("pay_us",)),
    Promise(incoming.credits_once_although_it_crashes, ("pay_us",)),
    Promise(incoming.is_not_stopped_by_a_stranger, ("pay_us", "pay_us_as_stranger")),
    Promise(replicas.loses_no_credit_to_a_lagging_replica, ("pay_us", "fall_behind", "catch_up")),
    Promise(replicas.loses_no_credit_to_a_pruned_replica, ("pay_us", "prune", "catch_up")),
    Promise(replicas.loses_no_credit_between_two_replicas, ("pay_us", "fall_behind", "catch_up")),
    Promise(incoming.answers_any_message, ("handle_message",)),
    Promise(incoming.keeps_accounts_apart),
)
"""Every promise, its name as its claim. One that breaks does not hide the others."""
