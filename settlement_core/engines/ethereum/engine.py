"""The Ethereum engine: ether or one ERC-20 token, one key, one chain, one process at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from decimal import Decimal
from typing import Any

import anyio

from settlement_core.abc import AccountServices, Verdict
from settlement_core.engines.ethereum.chain import Chain, WrongChain
from settlement_core.engines.ethereum.config import ETHER_SCALE, EthereumConfig
from settlement_core.engines.ethereum.incoming import IncomingScan
from settlement_core.engines.ethereum.nonces import COSTLY, NonceBook, begin_nonces, read_nonces
from settlement_core.engines.ethereum.outgoing import Outgoing
from settlement_core.engines.ethereum.peers import Peers
from settlement_core.engines.ethereum.proofs import Prover
from settlement_core.engines.ethereum.rpc import NodeError, NodeUnavailable, Rpc, open_rpc
from settlement_core.engines.ethereum.state import State
from settlement_core.engines.ethereum.transactions import amount_of
from settlement_core.engines.ethereum.watching import Watcher
from settlement_core.values.amounts import MAX_SCALE
from settlement_core.values.errors import LocalError
from settlement_core.values.records import Payment

__all__ = ["EthereumEngine", "ethereum_engine"]

_IDENTITY = "ethereum"


def ethereum_engine(config: EthereumConfig) -> Callable[[AccountServices], AbstractAsyncContextManager[EthereumEngine]]:
    """Return the `ConnectEngine` that settles with these settings.

    The node must answer at the first start, when its chain, its token and the key's nonce are written down. Later the
    engine also starts without it, and waits; but it never starts with a store that belongs to another key, chain or
    token. Raises a `LocalError` for what the operator must change.
    """

    @asynccontextmanager
    async def connect(services: AccountServices) -> AsyncIterator[EthereumEngine]:
        lead = getattr(services, "lead", None)
        if lead is not None:
            # two processes would give the same nonce away twice
            await lead()
        async with open_rpc(
            config.node_url, timeout_s=config.timeout_s, ca_file=config.ca_file, proxy=config.proxy
        ) as rpc:
            engine = await _open(config, services, rpc)
            # an exception of either leaves through this task group: a blind or deaf engine must not go on paying
            async with anyio.create_task_group() as tasks:
                address = config.key.address
                tasks.start_soon(engine.watcher.run, name=f"watcher of {address}")
                tasks.start_soon(engine.scan.run, name=f"incoming scan of {address}")
                yield engine
                tasks.cancel_scope.cancel()

    return connect


class EthereumEngine:
    """Settles over Ethereum; get it from `ethereum_engine`. Everything durable is kept through the core's services."""

    def __init__(
        self, config: EthereumConfig, services: AccountServices, *, chain: Chain, scale: int, book: NonceBook
    ) -> None:
        self.asset_scale = scale
        self.asset = config.asset
        self._config = config
        self._chain = chain
        self._book = book
        self._state = State()
        self._peers = Peers(
            services,
            key=config.key,
            chain_id=config.chain_id,
            token=config.token,
            require_strong_handshake=config.require_strong_handshake,
        )
        prover = Prover(chain)
        self._outgoing = Outgoing(
            config, scale=scale, chain=chain, book=book, prover=prover, peers=self._peers, state=self._state
        )
        self.watcher = Watcher(config, chain=chain, book=book, prover=prover, state=self._state, services=services)
        self.scan = IncomingScan(
            chain=chain,
            scale=scale,
            senders=self._peers,
            services=services,
            state=self._state,
            poll_interval_s=config.poll_interval_s,
            block_range=config.block_range,
            minimum=config.incoming_minimum,
        )

    def __repr__(self) -> str:
        """Show whom it pays for, and on which chain."""
        asset = self._config.token or "ether"
        return f"<EthereumEngine of {self._config.key.address} in {asset} on chain {self._config.chain_id}>"

    # outgoing

    async def prepare(self, account_id: str, amount: Decimal, attempt_id: str) -> Payment | None:
        """Sign a payment and give it a nonce, without effect; the same attempt gets the same payment again."""
        return await self._outgoing.prepare(account_id, amount, attempt_id)

    async def submit(self, payment: Payment) -> None:
        """Broadcast a payment; the chain applies it at most once, however often it is broadcast."""
        await self._outgoing.submit(payment)

    async def verify(self, payment: Payment) -> Verdict:
        """Tell what there is proof of: only final blocks count."""
        return await self._outgoing.verify(payment)

    # peers

    async def setup_account(self, account_id: str) -> None:
        """Learn where the peer is paid, and from where it pays. Raises until it has proven that."""
        await self._peers.set_up(account_id)

    async def close_account(self, account_id: str) -> None:
        """Forget what is only needed to pay the peer."""
        await self._peers.close(account_id)

    async def handle_message(self, account_id: str, message: Any) -> Any:
        """Answer the peer's engine."""
        return await self._peers.handle_message(account_id, message)

    # operators

    async def status(self) -> dict[str, Any]:
        """Return what an operator wants to know, as JSON; amounts are text in standard units. Asks the node nothing.

        The chain is as the latest look of any part saw it, so never as it was before what the scan tells beside it.
        """
        view, state, book = self._chain.view, self._state, self._book
        return {
            "engine": "ethereum",
            "address": self._config.key.address,
            "chain_id": self._config.chain_id,
            "token": self._config.token,
            "asset_scale": self.asset_scale,
            "node": self._chain.rpc.origin,
            "trouble": state.trouble,
            "alarm": state.alarm or state.suspicion or state.blocked,
            "warnings": [text for text in (self._chain.fell, state.reorganised, state.unexplained) if text],
            "balance": None if view is None else f"{self._balance(view.token_balance, view.balance):f}",
            "ether": None if view is None else f"{amount_of(view.balance, ETHER_SCALE):f}",
            "fees_spent_ether": f"{amount_of(book.fees_spent, ETHER_SCALE):f}",
            "wasted": self._wasted(),
            "nonces": {
                "next": book.next,
                "unfinished": book.next - book.floor,
                "stuck": {str(nonce): why for nonce, why in state.stuck.items()},
            },
            "short_of_funds": sorted(state.short),
            "chain": None if view is None else {"head": view.head.number, "final": view.final},
            "scan": {
                "scanned": state.scanned,
                "lag_blocks": None if view is None else max(view.final - state.scanned, 0),
                "trouble": state.scan_trouble,
                "reorganised": state.reorganised,
                "ignored": {
                    "payments": state.ignored[0],
                    "amount": f"{amount_of(state.ignored[1], self.asset_scale):f}",
                },
            },
        }

    def _wasted(self) -> dict[str, Any]:
        """Return, of the payments that are remembered, how many by account only cost a fee, and how much."""
        wasted = [(slot, end) for slot, end in self._book.finished() if end.result in COSTLY]
        return {
            account_id: {
                "payments": sum(slot.account_id == account_id for slot, _ in wasted),
                "ether": f"{amount_of(sum(e.fee for s, e in wasted if s.account_id == account_id), ETHER_SCALE):f}",
            }
            for account_id in sorted({slot.account_id for slot, _ in wasted})
        }

    def _balance(self, units: int, wei: int) -> Decimal:
        return amount_of(wei if self._config.token is None else units, self.asset_scale)

    # its beginning

    async def begin(self) -> None:
        """Read what earlier runs left, or write the beginning down."""
        await self.watcher.read_alarm()
        seen = await self.scan.read_cursor()
        if seen is not None:
            # a node that knows less than was scanned lags
            self._chain.seen = seen
            return
        view = await self._chain.look()
        await self.scan.begin(self._config.start_block, final=view.final)


