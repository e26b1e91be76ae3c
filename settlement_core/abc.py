"""Floor 1: the ports. What the core asks of an engine, a store, a connector and an observer, and what it gives.

Each Protocol's docstrings state its duties. `settlement_core.testing` has a check for each.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import Any, Protocol, TypeAlias, runtime_checkable

from settlement_core.values.commands import Command, Result
from settlement_core.values.events import Event
from settlement_core.values.known import KnownSettlement
from settlement_core.values.records import AccountOverview, Attempt, Entry, Payment

__all__ = [
    "AccountServices",
    "Acknowledged",
    "Arrival",
    "ConnectEngine",
    "Connector",
    "CreditOutcome",
    "ImportingStore",
    "InDoubt",
    "Observer",
    "Pending",
    "Refused",
    "Rejected",
    "RestorableStore",
    "Settled",
    "SettlementEngine",
    "SharedStore",
    "Store",
    "Unanswered",
    "Verdict",
    "VerifiableEngine",
]


# the ledger's side


@dataclass(frozen=True, slots=True)
class Settled:
    """The ledger is final: `amount` of the payment moved, and no more of it ever will."""

    amount: Decimal


@dataclass(frozen=True, slots=True)
class Rejected:
    """The ledger is final: nothing of this payment moved, and it can never apply any more.

    Attributes:
        reason: one line for an operator.
        pause: pause the account as well, until an operator resumes it: another try would only cost money again.
    """

    reason: str
    pause: bool = False


@dataclass(frozen=True, slots=True)
class InDoubt:
    """The ledger can never tell what became of the payment: an operator must find out, and resolve the attempt."""

    reason: str


@dataclass(frozen=True, slots=True)
class Pending:
    """Not final yet: ask again after `retry_after_s` seconds, having submitted the same again if `resubmit`.

    What was never submitted is pending too, with `resubmit`: nothing else ever has it submitted after a restart.
    """

    retry_after_s: float
    resubmit: bool = False


Verdict: TypeAlias = Settled | Rejected | Pending | InDoubt


@runtime_checkable
class SettlementEngine(Protocol):
    """The minimal engine. Anything but a returned amount leaves the settlement in doubt, for a person to resolve.

    Optional members: `setup_account(account_id)`, `close_account(account_id)`,
    `handle_message(account_id, message) -> message` (JSON values), `disconnect()`, `status()`, which returns a JSON
    object of what an operator should know of the ledger's side (balance, height; under "alarm" what stops it until a
    person has looked, under "warnings" a list of what stops nothing and needs to be compared; never a secret),
    the class attribute `asset_scale: int`, the finest scale the ledger can settle, and `asset: str`, the label of what
    it settles in, such as "EUR", which is shown beside amounts.
    """

    async def settle(self, account_id: str, amount: Decimal) -> Decimal:
        """Pay the peer up to `amount` standard units; return how much was paid.

        Less than asked is queued again. Raise `SettlementFailed` if nothing moved *for certain*; an exception group
        that holds nothing else, such as a task group's, counts as one.
        """
        ...


@runtime_checkable
class VerifiableEngine(Protocol):
    """An engine that can ask its ledger what became of a payment; nothing is left to a person.

    The core keeps what `prepare` returned before it first calls `submit`, and after a crash, a takeover or any
    exception asks `verify` before anything else. Optional members as for `SettlementEngine`.
    """

    async def prepare(self, account_id: str, amount: Decimal, attempt_id: str) -> Payment | None:
        """Build and sign a payment of up to `amount`, without effect; None if not worth paying yet.

        May be called again for the same attempt as long as no payment was kept. As a store that fails over may
        forget one it kept, the ledger should take payments of the same attempt for the same, or refuse all but one.
        """
        ...

    async def submit(self, payment: Payment) -> None:
        """Hand the payment to the ledger. May be repeated with the identical payment, and must then pay once."""
        ...

    async def verify(self, payment: Payment) -> Verdict:
        """Tell what became of the payment. An exception changes nothing: it is asked again later.

        Also asked of payments that may never have been submitted: the answer is then `Pending` with `resubmit`.

        `Rejected` needs proof. That a source has no such payment is proof only if the same answer shows that the source
        holds every block the payment can be in. A node that lags or is pruned does not, and the height that one
        replica tells says nothing about what is absent from another. Until such an answer comes, raise or return
        `Pending`.
        """
        ...


class AccountServices(Protocol):
    """What the core does for an engine. Everything awaited here is durable once it returns."""

    async def send_message(self, account_id: str, message: Any) -> Any:
        """Send a JSON value to the peer's engine and return its JSON answer. Raises `ConnectorError`."""
        ...

    async def credit_settlement(self, account_id: str, amount: Decimal, settlement_id: str | None = None) -> None:
        """Credit an incoming settlement of `amount` standard units.

        The same `settlement_id` credits once, for ever; without one every call credits anew. What was reported as
        unattributed under this id becomes this account's. Raises `UnknownAccount` (use `report_unattributed`),
        `SuspenseConflict` if an operator assigned it to another account or dismissed it as not ours,
        `IdempotencyConflict`, `InvalidAmount`, `InvalidIdentifier`.
        """
        ...

    async def report_unattributed(self, settlement_id: str, amount: Decimal, details: Any) -> None:
        """Keep money whose owner cannot be told, with JSON details for the operator who will assign it.

        Under the settlement id that its credit would have, so that it is never counted twice. That a look-up of the
        sender finds nothing makes the money nobody's only if the source of the look-up holds all senders: one that lags
        or fails is asked again before anything is reported.
        """
        ...

    def try_settlement(self, account_id: str) -> None:
        """Have the account look for something to settle now, whatever back-off it is in."""
        ...

    async def load(self, key: str, account_id: str | None = None) -> Any:
        """Return the JSON value saved under `key`, for the account or for the engine as a whole, or None."""
        ...

    async def save(self, key: str, value: Any, account_id: str | None = None) -> None:
        """Keep a JSON value under `key`; None deletes it. Raises `InvalidIdentifier` for a key with half a character.

        A cursor over what the ledger tells is saved after everything before it is credited or reported. It moves past
        a range only if the answer shows that its source holds all of that range. An empty list from a node that
        lags, is pruned, or is another replica than the one that told the height moves nothing.
        """
        ...

    async def lead(self) -> None:
        """Return once no other worker that shares the store runs this engine, and none will while this one is heard of.

        For an engine of which there may be one at a time, such as one that numbers its key's transactions: to be
        awaited first of all, while it is being made. Others stand by until then, and take no requests. From then on
        `save` of the engine's own values is refused, and the core ends, with `LeadershipLost` once another leads.
        """
        ...


