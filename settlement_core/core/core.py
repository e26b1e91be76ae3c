"""The core as its edges see it: what connectors and operators may ask of it, and how one is opened.

`open_core` nests lifetimes, journal around engine around lanes, so they end in that order reversed, the same every
time, and what failed comes out of the `async with`.
"""

from __future__ import annotations

import contextlib
import random
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import anyio

from settlement_core.abc import ConnectEngine, Connector, Observer, Store
from settlement_core.core.backups import back_up, refuse_older
from settlement_core.core.clock import Clock
from settlement_core.core.condition import Condition
from settlement_core.core.config import CoreConfig
from settlement_core.core.context import Context
from settlement_core.core.doubts import open_doubts, resume_payments
from settlement_core.core.effects import Failed, perform_within
from settlement_core.core.engines import open_engine
from settlement_core.core.journal import Handle, open_journal
from settlement_core.core.lane import LaneStatus
from settlement_core.core.observing import Bulletin
from settlement_core.core.services import Services
from settlement_core.core.sharing import open_sharing
from settlement_core.core.statistics import CoreStatistics
from settlement_core.core.status import ask_status
from settlement_core.core.supervisor import Supervisor
from settlement_core.values.amounts import check_amount
from settlement_core.values.asked import checked
from settlement_core.values.commands import (
    Applied,
    Assign,
    CloseAccount,
    Command,
    Dismiss,
    Enqueue,
    Entered,
    OpenAccount,
    Overview,
    Pause,
    Release,
    Resolve,
    Result,
)
from settlement_core.values.errors import (
    InvalidAmount,
    LocalError,
    MessageNotHandled,
    MessageRejected,
    ShuttingDown,
    UnknownAccount,
)
from settlement_core.values.events import (
    DecisionTaken,
    EngineMisbehaved,
    MessageFailed,
    MoneyDismissed,
    SettlementRequested,
)
from settlement_core.values.identifiers import check_account_id, check_key
from settlement_core.values.json_text import decode_json, encode_json
from settlement_core.values.records import AccountState, Direction
from settlement_core.values.sealing import SEAL, refuse_sealed

__all__ = ["Core", "CoreStatistics", "Decision", "open_core"]

T = TypeVar("T")

Decision: TypeAlias = Resolve | Release | Assign | Dismiss | Pause
"""What an operator decides."""


