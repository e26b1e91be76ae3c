"""A toy chain with every button of the check, and engines on it: sound ones, and one for each fault to be found."""

from __future__ import annotations

import random
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, cast

import anyio

from settlement_core import (
    AccountServices,
    InvariantError,
    LocalError,
    Payment,
    Pending,
    Rejected,
    Settled,
    SettlementFailed,
    UnknownAccount,
    Verdict,
)
from settlement_core.values.amounts import total

STEP_S = 0.01
"""Seconds of one way to the chain."""

LASTS = 10
"""Blocks in which a payment that expires may be."""

NEVER = 10**9
"""A block that never comes."""


@dataclass(frozen=True)
class Replica:
    """What answers one look-up: it holds the blocks from `lowest` to `height`, and nothing else."""

    lowest: int
    height: int
    pool: frozenset[str]
    final: frozenset[str]
    refused: frozenset[str]
    events: tuple[tuple[int, str | None, Decimal], ...]

    def between(self, after: int, last: int) -> list[tuple[int, str | None, Decimal]]:
        """Return the events it has of these blocks."""
        return [event for event in self.events if after < event[0] <= last]


@dataclass
class ToyLedger:
    """A transaction id applies once, at the end of a block; what is in no block can be lost. Nobody pays us here."""

    engine: type[ToyEngine | TellerEngine]
    pool: dict[str, tuple[str, Decimal]] = field(default_factory=dict)
    until: dict[str, int] = field(default_factory=dict)
    final: dict[str, tuple[str, Decimal]] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    height: int = 0
    block_of: dict[str, int] = field(default_factory=dict)
    events: list[tuple[int, str | None, Decimal]] = field(default_factory=list)
    losing: str = ""
    rejecting: bool = False
    lagging: float = 0.0
    lagging_at: int = 0
    pruned: float = 0.0
    pruned_below: int = 0
    dice: random.Random = field(default_factory=lambda: random.Random(1))

    def connect(self, services: AccountServices) -> Any:
        """Make the engine."""
        return self.engine.open(cast("Any", self), services)

    def apply(self, tx: str, account_id: str, amount: Decimal, until: int = NEVER) -> None:
        """Take a transaction into the pool."""
        losing, self.losing = self.losing, ""
        if losing != "request" and tx not in self.final and tx not in self.refused:
            if self.rejecting:
                self.rejecting = False
                self.height += 1
                self.block_of[tx] = self.height
                self.refused.add(tx)
            else:
                self.pool[tx], self.until[tx] = (account_id, amount), until
        if losing:
            raise TimeoutError("the chain did not answer")

    async def paid(self, account_id: str) -> Decimal:
        """Return what is in blocks."""
        return total(amount for owner, amount in self.final.values() if owner == account_id)

    async def make_final(self) -> None:
        """Make a block, without what has expired."""
        self.height += 1
        for tx, transfer in self.pool.items():
            if self.height <= self.until[tx]:
                self.final[tx], self.block_of[tx] = transfer, self.height
        self.pool.clear()

    async def lose_next_request(self) -> None:
        """Break the way there."""
        self.losing = "request"

    async def lose_next_reply(self) -> None:
        """Break the way back."""
        self.losing = "reply"

    async def reject_next(self) -> None:
        """Refuse for good."""
        self.rejecting = True

    async def reorganise(self) -> None:
        """Forget what is in no block."""
        self.pool.clear()

    # its replicas

    def look(self) -> Replica:
        """Return what whichever replica answers holds."""
        height = min(self.lagging_at, self.height) if self.dice.random() < self.lagging else self.height
        lowest = self.pruned_below if self.dice.random() < self.pruned else 0
        held = range(lowest, height + 1)
        return Replica(
            lowest=lowest,
            height=height,
            pool=frozenset(self.pool) if height == self.height else frozenset(),
            final=frozenset(tx for tx in self.final if self.block_of[tx] in held),
            refused=frozenset(tx for tx in self.refused if self.block_of[tx] in held),
            events=tuple(event for event in self.events if event[0] in held),
        )

    async def fall_behind(self, share: float) -> None:
        """Have a replica stop here."""
        self.lagging, self.lagging_at = share, self.height

    async def prune(self, share: float) -> None:
        """Have a replica forget the blocks up to here."""
        self.pruned, self.pruned_below = share, self.height + 1

    async def catch_up(self) -> None:
        """Have all replicas hold everything."""
        self.lagging = self.pruned = 0.0


