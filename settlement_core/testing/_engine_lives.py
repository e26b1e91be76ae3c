"""One engine on one ledger, through the lives of a real core: the ledger, and what the store kept, survive each."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, Final, TypeVar, cast

import anyio

from settlement_core.abc import AccountServices, Pending, Rejected, Settled
from settlement_core.core.config import CoreConfig
from settlement_core.core.core import Core, open_core
from settlement_core.core.effects import describe
from settlement_core.core.engines import open_engine
from settlement_core.testing._engine_cuts import Cut, Fate, ForgetfulStore, UnstoppableError
from settlement_core.testing._engine_ledger import LedgerControls, button
from settlement_core.testing._engine_phases import ENGINE_CALLS, SERVICE_CALLS, Watch, Watched
from settlement_core.testing.memory_connector import MemoryConnector
from settlement_core.values import commands as c
from settlement_core.values.amounts import ZERO, floor
from settlement_core.values.backoff import Backoff
from settlement_core.values.errors import ConnectorError
from settlement_core.values.json_text import decode_json, encode_json
from settlement_core.values.records import AccountOverview, Payment, Totals

__all__ = ["Life", "Trial"]

T = TypeVar("T")

_SHUTDOWN_S = 2.0
"""How long a shutdown waits for calls in flight."""

_PROMPT_S: Final = 10.0
"""Seconds after which a call that was cancelled must have ended, on however busy a machine."""

_BLOCK_S = 0.02
"""Seconds between two calls of `make_final`."""

_FASTEST_S, _SLOWEST_S = 0.005, 0.2
"""Seconds between two looks at the books, more the longer it takes."""

_CONFIG = CoreConfig(
    stop_after_doubts=0,
    settle_backoff=Backoff(first_s=0.05, max_s=1.0),
    credit_backoff=Backoff(first_s=0.05, max_s=1.0),
    shutdown_s=_SHUTDOWN_S,
)

_DIGITS = Decimal("1.0123456789012345678")
"""Makes an amount use as many digits as floating point would lose."""


class Trial:
    """A ledger, a store and a connector's books, with one account in them."""

    def __init__(self, ledger: LedgerControls, *, amount: Decimal, within_s: float) -> None:
        self.ledger = ledger
        self.within_s = within_s
        self.account_id = f"check-{uuid.uuid4().hex[:16]}"
        self.earned = ZERO
        self.store = ForgetfulStore()
        self.connector = MemoryConnector(self._answer)
        self.answers: dict[str, Callable[[], bytes]] = {}
        """What the peers of other accounts answer."""
        self._payees: dict[str, str] = {}
        self._amount = amount

    async def live(
        self,
        scenario: Callable[[Life], Awaitable[None]],
        *,
        cut: Cut | None = None,
        after_submit: Callable[[], Awaitable[Any]] | None = None,
    ) -> Watch:
        """Run a core until the scenario has ended, or the cut has ended it; return what was seen of the engine.

        Raises AssertionError if the scenario does, takes too long, or the engine did something it must not do.
        """
        fate = Fate(self.store, cut)
        problem: AssertionError | None = None

        async def hear(name: str, args: tuple[Any, ...], result: Any) -> None:
            nonlocal after_submit
            if name == "submit" and after_submit is not None:
                press, after_submit = after_submit, None
                await press()
            await self._judge(watch, name, args, result)

        watch = Watch(cut.moment if cut else None, fate.strike, hear)
        try:
            with fate.scope:
                async with self._core(watch) as life:
                    problem = await self._play(scenario, life, watch, fate.stop)
        except Exception as error:
            _check(watch)
            raise AssertionError(f"the engine broke, and the core with it: {describe(error)}") from error
        self.store = fate.survivor
        _check(watch)
        if problem is not None:
            raise problem
        return watch

    @asynccontextmanager
    async def _core(self, watch: Watch) -> AsyncIterator[Life]:
        engines: list[Watched] = []

        @asynccontextmanager
        async def connect(services: AccountServices) -> AsyncIterator[Watched]:
            async with open_engine(self.ledger.connect, _watched(services, watch)) as found:
                engines.append(Watched(found.verifiable or found.minimal, ENGINE_CALLS, watch))
                yield engines[0]

        async with open_core(connect, store=self.store, connector=self.connector, config=_CONFIG) as core:
            scale = getattr(engines[0], "asset_scale", None)
            amount = self._amount * _DIGITS if scale is None else floor(self._amount * _DIGITS, scale)
            yield Life(self, core, engines[0], amount=amount)

    async def _play(
        self, scenario: Callable[[Life], Awaitable[None]], life: Life, watch: Watch, stop: anyio.Event
    ) -> AssertionError | None:
        """Play until the scenario has ended, or is stopped; return what it found instead of raising it."""
        problem = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._make_blocks, watch)
            tasks.start_soon(_cancel_after, stop, tasks.cancel_scope)
            try:
                with anyio.fail_after(self.within_s):
                    await scenario(life)
            except AssertionError as error:  # in here, where no group wraps it
                problem = error
            except TimeoutError:
                problem = AssertionError(await self._describe_delay(life))
            tasks.cancel_scope.cancel()
        return problem

    async def _describe_delay(self, life: Life) -> str:
        account, paid = self.books(), await self.ledger.paid(self.account_id)
        if account is not None and 0 < account.outgoing.entered < paid:
            return f"paid {paid:f} for a settlement of {account.outgoing.entered:f}, and it is still not settled"
        return f"{life.waiting_for} did not happen within {self.within_s:g} s: {life.state}"

    async def _make_blocks(self, watch: Watch) -> None:
        while True:
            await anyio.sleep(_BLOCK_S)
            if anyio.current_time() >= watch.blocks_at:
                await self.make_final()

    async def make_final(self) -> None:
        """Have everything submitted come to its end."""
        press = button(self.ledger, "make_final")
        if press is not None:
            with anyio.CancelScope(shield=True):  # a ledger that survives is not cut in the middle of a block
                await press()

    async def be_paid(self, amount: Decimal) -> None:
        """Have the peer pay us."""
        press = button(self.ledger, "pay_us")
        assert press is not None
        with anyio.CancelScope(shield=True):  # so that what was paid is known
            await press(self.account_id, amount)
            self.earned += amount

    async def paid(self) -> Decimal:
        """Return what the ledger moved for good, once nothing is on its way any more."""
        await self.make_final()
        return await self.ledger.paid(self.account_id)

    def books(self) -> AccountOverview | None:
        """Return what the store knows of the account."""
        found = self.store.apply([c.Overview(account_id=self.account_id)])[0]
        return found[0] if found else None

    async def _judge(self, watch: Watch, name: str, args: tuple[Any, ...], result: Any) -> None:
        """Hold a verdict against the ledger."""
        if name == "prepare" and isinstance(result, Payment):
            self._payees[_text(result)] = args[0]
        elif name == "verify" and isinstance(result, Settled) and _text(args[0]) in self._payees:
            paid = await self.ledger.paid(self._payees[_text(args[0])])
            if paid < result.amount:
                watch.problems.append(
                    f"verify said Settled({result.amount:f}) when the ledger had moved only {paid:f} for good"
                )

    async def _answer(self, account_id: str, message: bytes) -> bytes:
        if account_id in self.answers:
            return self.answers[account_id]()
        press = button(self.ledger, "answer")
        if press is None:
            raise ConnectorError(f"the peer of account {account_id!r} does not answer: the ledger has no such button")
        return encode_json(await press(account_id, decode_json(message))).encode()


