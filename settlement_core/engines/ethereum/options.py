"""The engine's settings as an operator writes them: text, checked, with one sentence for whatever is wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import TypeVar

from settlement_core.abc import ConnectEngine
from settlement_core.engines.ethereum.config import GWEI, EthereumConfig, load_key
from settlement_core.engines.ethereum.engine import ethereum_engine
from settlement_core.values.errors import LocalError

__all__ = ["NODE_VARIABLE", "ethereum_from_options"]

NODE_VARIABLE = "SETTLEMENT_ETHEREUM_NODE"
"""The node's URL often carries a provider's key, which others on the machine should not read in a command line."""

T = TypeVar("T")


def ethereum_from_options(
    *,
    chain_id: str,
    node: str = "",
    ca_file: str = "",
    proxy: str = "",
    key_file: str = "",
    password_file: str = "",
    token: str = "",
    asset_scale: str = "",
    asset: str = "",
    confirmations: str = "12",
    poll_interval_s: str = "4",
    max_fee_per_gas_gwei: str = "200",
    max_gas: str = "200000",
    minimum: str = "0",
    incoming_minimum: str = "0",
    bump_after_blocks: str = "5",
    gap_patience_s: str = "60",
    start_block: str = "",
    block_range: str = "1000",
    verify_blocks: str = "yes",
    known_nonces_below: str = "0",
    require_strong_handshake: str = "no",
    lag_patience_s: str = "600",
    doubt_after_s: str = "7200",
    timeout_s: str = "20",
) -> ConnectEngine:
    """Return what makes the engine, from texts; `EthereumConfig` says what each means.

    What may be secret comes from the environment, or from files: the key (`SETTLEMENT_ETHEREUM_KEY`, or `key_file`),
    a keystore's password (`SETTLEMENT_ETHEREUM_PASSWORD`, or `password_file`), and the node's URL where it carries
    one (`SETTLEMENT_ETHEREUM_NODE`; else 127.0.0.1:8545). `proxy=@FILE` has the command line read a proxy's URL, which
    may carry a password, from a file. Raises `LocalError`.
    """
    return ethereum_engine(
        EthereumConfig(
            node_url=node or os.environ.get(NODE_VARIABLE, "") or "http://127.0.0.1:8545",
            ca_file=ca_file or None,
            proxy=proxy or None,
            chain_id=_read("chain_id", chain_id, int),
            key=load_key(key_file=key_file, password_file=password_file, environment=os.environ),
            token=token.lower() or None,
            asset_scale=_read("asset_scale", asset_scale, int) if asset_scale else None,
            asset=asset,
            confirmations=None if confirmations == "finalized" else _read("confirmations", confirmations, int),
            poll_interval_s=_read("poll_interval_s", poll_interval_s, float),
            max_fee_per_gas=int(_read("max_fee_per_gas_gwei", max_fee_per_gas_gwei, _finite) * GWEI),
            max_gas=_read("max_gas", max_gas, int),
            minimum=_read("minimum", minimum, _finite),
            incoming_minimum=_read("incoming_minimum", incoming_minimum, _finite),
            bump_after_blocks=_read("bump_after_blocks", bump_after_blocks, int),
            gap_patience_s=_read("gap_patience_s", gap_patience_s, float),
            start_block=_read("start_block", start_block, int) if start_block else None,
            block_range=_read("block_range", block_range, int),
            verify_blocks=_read("verify_blocks", verify_blocks, _yes_or_no),
            known_nonces_below=_read("known_nonces_below", known_nonces_below, int),
            require_strong_handshake=_read("require_strong_handshake", require_strong_handshake, _yes_or_no),
            lag_patience_s=_read("lag_patience_s", lag_patience_s, float),
            doubt_after_s=_read("doubt_after_s", doubt_after_s, float),
            timeout_s=_read("timeout_s", timeout_s, float),
        )
    )


def _read(name: str, text: str, kind: Callable[[str], T]) -> T:
    try:
        return kind(text)
    except (ValueError, InvalidOperation):
        raise LocalError(f"engine option {name} cannot be {text!r}") from None


def _finite(text: str) -> Decimal:
    number = Decimal(text)
    if not number.is_finite():
        raise ValueError(text)
    return number


def _yes_or_no(text: str) -> bool:
    if text not in {"yes", "no"}:
        raise ValueError(text)
    return text == "yes"