@dataclass
class ToyChain(ToyLedger):
    """The same, on which peers that said where to pay also pay us."""

    memos: dict[str, str] = field(default_factory=dict)

    async def answer(self, account_id: str, message: Any) -> Any:
        """Say where the peer wants to be paid, and learn where it can pay."""
        self.memos[account_id] = message["memo"]
        return {"pay": account_id}

    async def pay_us(self, account_id: str, amount: Decimal) -> None:
        """Pay with the memo the engine gave for this."""
        self._pay(self.memos[account_id], amount)

    async def pay_us_as_stranger(self, amount: Decimal) -> None:
        """Pay without a memo."""
        self._pay(None, amount)

    def _pay(self, memo: str | None, amount: Decimal) -> None:
        self.height += 1
        self.events.append((self.height, memo, amount))


class TellerEngine:
    """A sound minimal engine: says it failed only if it never asked the chain."""

    asset_scale = 9

    def __init__(self, chain: ToyLedger, services: AccountServices) -> None:
        self.chain = chain
        self.services = services

    @classmethod
    def open(cls, chain: ToyLedger, services: AccountServices) -> TellerEngine:
        """Make the engine."""
        return cls(chain, services)

    async def settle(self, account_id: str, amount: Decimal) -> Decimal:
        """Pay, and wait for the block."""
        tx = str(uuid.uuid4())
        await anyio.sleep(STEP_S)
        self.chain.apply(tx, account_id, amount)
        while tx not in self.chain.final:
            await anyio.sleep(STEP_S)
            if tx in self.chain.refused:
                raise SettlementFailed("the chain refused it")
        return amount


class ToyEngine:
    """A sound engine that can be asked, with a scan of what comes in and words for its peers."""

    asset_scale = 9

    def __init__(self, chain: ToyChain, services: AccountServices) -> None:
        self.chain = chain
        self.services = services

    @classmethod
    @asynccontextmanager
    async def open(cls, chain: ToyChain, services: AccountServices) -> AsyncIterator[ToyEngine]:
        """Make the engine, and scan as long as it lives."""
        engine = cls(chain, services)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(engine.scan)
            yield engine
            tasks.cancel_scope.cancel()

    async def setup_account(self, account_id: str) -> None:
        """Exchange memos."""
        memo = f"memo of {account_id}"
        await self.services.save(memo, account_id)
        answer = await self.services.send_message(account_id, {"memo": memo})
        if not isinstance(answer, dict) or not isinstance(answer.get("pay"), str):
            raise LocalError("the peer did not say where to pay")
        await self.services.save("payee", answer["pay"], account_id)

    async def handle_message(self, account_id: str, message: Any) -> Any:
        """Answer with what was not understood."""
        await anyio.sleep(STEP_S)
        return {"error": "not understood", "message": message}

    async def prepare(self, account_id: str, amount: Decimal, attempt_id: str) -> Payment:
        """Decide."""
        payee = await self.services.load("payee", account_id)
        return Payment(amount, {"tx": attempt_id, "to": payee, "amount": str(amount)})

    async def submit(self, payment: Payment) -> None:
        """Send."""
        await anyio.sleep(STEP_S)
        self.chain.apply(*self.transaction(payment))
        await anyio.sleep(STEP_S)

    async def verify(self, payment: Payment) -> Verdict:
        """Look."""
        await anyio.sleep(STEP_S)
        tx, _, amount = self.transaction(payment)
        replica = self.chain.look()
        if tx in replica.refused:
            return Rejected("the chain refused it")
        if tx in replica.final:
            return Settled(amount)
        return Pending(STEP_S, resubmit=tx not in replica.pool)

    def transaction(self, payment: Payment) -> tuple[str, str, Decimal]:
        """Return what goes to the chain."""
        reference = cast("dict[str, str]", payment.reference)
        return reference["tx"], reference["to"], Decimal(reference["amount"])

    async def scan(self) -> None:
        """Credit every event, and go on from there after a restart."""
        cursor = await self.services.load("cursor") or 0
        while True:
            await anyio.sleep(STEP_S)
            replica = self.chain.look()
            if replica.lowest > cursor + 1:
                continue  # what lies between may hold money
            cursor = await self.credit_range(replica, cursor, max(replica.height, cursor))

    async def credit_range(self, replica: Replica, cursor: int, height: int) -> int:
        """Credit what the replica has of these blocks, and then move the cursor past them."""
        events = replica.between(cursor, height)
        for block, memo, amount in events:
            await self.credit(f"event in block {block}", memo, amount)
        if events:
            await self.services.save("cursor", height)
        return height

    async def credit(self, event: str, memo: str | None, amount: Decimal) -> None:
        """Credit one event, or report it."""
        account_id = memo and await self.services.load(memo)
        if account_id:
            await self.services.credit_settlement(account_id, amount, event)
        else:
            await self.services.report_unattributed(event, amount, {"memo": memo})