async def _open(config: EthereumConfig, services: AccountServices, rpc: Rpc) -> EthereumEngine:
    chain = Chain(
        rpc,
        chain_id=config.chain_id,
        address=config.key.address,
        token=config.token,
        confirmations=config.confirmations,
        verify=config.verify_blocks,
        lag_patience_s=config.lag_patience_s,
    )
    try:
        scale = await _check_identity(config, services, chain)
        book = await read_nonces(services)
        if book is None:
            book = await _first_nonces(services, chain)
        engine = EthereumEngine(config, services, chain=chain, scale=scale, book=book)
        await engine.begin()
    except WrongChain as problem:
        raise LocalError(str(problem)) from None
    except NodeError as problem:
        raise LocalError(f"the Ethereum engine needs its node at its first start: {problem}") from None
    return engine


async def _first_nonces(services: AccountServices, chain: Chain) -> NonceBook:
    if await chain.syncing():
        raise NodeUnavailable("it is still catching up with its chain")
    view, again = await chain.look(), await chain.look()
    if (view.nonce, view.pending_nonce) != (again.nonce, again.pending_nonce):
        raise NodeUnavailable("it tells two numbers of transactions of the address in a row; start again")
    return await begin_nonces(services, nonce=view.pending_nonce, since=view.head.number)


async def _check_identity(config: EthereumConfig, services: AccountServices, chain: Chain) -> int:
    """Return the asset's scale, having made sure that store, settings and chain belong together."""
    ours: dict[str, Any] = {"chain_id": config.chain_id, "address": config.key.address, "token": config.token}
    saved = await services.load(_IDENTITY)
    if saved is not None and {name: saved[name] for name in ours} != ours:
        raise LocalError(
            f"this store belongs to {_named(saved)}, not to {_named(ours)}; use another store, or the settings it "
            "began with"
        )
    try:
        scale = await _scale_on(chain)
    except WrongChain:
        raise
    except NodeError:
        # at the first start nothing else tells; later the node may be away, and is waited for
        if saved is None:
            raise
        scale = saved["scale"]
    for expected in (config.asset_scale, None if saved is None else saved["scale"]):
        if expected not in {None, scale}:
            raise LocalError(f"{_named(ours)} has {scale} decimals, not {expected}: amounts would be wrong by far")
    if saved is None:
        await services.save(_IDENTITY, {**ours, "scale": scale})
    return scale


def _named(identity: dict[str, Any]) -> str:
    asset = f"token {identity['token']}" if identity["token"] else "ether"
    return f"{asset} on chain {identity['chain_id']} of address {identity['address']}"


async def _scale_on(chain: Chain) -> int:
    """Return our asset's scale, as the chain tells it; the chain is ours."""
    if chain.token is None:
        chain.check_chain(await chain.rpc.call("eth_chainId"))
        return ETHER_SCALE
    scale = await chain.decimals(chain.token)
    if scale != await chain.decimals(chain.token):
        raise NodeUnavailable("it tells two scales of the token in a row")
    if not 0 <= scale <= MAX_SCALE:
        raise LocalError(f"the token {chain.token} says that it has {scale} decimals, which no quantity can have")
    return scale