class Core:
    """A running core; `open_core` gives one."""

    def __init__(self, context: Context, supervisor: Supervisor, store: Store) -> None:
        self._store, self._context, self._supervisor = store, context, supervisor
        self._refusing = False
        self.announce = context.observe
        """Has the observers receive an event of whoever stands in front of the core."""

    def __repr__(self) -> str:
        name, state = self._context.engine.name, "stopping" if self._refusing else "running"
        return f"<Core of {name} {state}, {self._supervisor.active()} active lanes>"

    # what connectors ask (RFC 38, "Settlement Engine HTTP API")

    async def create_account(self, account_id: str | None = None) -> str:
        """Open the account, or one with a fresh id; return its id once that is durable.

        An open account stays as it is, only a set-up that waits is tried again now; a deleted one revives.
        """
        account_id = str(uuid.uuid4()) if account_id is None else check_account_id(account_id)
        set_up = self._context.engine.setup_account is not None
        command = OpenAccount(account_id=account_id, at=self._context.now(), set_up=set_up)
        await self._request(command, lambda *_: self._supervisor.nudge(account_id, [Direction.OUTGOING]))
        return account_id

    async def delete_account(self, account_id: str) -> None:
        """Take no more requests for the account. What it still owes, or was paid, keeps draining."""
        tear_down = self._context.engine.close_account is not None
        command = CloseAccount(account_id=check_account_id(account_id), at=self._context.now(), tear_down=tear_down)
        await self._request(command, lambda *_: self._supervisor.nudge(account_id, [Direction.OUTGOING]))

    async def request_settlement(
        self,
        account_id: str,
        amount: Decimal,
        idempotency_key: str,
        *,
        left: Callable[[], Awaitable[None]] | None = None,
    ) -> Decimal:
        """Have `amount` standard units settled, once per key; return the amount first given for the key.

        Returns once the request is durable, before any of it is paid. Raises `UnknownAccount`,
        `IdempotencyConflict`, `InvalidAmount`, `InvalidIdentifier`; and `StoreUnavailable`, `TooLate` or
        `ShuttingDown` when the same request may be repeated under the same key.

        A request that is cancelled here, or whose asker leaves, before the store was given it is withdrawn: it is not
        recorded. `left` is a function whose call returns when the asker has left, for example at the end of its
        connection; it is awaited only while the store is slow, may be cancelled, and raises `AskerLeft` here.
        """
        command = Enqueue(
            account_id=check_account_id(account_id),
            direction=Direction.OUTGOING,
            entry_id=check_key(idempotency_key, "Idempotency-Key"),
            amount=check_amount(amount, "amount to settle"),
            at=self._context.now(),
        )
        if command.amount == 0:
            raise InvalidAmount("amount to settle", "it is zero")
        try:
            entered = await self._request(command, partial(self._entered, command), left)
        except UnknownAccount:
            if not self._context.config.create_unknown_accounts:
                raise
            await self.create_account(account_id)
            entered = await self._request(command, partial(self._entered, command), left)
        return entered.amount

    async def handle_message(self, account_id: str, message: bytes) -> bytes:
        """Have the engine answer a message of the peer's engine; JSON bytes both ways.

        Raises `UnknownAccount`, `MessageRejected` where the engine cannot take it, `MessageNotHandled` where the
        engine failed or took longer than connectors wait.
        """
        await self._check_open(check_account_id(account_id))
        handle = self._context.engine.handle_message
        if handle is None:
            raise MessageRejected(f"{self._context.engine.name} handles no messages")
        try:
            content = decode_json(message)
        except ValueError as problem:
            raise MessageRejected(f"cannot take this message: {problem}") from None
        answer: Any = await perform_within(
            self._context.config.message_deadline_s,
            lambda: handle(account_id, content),
            misbehaved=lambda reason: self._context.observe(
                EngineMisbehaved(account_id=account_id, doing="handle_message", reason=reason)
            ),
        )
        if isinstance(answer, Failed):
            raise self._message_failed(account_id, answer.reason)
        try:
            return encode_json(answer).encode()
        except ValueError as problem:
            raise self._message_failed(account_id, f"its answer is unusable: {problem}") from None

    # what embedders and operators ask

    async def ask(self, command: Command[T]) -> T:
        """Have the store carry out any command, or answer any query, within the request deadline.

        Raises `UnknownAccount`, or another of its kind, for ids that nothing can have.
        """
        return await self._request(checked(command))

    async def ask_together(self, commands: Sequence[Command[Any]]) -> list[Result]:
        """Have several queries answered in a row, with nothing in between; refusals come back as values."""
        return await _answers([self._offer(checked(command)) for command in commands])

    async def decide(self, command: Decision) -> None:
        """Carry out what a person decided about money set aside, or an account; it then goes on with what follows."""
        await self._request(checked(command), partial(self._decided, command))

    async def decide_together(self, commands: Sequence[Decision]) -> list[Result]:
        """Carry out several decisions in a row; refusals come back as values."""
        return await _answers([self._offer(checked(command), partial(self._decided, command)) for command in commands])

    def try_settlement(self, account_id: str) -> None:
        """Have the account try again now, whatever it waits for."""
        self._supervisor.nudge(account_id)

    def statistics(self) -> CoreStatistics:
        """Return a snapshot."""
        halted = self._supervisor.halted()
        return CoreStatistics(
            engine=self._context.engine.name,
            verifiable=self._context.engine.verifiable is not None,
            recovered=self._supervisor.recovered,
            stopping=self._refusing,
            active_lanes=self._supervisor.active(),
            halted={f"{account_id} {direction}": reason for (account_id, direction), reason in halted.items()},
            journal=self._context.journal.statistics(),
            worker=self._context.sharing.worker,
            partitions=self._context.sharing.partitions,
            partitions_held=len(self._context.sharing.held),
            clock_jumped_s=self._context.clock.jumped_s,
            asset=self._context.engine.asset,
        )

    def condition(self) -> Condition:
        """Return a snapshot of whether money gets on."""
        return self._supervisor.condition()

    @property
    def store_name(self) -> str:
        """The store's URL, or what else tells it from others; never a password."""
        return str(getattr(self._store, "name", type(self._store).__name__))

    async def engine_status(self) -> dict[str, Any]:
        """Return what the engine tells of its ledger; how it failed to, under "error"; nothing if it tells nothing."""
        return await ask_status(self._context)

    async def resume_payments(self, *, reason: str, by: str) -> None:
        """Have payments go on that were stopped since several in a row are in doubt."""
        doubts = self._context.doubts
        await self._request(resume_payments(reason=reason, by=by), lambda *_: doubts.resumed(reason=reason, by=by))

    async def back_up(self) -> Path:
        """Copy the store, while it goes on, to a new file beside its own; return the path, and leave the file.

        Raises `LocalError` for a store that is not backed up like this, and says how it is.
        """
        return await back_up(self._store)

    def lanes(self) -> list[LaneStatus]:
        """Return a snapshot of every direction of an account that is at work."""
        return self._supervisor.lanes()

    @property
    def config(self) -> CoreConfig:
        """The settings this core runs with."""
        return self._context.config

    def refuse_new_work(self) -> None:
        """Answer every further request with `ShuttingDown`; what was accepted goes on."""
        self._refusing = True

    # the way in

    async def _check_open(self, account_id: str) -> None:
        found = await self._request(Overview(account_id=account_id))
        if found and found[0].state is AccountState.OPEN:
            return
        if not self._context.config.create_unknown_accounts:
            raise UnknownAccount(account_id)
        await self.create_account(account_id)

    def _entered(self, command: Enqueue, entered: Entered, number: int) -> None:
        """Have a durable request settled, even if whoever made it no longer waits."""
        self._supervisor.ring(command.account_id, command.direction, entered, number)
        if not entered.replay:
            self._context.observe(
                SettlementRequested(account_id=command.account_id, key=command.entry_id, amount=command.amount)
            )

    def _decided(self, command: Decision, result: Applied | Entered, _: int) -> None:
        repeated = result.replay if isinstance(result, Entered) else not result.changed
        if isinstance(command, Dismiss):
            if not repeated:
                self._context.observe(
                    MoneyDismissed(settlement_id=command.settlement_id, by=command.by, reason=command.reason)
                )
            return
        resumes = isinstance(command, Pause) and not command.paused
        resumed = self._supervisor.resume(command.account_id) if resumes else []
        self._supervisor.nudge(command.account_id)
        if repeated and not resumed:
            return
        what = command.attempt_id if isinstance(command, Resolve | Release) else ""
        decision = type(command).__name__.lower()
        if isinstance(command, Pause):
            decision = "pause" if command.paused else "resume"
        self._context.observe(
            DecisionTaken(
                account_id=command.account_id,
                decision=decision,
                about=command.settlement_id if isinstance(command, Assign) else what,
                by=command.by,
                reason=command.reason,
            )
        )

    async def _request(
        self,
        command: Command[T],
        then: Callable[[T, int], None] | None = None,
        left: Callable[[], Awaitable[None]] | None = None,
    ) -> T:
        return await self._offer(command, then).wait(left)

    def _offer(self, command: Command[T], then: Callable[[T, int], None] | None = None) -> Handle[T]:
        if self._refusing:
            raise ShuttingDown
        return self._context.journal.offer(command, then)

    def _message_failed(self, account_id: str, reason: str) -> MessageNotHandled:
        self._context.observe(MessageFailed(account_id=account_id, reason=reason))
        return MessageNotHandled(account_id, reason)