class ExpiringEngine(ToyEngine):
    """A sound engine whose payments expire: absence counts from a replica that holds every block they may be in."""

    async def prepare(self, account_id: str, amount: Decimal, attempt_id: str) -> Payment:
        """Decide, with the blocks it may be in."""
        payment = await super().prepare(account_id, amount, attempt_id)
        height = self.chain.look().height
        reference = cast("dict[str, str]", payment.reference)
        return Payment(amount, {**reference, "after": height, "until": height + LASTS})

    async def submit(self, payment: Payment) -> None:
        """Send."""
        await anyio.sleep(STEP_S)
        _, until = self.blocks(payment)
        if self.chain.height < until:
            self.chain.apply(*self.transaction(payment), until)
        await anyio.sleep(STEP_S)

    async def verify(self, payment: Payment) -> Verdict:
        """Look."""
        await anyio.sleep(STEP_S)
        replica = self.chain.look()
        return self.judge(payment, replica, lowest=replica.lowest, height=replica.height)

    def judge(self, payment: Payment, replica: Replica, *, lowest: int, height: int) -> Verdict:
        """Decide from what a replica has, and what is believed that it holds."""
        tx, _, amount = self.transaction(payment)
        after, until = self.blocks(payment)
        if tx in replica.refused:
            return Rejected("the chain refused it")
        if tx in replica.final:
            return Settled(amount)
        if lowest <= after + 1 and height >= until:
            return Rejected("it has expired")
        return Pending(STEP_S, resubmit=tx not in replica.pool)

    def blocks(self, payment: Payment) -> tuple[int, int]:
        """Return after which block, and up to which, a payment may be on the chain."""
        reference = cast("dict[str, int]", payment.reference)
        return reference["after"], reference["until"]


# one fault each


class PaysAnewPerSubmit(ToyEngine):
    """A new nonce for every submission; only the newest is remembered."""

    def __init__(self, chain: ToyChain, services: AccountServices) -> None:
        super().__init__(chain, services)
        self.newest: dict[str, str] = {}

    async def submit(self, payment: Payment) -> None:
        """Send anew."""
        self.newest[super().transaction(payment)[0]] = str(uuid.uuid4())
        await super().submit(payment)

    def transaction(self, payment: Payment) -> tuple[str, str, Decimal]:
        """Return the newest."""
        tx, account_id, amount = super().transaction(payment)
        return self.newest.get(tx, tx), account_id, amount


