"""The Redis store means by every command what the reference means by it, wherever it lives and whatever is lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from itertools import count, groupby
from pathlib import Path
from typing import Any

import pytest
import trustme

from settlement_core.stores.redis import RedisStore, connect_redis
from settlement_core.testing._store_scripts import ACCOUNTS, KEYS
from settlement_core.testing.store_check import check_store
from settlement_core.values import commands as c
from settlement_core.values.errors import StoreUnavailable
from settlement_core.values.reference import Books
from tests.redis.proxy import TcpProxy
from tests.redis.servers import RedisServer
from tests.redis.support import EXAMPLES, PARTITIONS, fresh_namespace, own_state, places_of, store_on
from tests.redis.topologies import Cluster, Sentinels

OWNERS = ("", *ACCOUNTS)


def test_one_server_fulfils_the_contract_across_reopenings_and_kills(own: RedisServer) -> None:
    """What was applied is there again after the store was closed, and after its server was killed."""
    reopenings = count(1)

    def reopen(store: RedisStore) -> RedisStore:
        store.close()
        if next(reopenings) % 25 == 0:
            own.restart()
        return store_on(own.url(), namespace=places_of(store).namespace)

    check_store(lambda: store_on(own.url()), reopen=reopen, examples=max(2, EXAMPLES // 5))
    assert next(reopenings) > 25


class _Mirrored:
    """A store reached through a network that fails, the direct way to it, and what must be in it."""

    threaded = True

    def __init__(self, direct_url: str, proxy: TcpProxy) -> None:
        self.direct = store_on(direct_url)
        self.store = connect_redis(proxy.url(), namespace=places_of(self.direct).namespace)
        self.books = Books()

    def apply(self, commands: Sequence[c.Command[Any]]) -> list[c.Result]:
        """Apply a batch to both."""
        results = self.store.apply(commands)
        self.books.apply(commands)
        return results

    def close(self) -> None:
        """Close both ways to the store."""
        self.store.close()
        self.direct.close()

    def find_held(self, commands: Sequence[c.Command[Any]]) -> list[c.Command[Any]]:
        """Return which of the commands hold, of which some were carried out: of each account, its first ones.

        Every command is atomic, so the store must hold exactly what the reference does after that many.
        """
        held: list[c.Command[Any]] = []
        for account_id in OWNERS:
            own = [command for command in commands if getattr(command, "account_id", None) == account_id]
            found = own_state(self.direct, account_id, KEYS)
            trial = deepcopy(self.books)
            tried = 0
            while own_state(trial, account_id, KEYS) != found:
                assert tried < len(own), f"{account_id!r} is as after none of the first commands of {own}: {found}"
                trial.apply([own[tried]])
                tried += 1
            held += own[:tried]
        return held


def _pieces(batch: Sequence[c.Command[Any]]) -> Iterator[list[c.Command[Any]]]:
    """Yield runs of commands that concern one account each, and all others alone, as the store does."""
    for together, run in groupby(batch, key=_is_on_account):
        commands = list(run)
        yield from [commands] if together else ([command] for command in commands)


def _is_on_account(command: c.Command[Any]) -> bool:
    several = isinstance(command, c.Assign | c.Due) or (isinstance(command, c.History) and bool(command.states))
    return getattr(command, "account_id", None) is not None and not several


class _Losses:
    """Loses a request, a reply, or all replies of a burst, at some command; counts what came of it."""

    def __init__(self, proxy: TcpProxy) -> None:
        self._proxy = proxy
        self._turns = count()
        self.failures = 0

    def fail_partway(
        self, mirrored: _Mirrored, batch: Sequence[c.Command[Any]], steps: int
    ) -> Sequence[c.Command[Any]]:
        """Apply the batch piece by piece, which the store does anyway, and have it fail; return what holds."""
        arm = (self._proxy.lose_reply_of, self._proxy.lose_request, self._proxy.drop_replies_after)
        arm[next(self._turns) % 3](1 + steps % 12)
        held: list[c.Command[Any]] = []
        for piece in _pieces(batch):
            before = _suspense(mirrored.direct)
            try:
                mirrored.store.apply(piece)
            except StoreUnavailable:
                self.failures += 1
                done = self._what_holds(mirrored, piece, before)
                mirrored.books.apply(done)
                return held + done
            held += piece
            mirrored.books.apply(piece)
        self._proxy.pass_through()
        return held

    @staticmethod
    def _what_holds(mirrored: _Mirrored, piece: list[c.Command[Any]], before: list[Any]) -> list[c.Command[Any]]:
        if isinstance(piece[0], c.Suspend):
            return piece if _suspense(mirrored.direct) != before else []
        if isinstance(piece[0], c.Prune | c.Assign):
            # cut within, which is between two scripts of it: another worker goes all the way
            mirrored.direct.apply(piece)
            return piece
        return mirrored.find_held(piece)


def _suspense(store: RedisStore) -> list[Any]:
    return store.apply([c.Suspense(assigned=True, limit=1000)])


def test_a_store_behind_a_failing_network_fulfils_the_contract(shared: RedisServer, proxy: TcpProxy) -> None:
    """Requests and replies are lost at any command; the batch is applied again, and comes out as if nothing had been.

    What holds after a failure is found out beside the network, and is all of some commands and nothing of others.
    """
    losses = _Losses(proxy)
    check_store(
        lambda: _Mirrored(shared.url(), proxy), fail_partway=losses.fail_partway, examples=max(2, EXAMPLES // 5)
    )
    # how many there are is up to chance; without any, nothing would have been lost
    assert losses.failures > EXAMPLES // 40, f"only {losses.failures} failures"


def test_a_store_over_tls_and_on_a_unix_socket_fulfils_the_contract(tmp_path: Path) -> None:
    """Whatever carries the commands."""
    with RedisServer(tmp_path, tls=trustme.CA(), unix=True, requirepass="secret") as server:
        for url in (server.url(), server.unix_url()):
            check_store(lambda url=url: store_on(url), examples=max(2, EXAMPLES // 40))  # type: ignore[misc]


@contextmanager
def _reopening(url: str, **options: Any) -> Iterator[dict[str, Any]]:
    namespace = fresh_namespace()

    def make() -> RedisStore:
        nonlocal namespace
        namespace = fresh_namespace()
        return store_on(url, namespace=namespace, **options)

    def reopen(store: RedisStore) -> RedisStore:
        store.close()
        return store_on(url, namespace=namespace, partitions=PARTITIONS, create=False, **options)

    yield {"make_store": make, "reopen": reopen}


@pytest.mark.slow
def test_a_primary_under_sentinels_fulfils_the_contract(tmp_path: Path) -> None:
    """Every batch is confirmed by its replica; a failover every other example is not noticed."""
    with Sentinels(tmp_path) as sentinels, _reopening(sentinels.url, replicas=1) as ways:
        check_store(**ways, examples=max(2, EXAMPLES // 20))
        sentinels.failover()
        sentinels.wait_until_whole()
        check_store(**ways, examples=max(2, EXAMPLES // 40))


@pytest.mark.slow
def test_a_cluster_fulfils_the_contract(tmp_path: Path) -> None:
    """With its partitions on several nodes."""
    with Cluster(tmp_path) as cluster, _reopening(cluster.url) as ways:
        check_store(**ways, examples=max(2, EXAMPLES // 20))