Engine: TypeAlias = SettlementEngine | VerifiableEngine

ConnectEngine: TypeAlias = Callable[[AccountServices], AbstractAsyncContextManager[Engine] | Awaitable[Engine] | Engine]
"""How an engine is made: an async context manager yielding it, a coroutine returning it, or a plain function."""


# the store's side


class Store(Protocol):
    """A durable, idempotent interpreter of commands.

    Synchronous on purpose: one caller at a time applies a whole batch. `threaded` says that `apply` may block
    and is to be called in a worker thread (always one at a time, not always the same one).
    """

    @property
    def threaded(self) -> bool:
        """Tell whether `apply` may block."""
        ...

    def apply(self, commands: Sequence[Command[Any]]) -> list[Result]:
        """Apply a batch in order; every command holds durably on return.

        A command the store refuses is answered with a `LocalError` *value* and changes nothing; the others are
        not affected. Raises `StoreUnavailable` when the batch should be applied again, as a whole, later (part
        of it may hold already); anything else raised means that the store is broken for good.
        """
        ...

    def close(self) -> None:
        """Give the store back. It may be called twice."""
        ...


@runtime_checkable
class SteppedStore(Store, Protocol):
    """A store that tells where it waits, so that only its waits are made in a thread.

    A thread that computes beside a busy loop waits for the interpreter again after every statement or reply; a batch
    that needs a millisecond by itself then takes twenty. The core then calls this and not `apply`, so whoever extends
    such a store extends both, or lets `apply` make the waits of this.
    """

    def apply_in_steps(self, commands: Sequence[Command[Any]]) -> Generator[Callable[[], Any], Any, list[Result]]:
        """Apply a batch as `apply` does, for a caller that makes each wait: of the disk, or for a server.

        Yields what is to be called next, in any thread, and wants what that returned, or raised; an `Arrival` may be
        awaited instead. A generator that is closed before its end leaves the batch to be applied again, as a whole.
        """
        ...