class PaysAnewPerPrepare(ToyEngine):
    """A new transaction for every `prepare`."""

    async def prepare(self, account_id: str, amount: Decimal, attempt_id: str) -> Payment:
        """Decide anew."""
        return await super().prepare(account_id, amount, str(uuid.uuid4()))


class LostReplyIsFailure(TellerEngine):
    """Whatever goes wrong, nothing was settled."""

    async def settle(self, account_id: str, amount: Decimal) -> Decimal:
        """Pay or fail."""
        try:
            return await super().settle(account_id, amount)
        except Exception as error:
            raise SettlementFailed(str(error)) from error


class CancelledIsFailure(TellerEngine):
    """Even cancelled, nothing was settled."""

    async def settle(self, account_id: str, amount: Decimal) -> Decimal:
        """Pay or fail."""
        try:
            return await super().settle(account_id, amount)
        except BaseException as error:
            raise SettlementFailed(str(error)) from error


class SettledTooEarly(ToyEngine):
    """What the chain has seen is taken for settled."""

    async def verify(self, payment: Payment) -> Verdict:
        """Look."""
        verdict = await super().verify(payment)
        return verdict if not isinstance(verdict, Pending) or verdict.resubmit else Settled(payment.amount)


class SettledNothing(ToyEngine):
    """What the chain has moved is taken for nothing."""

    async def verify(self, payment: Payment) -> Verdict:
        """Look."""
        verdict = await super().verify(payment)
        return Settled(Decimal(0)) if isinstance(verdict, Settled) else verdict


class RejectedTooEarly(ToyEngine):
    """What is in no block yet is taken for rejected."""

    async def verify(self, payment: Payment) -> Verdict:
        """Look."""
        verdict = await super().verify(payment)
        return Rejected("not seen") if isinstance(verdict, Pending) and not verdict.resubmit else verdict


class UnknownIsRejected(ToyEngine):
    """What the chain does not know is taken for rejected, and sent all the same when it comes again."""

    async def verify(self, payment: Payment) -> Verdict:
        """Look."""
        verdict = await super().verify(payment)
        return Rejected("unknown") if isinstance(verdict, Pending) and verdict.resubmit else verdict


class UnknownIsSettled(ToyEngine):
    """What the chain does not know any more must have been settled."""

    async def verify(self, payment: Payment) -> Verdict:
        """Look."""
        verdict = await super().verify(payment)
        return Settled(payment.amount) if isinstance(verdict, Pending) and verdict.resubmit else verdict


class ForgetsItsRejections(ToyEngine):
    """The chain forgets what it refused, and the engine relies on it."""

    def __init__(self, chain: ToyChain, services: AccountServices) -> None:
        super().__init__(chain, services)
        self.refused, chain.refused = set(chain.refused), set()

    async def verify(self, payment: Payment) -> Verdict:
        """Look."""
        return await super().verify(payment)


class NeverSubmitsAgain(ToyEngine):
    """Waits for ever for what never arrived."""

    async def verify(self, payment: Payment) -> Verdict:
        """Look."""
        verdict = await super().verify(payment)
        return Pending(1.0) if isinstance(verdict, Pending) else verdict


class PaysThroughFloats(ToyEngine):
    """Amounts pass through binary fractions of six digits."""

    async def prepare(self, account_id: str, amount: Decimal, attempt_id: str) -> Payment:
        """Decide, roughly."""
        rough = Decimal(f"{float(amount):.6f}")
        await super().prepare(account_id, amount, attempt_id)
        return Payment(amount, {"tx": attempt_id, "to": account_id, "amount": str(rough)})

    async def verify(self, payment: Payment) -> Verdict:
        """Look."""
        verdict = await super().verify(payment)
        return Settled(payment.amount) if isinstance(verdict, Settled) else verdict


