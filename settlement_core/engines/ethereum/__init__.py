"""Ether or one ERC-20 token over a real chain; the extra `ethereum` brings what it needs.

    config, options   the operator's settings, and the key that is never shown
    rpc, chain        what the node says, as checked values
    transactions      bytes, fees and amounts
    nonces            every nonce given out once, durably, and remembered until its end is proven
    proofs            what became of a nonce
    outgoing          prepare, submit and verify
    watching          broadcasts again, raises fees, fills gaps, finds proofs
    incoming          credits what arrives, once it is final
    peers             whose address is whose: handshakes (handshake, rust_handshake, signatures)
    engine            all of it, put together

Not seen: ether that a contract passes on (compare the address's balance now and then). Not undone: a credit from
blocks that were final and were replaced nevertheless, which is told (`status`), as connectors take nothing back.
"""

from settlement_core.engines.ethereum.config import EthereumConfig as EthereumConfig
from settlement_core.engines.ethereum.config import SigningKey as SigningKey
from settlement_core.engines.ethereum.engine import EthereumEngine as EthereumEngine
from settlement_core.engines.ethereum.engine import ethereum_engine as ethereum_engine

__all__ = ["EthereumConfig", "EthereumEngine", "SigningKey", "ethereum_engine"]
