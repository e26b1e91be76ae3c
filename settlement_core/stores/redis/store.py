"""The store itself: a batch becomes pieces of work, whose calls go to Redis together, one pipeline for each round.

Most batches need one round (requests), or two (a look at the accounts, then their changes). An account that somebody
else changed in between is looked at again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import count, groupby
from time import monotonic, sleep
from typing import Any, TypeAlias, TypeVar
from uuid import uuid4

from redis import exceptions as failures

from settlement_core.stores._json import checked
from settlement_core.stores._steps import Steps, make_waits
from settlement_core.stores.redis import history, marks, pruning, queries, sharing, suspense
from settlement_core.stores.redis.account import AccountView, QueueTooShort
from settlement_core.stores.redis.enqueueing import enqueue, entered
from settlement_core.stores.redis.importing import import_account
from settlement_core.stores.redis.inspection import inspect
from settlement_core.stores.redis.layout import AccountKeys, Keyspace
from settlement_core.stores.redis.looking import look
from settlement_core.stores.redis.queries import Work
from settlement_core.stores.redis.rows import ROW_QUERIES, answer_rows, distinct, read_rows
from settlement_core.stores.redis.scripts import Call, Reply, plain
from settlement_core.stores.redis.servers import Servers
from settlement_core.values import commands as c
from settlement_core.values.errors import LocalError, StoreUnavailable, SuspenseConflict
from settlement_core.values.known import KnownSettlement
from settlement_core.values.records import AccountOverview, Attempt, Direction, Entry

__all__ = ["RedisStore"]

FOLD_AT = 1000
"""Entries not counted into an account's totals yet, above which they are: so many are read to know the totals."""

DISAGREEMENTS = 100
"""How often an account may be changed by others between a look at it and its change, before the batch is put off."""

VIEWS = 10_000
"""Accounts with an attempt under way that are remembered, so that its end needs no look; a few KiB each."""

COALESCE_S = 0.005
"""How long rings of other workers are gathered before a round is asked for them."""

T = TypeVar("T")

_Indexed: TypeAlias = list[tuple[int, c.Command[Any]]]

# what concerns one account only, besides two queries that may also concern several
_ON_ACCOUNT = (
    c.Enqueue,
    c.Entries,
    c.OpenAccount,
    c.CloseAccount,
    c.FinishStep,
    c.Pause,
    c.Claim,
    c.Note,
    c.Close,
    c.Hold,
    c.Release,
    c.Resolve,
    c.Put,
    c.Get,
    c.Tick,
)