class PaysOnPrepare(ToyEngine):
    """Sends what it prepares."""

    async def prepare(self, account_id: str, amount: Decimal, attempt_id: str) -> Payment:
        """Decide and send."""
        payment = await super().prepare(account_id, amount, attempt_id)
        await self.submit(payment)
        return payment


class KeepsObjects(ToyEngine):
    """A reference that lives in memory only."""

    async def prepare(self, account_id: str, amount: Decimal, attempt_id: str) -> Payment:
        """Decide."""
        payment = await super().prepare(account_id, amount, attempt_id)
        return Payment(amount, {**cast("dict[str, str]", payment.reference), "amount": amount})


class SwallowsCancellation(ToyEngine):
    """Sends, and does not care for what happens meanwhile."""

    async def submit(self, payment: Payment) -> None:
        """Send."""
        try:
            await super().submit(payment)
        except BaseException:  # noqa: BLE001 - the fault
            return


class NeverEnds(ToyEngine):
    """Tries for ever, also when nobody wants it to."""

    async def submit(self, payment: Payment) -> None:
        """Send."""
        while True:
            try:
                return await super().submit(payment)
            except GeneratorExit:  # or the process that holds this coroutine could not end
                raise
            except BaseException:  # noqa: BLE001 - the fault
                continue


class TakesItsTime(ToyEngine):
    """Goes on for a minute after it was cancelled."""

    async def submit(self, payment: Payment) -> None:
        """Send."""
        try:
            await super().submit(payment)
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await anyio.sleep(60)
            raise


class StopsAtStrangers(ToyEngine):
    """Looks at nothing behind what it cannot place."""

    async def credit(self, event: str, memo: str | None, amount: Decimal) -> None:
        """Credit, or stop."""
        if memo is None:
            await anyio.sleep_forever()
        await super().credit(event, memo, amount)


class DiesOfStrangers(ToyEngine):
    """Takes an unknown account for the end of the world."""

    async def credit(self, event: str, memo: str | None, amount: Decimal) -> None:
        """Credit, or die."""
        if memo is None:
            raise UnknownAccount("nobody")
        await super().credit(event, memo, amount)


class DropsStrangers(ToyEngine):
    """Keeps quiet about money it cannot place."""

    async def credit(self, event: str, memo: str | None, amount: Decimal) -> None:
        """Credit, or not."""
        if memo is not None:
            await super().credit(event, memo, amount)


class CreditsAnew(ToyEngine):
    """Names every credit anew."""

    async def credit(self, event: str, memo: str | None, amount: Decimal) -> None:
        """Credit."""
        await super().credit(str(uuid.uuid4()), memo, amount)


class MovesItsCursorFirst(ToyEngine):
    """Looks at no event twice, and at some not at all."""

    async def scan(self) -> None:
        """Credit what is new."""
        cursor = await self.services.load("cursor") or 0
        while True:
            await anyio.sleep(STEP_S)
            replica = self.chain.look()
            events = replica.between(cursor, replica.height)
            if events:
                await self.services.save("cursor", replica.height)
            for block, memo, amount in events:
                await self.credit(f"event in block {block}", memo, amount)
            cursor = replica.height


class SeesOnlyWhatIsNew(ToyEngine):
    """Begins with what comes after its start."""

    async def scan(self) -> None:
        """Credit what is new."""
        await self.services.save("cursor", self.chain.height)
        await super().scan()


class BreaksOnNonsense(ToyEngine):
    """Takes every message for one of its own."""

    async def handle_message(self, account_id: str, message: Any) -> Any:
        """Answer."""
        return {"memo": message["type"]}


class HangsOnNonsense(ToyEngine):
    """Waits for the rest of the message."""

    async def handle_message(self, account_id: str, message: Any) -> Any:
        """Answer, perhaps."""
        if not message:
            await anyio.sleep_forever()
        return message


class AnswersObjects(ToyEngine):
    """Answers with something that is not JSON."""

    async def handle_message(self, account_id: str, message: Any) -> Any:
        """Answer."""
        return {"asset scale": Decimal(9)}