class Life:
    """One run of a core with the engine, while it lasts."""

    def __init__(self, trial: Trial, core: Core, engine: Any, *, amount: Decimal) -> None:
        self.trial = trial
        self.core = core
        self.engine = engine
        self.amount = amount
        """What a settlement is of: uses every digit that the engine says it can settle."""
        self.verifiable = core.statistics().verifiable
        self.waiting_for = "the engine's first answer"
        self.last_error = ""

    @property
    def state(self) -> str:
        """What we know when nothing happens any more."""
        told = [self.last_error]
        for lane in self.core.lanes():
            if lane.account_id == self.trial.account_id:
                told.append(f"the {lane.direction} side is {lane.doing}")
                told.append(lane.last_error)
        return "; ".join(filter(None, told)) or "everything is idle"

    async def open_account(self, account_id: str | None = None) -> None:
        """Create the account and wait until the engine has set it up."""
        await self.core.create_account(account_id or self.trial.account_id)
        await self.until("the account's set-up", lambda account: not account.steps)

    async def owe(self) -> None:
        """Be asked to settle, and wait until that is done with; the same again is the same request."""
        await self.core.create_account(self.trial.account_id)
        await self.core.request_settlement(self.trial.account_id, self.amount, "the settlement")
        await self.until("the settlement of what is owed", lambda account: self._is_settled(account.outgoing))

    async def earn(self) -> None:
        """Be paid once, and wait until the connector knows; again, only wait."""
        await self.open_account()
        if not self.trial.earned:
            await self.trial.be_paid(self.amount)
        await self.until_credited()

    async def until_credited(self) -> None:
        """Wait until the connector was told of all we were paid."""
        await self.until(
            "the credit of what the peer paid", lambda account: account.incoming.settled >= self.trial.earned
        )

    def _is_settled(self, outgoing: Totals) -> bool:
        if self.verifiable:
            return outgoing.settled == outgoing.entered == self.amount
        return outgoing.entered == self.amount and outgoing.queued == outgoing.open == 0

    async def until(self, what: str, condition: Callable[[AccountOverview], bool]) -> None:
        """Wait until the books say so; raise AssertionError if the account halts."""
        self.waiting_for = what
        pause_s = _FASTEST_S
        while not condition((await self.core.ask(c.Overview(account_id=self.trial.account_id)))[0]):
            for lane, reason in self.core.statistics().halted.items():
                raise AssertionError(f"{lane.partition(' ')[2]} settlement halted: {reason}")
            await anyio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _SLOWEST_S)

    # without the core: what only a verifiable engine can be asked

    async def prepare(self, attempt_id: str | None = None) -> Payment:
        """Have a payment prepared, as the core would keep it: from JSON."""
        attempt_id = attempt_id or str(uuid.uuid4())
        account_id = self.trial.account_id
        payment = await self.insist(
            "a prepared payment", lambda: self.engine.prepare(account_id, self.amount, attempt_id)
        )
        assert isinstance(payment, Payment), f"prepare returned {type(payment).__name__} for a payment worth making"
        found = f"prepare returned a payment of {payment.amount:f} when asked for {self.amount:f}"
        assert 0 < payment.amount <= self.amount, found
        try:
            reference = decode_json(encode_json(payment.reference))
        except ValueError as problem:
            raise AssertionError(f"prepare returned a reference that is not JSON: {problem}") from None
        return Payment(payment.amount, reference)

    async def insist(self, what: str, call: Callable[[], Awaitable[T]]) -> T:
        """Call until it does not raise, as the core does."""
        self.waiting_for = what
        while True:
            try:
                return await call()
            except Exception as error:  # noqa: BLE001 - whatever the engine raises
                self.last_error = describe(error)
                await anyio.sleep(_SLOWEST_S)

    async def submit(self, payment: Payment) -> None:
        """Submit as the core does: what that raises tells nothing for certain."""
        try:
            await self.engine.submit(payment)
        except Exception as error:  # noqa: BLE001 - whatever the engine raises
            self.last_error = describe(error)

    async def final_word(self, payment: Payment, *, submitting: bool = True) -> Settled | Rejected | Pending:
        """Verify, and submit again where the engine says so, until the verdict is final.

        Not `submitting`, a verdict that asks for it ends the wait, too.
        """
        while True:
            verdict = await self.insist("an answer of verify", lambda: self.engine.verify(payment))
            if isinstance(verdict, Settled | Rejected):
                return verdict
            assert isinstance(verdict, Pending), f"verify returned {type(verdict).__name__}, not a verdict"
            if verdict.resubmit and not submitting:
                return verdict
            if verdict.resubmit:
                await self.submit(payment)
            wanted = "a final verdict" if submitting else "Pending with resubmit, or a final verdict,"
            self.waiting_for = f"{wanted} instead of {verdict}"
            await anyio.sleep(min(verdict.retry_after_s, _SLOWEST_S))


def _watched(services: AccountServices, watch: Watch) -> AccountServices:
    return cast("AccountServices", Watched(services, SERVICE_CALLS, watch))


def _text(payment: Payment) -> str:
    """Return what tells payments apart, before and after they were kept as JSON."""
    try:
        return encode_json(payment.reference)
    except ValueError:
        return ""  # which the core does not keep either


async def _cancel_after(event: anyio.Event, scope: anyio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


def _check(watch: Watch) -> None:
    """Raise AssertionError for what the engine did wrong on the way, or if it took too long to end."""
    if watch.problems:
        raise (UnstoppableError if watch.unstoppable else AssertionError)(watch.problems[0])
    if watch.struck_at is not None:
        took_s = anyio.current_time() - watch.struck_at
        if watch.cancelled and took_s > _PROMPT_S:
            raise AssertionError(f"the engine went on for {took_s:.1f} s after it had been cancelled")