@dataclass(frozen=True, slots=True)
class Arrival:
    """A wait of a `SteppedStore` for bytes on a socket, for which a loop needs no thread.

    Attributes:
        file_no: of the socket.
        within_s: seconds to wait at most, None for ever.
    """

    file_no: int
    within_s: float | None

    def __call__(self) -> bool:
        """Wait here; tell whether there is something to read, or the end of the stream."""
        with DefaultSelector() as selector:
            selector.register(self.file_no, EVENT_READ)
            return bool(selector.select(self.within_s))


@runtime_checkable
class SharedStore(Store, Protocol):
    """A store that several workers use at once, each holding leases on some of its partitions (`Share`)."""

    def hear(self, worker: str, timeout_s: float) -> bool:
        """Block until another worker may have rung this one, `timeout_s` seconds at most; tell whether one did.

        Only a hint, that a `Share` is worth asking at once: rings may be missed here, and none is given here. Called
        in a thread of its own, at the same time as `apply`. Must not raise for a store that cannot be reached.
        """
        ...


@runtime_checkable
class ImportingStore(Store, Protocol):
    """A store into which accounts can be brought from another one, as they are."""

    def import_account(self, account: AccountOverview, entries: Iterable[Entry], attempts: Iterable[Attempt]) -> None:
        """Take over one account with everything that ever happened in it; durable once the next `apply` returns.

        From then on it answers every command as it did where it comes from; only the numbers of its entries may be
        others, in the same order. The account must not be here yet, and nobody else may use the store meanwhile.

        Each iterable is read once, as it is written, `attempts` first: they come in the order of their claims,
        `entries` one direction after the other, each oldest first. However many they are, others who ask the server
        are not held up for long. The account can be seen, and is due, once all of it is here and not before; if this
        raises, it cannot, though rows of it may take up room. Raises as `apply`, or a `LocalError` if it is there.
        """
        ...

    def import_known(self, known: Iterable[KnownSettlement]) -> None:
        """Take over the settlement ids that another store's accounts know for ever, once the accounts are here."""
        ...

    def export_known(self) -> Iterator[KnownSettlement]:
        """Yield each settlement id whose credit has left the history (`Retire`), one account after the other."""
        ...


@runtime_checkable
class RestorableStore(Store, Protocol):
    """A store that can be backed up, and that knows restored books, which may be older than the ledger, from others."""

    @property
    def maybe_older(self) -> str:
        """Return why these books may be older than the ledger, as part of a sentence; "" if nothing speaks for that."""
        ...

    def adopt(self) -> None:
        """Take these books for the latest from now on, once all that was unsettled in them is set aside."""
        ...

    def back_up(self, path: str | Path | None = None) -> Path:
        """Make a consistent copy in a new file, whose books tell that they may be older once they are opened.

        Without a path the file is one beside the store's, of a new name. Return its path. Blocks; may be called in a
        thread at the same time as `apply`. Raises `LocalError` if it cannot be made.
        """
        ...


# the connector's side


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The connector took the credit, or part of it.

    Attributes:
        credited: standard units, where it answered that it credited less than it was offered; None for all of it.
        scale: the scale in which it counted `credited`.
    """

    credited: Decimal | None = None
    scale: int | None = None


@dataclass(frozen=True, slots=True)
class Unanswered:
    """No usable answer, or one that says "later": the same credit is offered again under the same key.

    Attributes:
        reason: one line for an operator.
        sent: False only if the request certainly never left.
        retry_after_s: seconds after which the connector asks to be tried again, at most an hour of which is obeyed.
    """

    reason: str
    sent: bool = True
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """An answer that says "never": the credit is held for an operator.

    Attributes:
        reason: one line for an operator.
        maybe_proxy: the answer may come from a proxy before the connector. For an account that was credited before it
            then counts as unanswered.
    """

    reason: str
    maybe_proxy: bool = False


CreditOutcome: TypeAlias = Acknowledged | Unanswered | Refused


class Connector(Protocol):
    """The accounting system our accounts live in (RFC 38, "Accounting System HTTP API").

    Optional member: `timeout_s: float`, the seconds after which nothing of one call to `credit` can reach it any more.
    """

    async def credit(self, account_id: str, amount: Decimal, idempotency_key: str) -> CreditOutcome:
        """Tell the connector of an incoming settlement, exactly once per call. Never raises for a bad answer."""
        ...

    async def send_message(self, account_id: str, message: bytes) -> bytes:
        """Have the connector carry a message to the peer's engine; return the answer. Raises `ConnectorError`."""
        ...


class Observer(Protocol):
    """Whoever wants to know."""

    def observe(self, event: Event) -> None:
        """Take note of an event. Must not wait and must not raise."""
        ...