class DiesOfNonsense(ToyEngine):
    """Ends with the first peer that answers nonsense."""

    async def setup_account(self, account_id: str) -> None:
        """Exchange memos, or die."""
        try:
            await super().setup_account(account_id)
        except LocalError:
            self.broken.set()
            raise

    async def scan(self) -> None:
        """Scan until broken."""
        self.broken = anyio.Event()
        await self.broken.wait()
        raise InvariantError("a peer answered nonsense")


class WaitsForAllPeers(ToyEngine):
    """One lock for every account, held until a peer has answered well."""

    async def setup_account(self, account_id: str) -> None:
        """Exchange memos, one after the other."""
        if not hasattr(self, "lock"):
            self.lock = anyio.Lock()
        async with self.lock:
            while True:
                try:
                    return await super().setup_account(account_id)
                except Exception:  # noqa: BLE001 - the fault
                    await anyio.sleep(1)


class NeverAnswers(TellerEngine):
    """Pays, and then does not know what to say."""

    async def settle(self, account_id: str, amount: Decimal) -> Decimal:
        """Pay and raise."""
        await super().settle(account_id, amount)
        raise RuntimeError("what was I saying?")


class NeverStarts(ToyEngine):
    """Finds no node."""

    def __init__(self, chain: ToyChain, services: AccountServices) -> None:
        super().__init__(chain, services)
        raise ConnectionRefusedError("no node here")


class TakesLongAbsenceForRejection(ToyEngine):
    """What was looked for in vain five times is taken for rejected, however old the answers are."""

    def __init__(self, chain: ToyChain, services: AccountServices) -> None:
        super().__init__(chain, services)
        self.looks = 0

    async def verify(self, payment: Payment) -> Verdict:
        """Look, and lose patience."""
        verdict = await super().verify(payment)
        self.looks += isinstance(verdict, Pending) and verdict.resubmit
        return Rejected("it is nowhere") if isinstance(verdict, Pending) and self.looks > 5 else verdict


class TakesPrunedForExpired(ExpiringEngine):
    """Does not look how far back the answer reaches."""

    async def verify(self, payment: Payment) -> Verdict:
        """Look."""
        await anyio.sleep(STEP_S)
        replica = self.chain.look()
        return self.judge(payment, replica, lowest=0, height=replica.height)


class TakesHeightFromElsewhere(ExpiringEngine):
    """Asks for the height, and then, perhaps another replica, for the payment."""

    async def verify(self, payment: Payment) -> Verdict:
        """Look twice."""
        await anyio.sleep(STEP_S)
        height, replica = self.chain.look().height, self.chain.look()
        return self.judge(payment, replica, lowest=replica.lowest, height=height)


class MovesWithItsSubscription(ToyEngine):
    """Is told of each new block, and moves its cursor there whatever it found."""

    async def scan(self) -> None:
        """Credit."""
        cursor = await self.services.load("cursor") or 0
        while True:
            await anyio.sleep(STEP_S)
            cursor = await self.credit_range(self.chain.look(), cursor, self.chain.height)


class SkipsWhatIsPruned(ToyEngine):
    """Takes the blocks before those it is shown for empty."""

    async def scan(self) -> None:
        """Credit."""
        cursor = await self.services.load("cursor") or 0
        while True:
            await anyio.sleep(STEP_S)
            replica = self.chain.look()
            cursor = await self.credit_range(replica, cursor, max(replica.height, cursor))


class MovesToHeightFromElsewhere(ToyEngine):
    """Asks for the height, and then, perhaps another replica, for the payments up to it."""

    async def scan(self) -> None:
        """Credit."""
        cursor = await self.services.load("cursor") or 0
        while True:
            await anyio.sleep(STEP_S)
            height = max(self.chain.look().height, cursor)
            cursor = await self.credit_range(self.chain.look(), cursor, height)