class RedisStore:
    """A store in Redis. Made by `connect_redis`.

    `apply` may be called from any thread, by one caller at a time; `hear` at the same time from another.
    """

    threaded = True

    def __init__(self, servers: Servers, places: Keyspace) -> None:
        self._servers = servers
        self._places = places
        self._id = uuid4().hex
        self._changes = count()
        self._tokens: dict[int, str] = {}
        self._views: dict[str, AccountView] = {}
        self._listener: Any = None
        self._works: dict[type, Callable[[Any], Work[c.Result]]] = {
            c.Overview: lambda command: queries.overview(places, command),
            c.Due: lambda command: queries.due(places, command),
            c.History: lambda command: queries.history(places, command),
            c.Suspense: lambda command: queries.suspense(places, command),
            c.Suspend: lambda command: suspense.suspend(places, command),
            c.Assign: lambda command: suspense.assign(places, command),
            c.Dismiss: lambda command: suspense.dismiss(places, command),
            c.Prune: lambda command: pruning.prune(places, command),
            c.Retire: lambda command: history.retire(places, command),
            c.KnowsSettlement: lambda command: history.knows_settlement(places, command),
            c.Share: self._share,
            c.Fence: lambda _: self._fence(),
            c.Nudge: lambda command: sharing.nudge(places, command),
            c.Workers: lambda _: queries.workers(places),
            c.Values: lambda command: queries.values(places, command),
        }

    def __repr__(self) -> str:
        return f"<RedisStore {self._servers.name}>"

    @property
    def name(self) -> str:
        """Return the store's URL, without passwords."""
        return self._servers.name

    @property
    def created(self) -> bool:
        """Tell whether there was no such store before it was opened."""
        return self._places.created

    def apply(self, commands: Sequence[c.Command[Any]]) -> list[c.Result]:
        """Apply a batch in order; see `settlement_core.abc.Store`. A failed one may hold in part."""
        return make_waits(self.apply_in_steps(commands))

    def apply_in_steps(self, commands: Sequence[c.Command[Any]]) -> Steps[list[c.Result]]:
        """Apply a batch as `apply` does; a wait is one round of calls. See `settlement_core.abc.SteppedStore`."""
        results: list[c.Result] = [None] * len(commands)
        begun = monotonic()
        todo: _Indexed = []
        for place, command in enumerate(commands):
            try:
                todo.append((place, checked(command)))
            except LocalError as refusal:
                results[place] = refusal.with_traceback(None)
        # accounts do not mind one another; whatever concerns several waits for them, and they for it
        for together, group in groupby(todo, key=lambda item: _is_on_account(item[1])):
            if together:
                by_account: dict[str, _Indexed] = {}
                for item in group:
                    by_account.setdefault(getattr(item[1], "account_id"), []).append(item)  # noqa: B009 - all have one
                yield from self._run(
                    [self._work_on(account_id, items, results, begun) for account_id, items in by_account.items()]
                )
            else:
                for place, command in group:
                    results[place] = yield from self._answer(command)
        return results

    def hear(self, worker: str, timeout_s: float) -> bool:
        """Block until another worker may have rung this one; see `settlement_core.abc.SharedStore`."""
        until = monotonic() + timeout_s
        try:
            if self._listener is None:
                self._listener = self._servers.pubsub()
                self._listener.subscribe(self._places.channel)
            while (left_s := until - monotonic()) > 0:
                message = self._listener.get_message(ignore_subscribe_messages=True, timeout=left_s)
                if message is not None and message["data"] in {worker, "*"}:
                    sleep(COALESCE_S)
                    while self._listener.get_message(ignore_subscribe_messages=True, timeout=0) is not None:
                        pass
                    return True
        except (failures.RedisError, failures.RedisClusterException, OSError, ValueError):
            # rounds find out by themselves what was missed
            self._forget_listener()
            sleep(max(0.0, until - monotonic()))
        return False

    def import_account(self, account: AccountOverview, entries: Iterable[Entry], attempts: Iterable[Attempt]) -> None:
        """Take one account over from another store; see `settlement_core.abc.ImportingStore`."""
        checked(c.OpenAccount(account_id=account.account_id, at=0.0))
        make_waits(self._carry_out(import_account(self._places, account, entries, attempts)))

    def import_known(self, known: Iterable[KnownSettlement]) -> None:
        """Take over settlement ids; see `settlement_core.abc.ImportingStore`."""
        make_waits(self._carry_out(history.import_known(self._places, known)))

    def export_known(self) -> Iterator[KnownSettlement]:
        """Yield all settlement ids whose credits have left the history; see `settlement_core.abc.ImportingStore`."""
        for partition in range(self.partitions):
            yield from make_waits(self._carry_out(history.export_known(self._places, partition)))

    @property
    def partitions(self) -> int:
        """Into how many parts the accounts are divided."""
        return len(self._places.partitions)

    def inspect(self) -> list[str]:
        """Return one sentence for everything in the store that is not as it should be; reads all of it."""
        return make_waits(self._carry_out(inspect(self._places)))

    def close(self) -> None:
        """Close all connections; what was applied stays. May be called twice."""
        self._forget_listener()
        self._servers.close()

    def _forget_listener(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(failures.RedisError, failures.RedisClusterException, OSError):
                listener.close()

    # rounds

    def _answer(self, command: c.Command[Any]) -> Steps[c.Result]:
        try:
            return (yield from self._carry_out(self._works[type(command)](command)))
        except LocalError as refusal:
            return refusal.with_traceback(None)

    def _carry_out(self, work: Work[T]) -> Steps[T]:
        """Do one piece of work and return its result."""
        try:
            calls = next(work)
            while True:
                calls = work.send((yield from self._servers.run(calls)))
        except StopIteration as finished:
            result: T = finished.value
            return result

    def _run(self, works: Iterable[Work[None]]) -> Steps[None]:
        """Do pieces of work side by side."""
        asking = [(work, calls) for work in works if (calls := next(work, None)) is not None]
        while asking:
            replies = yield from self._servers.run([call for _, calls in asking for call in calls])
            waiting, asking, start = asking, [], 0
            for work, calls in waiting:
                end = start + len(calls)
                with suppress(StopIteration):
                    asking.append((work, work.send(replies[start:end])))
                start = end

    # one account

    def _work_on(self, account_id: str, items: _Indexed, results: list[c.Result], begun: float) -> Work[None]:
        """Carry out one account's commands, which were given at that time of our clock, in order."""
        keys = self._places.account(account_id)
        runs = [(kind, list(group)) for kind, group in groupby(items, key=lambda item: _kind(item[1]))]
        uncounted = 0
        ahead: Reply = None
        for place, (kind, run) in enumerate(runs):
            commands = [command for _, command in run]
            if kind.startswith("enqueue"):
                # what the next commands need to know is asked for in the same round
                following = runs[place + 1][1] if place + 1 < len(runs) and runs[place + 1][0] == "change" else []
                answers, behind, ahead = yield from self._enter(keys, commands, [one for _, one in following], begun)
                uncounted = max(uncounted, behind)
            elif kind == "rows":
                answers = yield from self._read(keys, commands)
            else:
                answers = yield from self._change(keys, commands, ahead=ahead)
                ahead = None
            for (number, _), answer in zip(run, answers, strict=True):
                results[number] = answer
        if uncounted > FOLD_AT:
            yield from self._change(keys, [], fold=True)

    def _enter(
        self, keys: AccountKeys, commands: Sequence[Any], following: Sequence[c.Command[Any]], begun: float
    ) -> Work[tuple[list[c.Result], int, Reply]]:
        """Enter amounts of one direction; return the results, how many entries are not counted yet, and the look."""
        refused: dict[str, SuspenseConflict] = {}
        if commands[0].direction is Direction.INCOMING:
            refused = yield from suspense.refuse_unattributed(self._places, keys, commands)
        taken = [command for command in commands if command.entry_id not in refused]
        calls = [enqueue(self._places, keys, taken, self._asker(keys), begun)] if taken else []
        calls += self._look_ahead(keys, following) if following else []
        replies = list((yield calls)) if calls else []
        recorded, behind = entered(taken, replies.pop(0)) if taken else ([], 0)
        answers = iter(recorded)
        results = [refused[one.entry_id] if one.entry_id in refused else next(answers) for one in commands]
        return results, behind, replies[0] if replies else None

    def _read(self, keys: AccountKeys, commands: Sequence[c.Command[Any]]) -> Work[list[c.Result]]:
        """Answer queries on the account: at one instant, unless several ask for pages of the same rows."""
        results: list[c.Result] = []
        for together in distinct(commands):
            (reply,) = yield [read_rows(keys, together)]
            results += answer_rows(keys, together, reply)
        return results

    def _look_ahead(self, keys: AccountKeys, commands: Sequence[c.Command[Any]]) -> list[Call]:
        view = self._views.get(keys.account_id)
        return [] if view is not None and view.take(commands) else [look(keys, commands)]

    def _change(
        self, keys: AccountKeys, commands: Sequence[c.Command[Any]], *, ahead: Reply = None, fold: bool = False
    ) -> Work[list[c.Result]]:
        """Look at the account, decide, and change it; look again if somebody else changed it meanwhile.

        `ahead` is what a look has told already.
        """
        results: list[c.Result] = []
        at_least = 0
        view = self._views.pop(keys.account_id, None)
        if ahead is not None or (view is not None and (fold or not view.take(commands))):
            view = None if ahead is None else AccountView(keys, commands, ahead)
        taken = view is not None and ahead is None
        for _ in range(DISAGREEMENTS):
            if view is None:
                left = commands[len(results) :]
                (reply,) = yield [look(keys, left, at_least=at_least)]
                view = AccountView(keys, left, reply)
            try:
                answers = view.carry_out()
            except QueueTooShort:
                view, at_least = None, max(10_000, 10 * at_least)
                continue
            becomes = f"{self._id}:{next(self._changes)}"
            change = view.change(becomes=becomes, asker=self._asker(keys), channel=self._places.channel, fold=fold)
            if change is None and taken:
                # nothing was asked of Redis, where others may have been meanwhile
                view, taken = None, False
                continue
            if change is None and any(map(_holds, commands[len(results) :], answers)):
                # perhaps only since a batch that was not confirmed
                yield [plain("EXISTS", [keys.account], writes=True)]
            if change is None or (yield [change]) == [1]:
                results += answers
                if len(results) == len(commands):
                    self._keep(view, changed=change is not None)
                    return results
            view = None
        raise StoreUnavailable(
            f"the store at {self.name} has account {keys.account_id!r} changed by others all the time; the same batch "
            "may safely be applied again"
        )

    def _keep(self, view: AccountView, *, changed: bool) -> None:
        """Keep what was written of an account with an attempt under way: it will soon be closed, without a look."""
        if changed and view.live():
            view.advance()
            self._views[view.keys.account_id] = view
            if len(self._views) > VIEWS:
                self._views.pop(next(iter(self._views)))

    def _asker(self, keys: AccountKeys) -> str:
        """Return the token under which this worker holds the account, for which nobody needs to be rung."""
        return self._tokens.get(keys.partition.number, "")

    def _share(self, command: c.Share) -> Work[c.Shares]:
        yield from suspense.finish_assignments(self._places)
        shares = yield from sharing.share(self._places, command)
        self._tokens = dict(shares.leases)
        return shares

    def _fence(self) -> Work[c.Applied]:
        assert self._servers.mark is not None, "the store is open"
        self._servers.mark = yield from marks.fence(self.name, self._places, self._servers.mark, self._id)
        return c.Applied(changed=True)


def _holds(command: c.Command[Any], answer: c.Result) -> bool:
    """Tell whether the answer says that something was recorded, though it may have been recorded before."""
    return not isinstance(command, c.Get) and not isinstance(answer, c.NothingToClaim | LocalError)


def _kind(command: c.Command[Any]) -> str:
    if isinstance(command, c.Enqueue):
        return f"enqueue {command.direction}"
    return "rows" if isinstance(command, ROW_QUERIES) else "change"


def _is_on_account(command: c.Command[Any]) -> bool:
    """Tell whether a command concerns one account, which it names."""
    if isinstance(command, c.Overview):
        return command.account_id is not None
    if isinstance(command, c.History):
        # a page of its rows is one from the oldest on, in any state
        return command.account_id is not None and not command.states and not command.newest
    return isinstance(command, _ON_ACCOUNT)