async def _answers(handles: Sequence[Handle[Any]]) -> list[Result]:
    for handle in handles:
        with contextlib.suppress(LocalError):
            await handle.wait()
    return [handle.result for handle in handles]


@asynccontextmanager
async def open_core(
    connect_engine: ConnectEngine,
    *,
    store: Store,
    connector: Connector,
    config: CoreConfig | None = None,
    observer: Observer | None = None,
    now: Callable[[], float] = time.time,
    chance: Callable[[], float] = random.random,
    worker: str | None = None,
) -> AsyncIterator[Core]:
    """Run a core for the block, on trio or asyncio; the caller keeps and closes the store and the connector.

    Leaving the block refuses new work, lets effects in flight end for `config.shutdown_s` seconds, cuts the rest
    (it is looked at, at the next start), closes the engine and drains the journal. If the engine or the store
    fails for good the block is cancelled, and the real exceptions are raised, in a group.

    Args:
        connect_engine: makes the engine from its `AccountServices`.
        store: where everything durable lives, for this core alone unless it is a `SharedStore`.
        connector: the accounting system to credit and to send messages through.
        config: settings; the defaults suit most.
        observer: is told of events.
        now: the wall clock for durable times, seconds since 1970.
        chance: random numbers in [0, 1) for jitter.
        worker: names this run among those that share the store, and no other run ever; a random id by default.
    """
    refuse_older(store)
    config, bulletin, supervisor = config or CoreConfig(), Bulletin(observer), Supervisor()
    async with (
        open_journal(
            store, observer=bulletin, drain_s=config.drain_s, request_deadline_s=config.request_deadline_s
        ) as journal,
        open_sharing(worker or uuid.uuid4().hex, journal=journal, config=config, now=now) as sharing,
    ):
        refuse_sealed(await journal.ask(SEAL))
        clock = Clock(now, journal=journal, observer=bulletin, config=config)
        await clock.begin()
        services = Services(
            journal=journal,
            sharing=sharing,
            connector=connector,
            observer=bulletin,
            now=clock.now,
            ring=supervisor.ring,
            nudge=supervisor.nudge,
        )
        async with open_engine(connect_engine, services) as engine, anyio.create_task_group() as tasks:
            context = Context(
                config=config,
                journal=journal,
                sharing=sharing,
                engine=engine,
                connector=connector,
                observer=bulletin,
                clock=clock,
                chance=chance,
                doubts=await open_doubts(journal, bulletin.observe, config.stop_after_doubts, supervisor.wake_due),
            )
            supervisor.start(tasks, context, store)
            bulletin.observe(engine.started())
            core = Core(context, supervisor, store)
            try:
                yield core
                core.refuse_new_work()
                await supervisor.stop(config.shutdown_s)
            finally:
                supervisor.end()
