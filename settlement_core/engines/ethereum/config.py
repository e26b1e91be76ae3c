"""How an Ethereum engine behaves, as one frozen value that never shows its key.

Everything here comes from the operator. What a peer says can never choose chain, token, amount or fee.
"""

from __future__ import annotations

import json
import logging
import os
import re
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from settlement_core.engines.ethereum.rpc import check_node_url
from settlement_core.values.amounts import MAX_SCALE, ZERO, check_amount
from settlement_core.values.errors import LocalError

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

__all__ = ["ETHER_SCALE", "GWEI", "KEY_VARIABLE", "PASSWORD_VARIABLE", "EthereumConfig", "SigningKey", "load_key"]

ETHER_SCALE = 18
"""An ether is 10^18 wei."""

GWEI = 10**9
"""Wei, in which fees are told."""

KEY_VARIABLE = "SETTLEMENT_ETHEREUM_KEY"
PASSWORD_VARIABLE = "SETTLEMENT_ETHEREUM_PASSWORD"  # noqa: S105 - a name, not a password

_ADDRESS = re.compile(r"0x[0-9a-f]{40}")

_log = logging.getLogger(__name__)


class SigningKey:
    """A private key that can be used and not be shown. `address` is in lower case, as everywhere here."""

    def __init__(self, secret: str | bytes) -> None:
        account = _eth_account()
        try:
            self.account: LocalAccount = account.from_key(secret)
        except Exception:  # noqa: BLE001 - whatever it says may hold the key
            raise LocalError("cannot use the Ethereum key: it is not 32 bytes in hexadecimal") from None
        self.address: str = self.account.address.lower()

    def __repr__(self) -> str:
        """Show whose it is only."""
        return f"<SigningKey of {self.address}>"

    def __reduce__(self) -> Any:
        """Refuse to be written anywhere."""
        raise TypeError("a SigningKey is not written anywhere")


@dataclass(frozen=True, slots=True, kw_only=True)
class EthereumConfig:
    """Settings of one engine: one key on one chain, in one asset.

    Attributes:
        node_url: the node's JSON-RPC over HTTP. It may carry a provider's key, so it is not shown.
        ca_file: PEM file of the only authorities to trust for the node, instead of those of SSL_CERT_FILE or the
            system's.
        proxy: URL of the HTTP proxy through which the node is reached. It may carry a password, so it is not shown.
        chain_id: of the chain; nothing is done on any other.
        key: of the address that pays, and that peers pay.
        token: the ERC-20 contract's address in lower case; None settles ether.
        asset: the label of what is settled in, such as "ETH" or "USDC"; the chain's word is not taken for it.
        asset_scale: what the token's `decimals()` must be; None takes what it is. Ether's is 18.
        confirmations: a block is final once it has so many, itself included; None waits for the chain's own
            `finalized` tag.
        poll_interval_s: seconds between two looks at the chain.
        max_fee_per_gas: wei that a unit of gas may cost at most; while it costs more, payments wait.
        max_gas: units of gas that one payment may use at most. A peer's address may be a contract that takes more.
        minimum: standard units; less is not worth a fee and waits until it adds up.
        incoming_minimum: standard units; a stranger's payment of less is ignored, which `status` counts.
        bump_after_blocks: a transaction that is in none of so many blocks is replaced by one with a higher fee.
        gap_patience_s: how long a payment that was prepared and never submitted may hold up those after it.
        start_block: the first block to look for incoming payments in, at the first start only; None begins with
            the blocks that become final after it.
        block_range: blocks that one look for incoming payments covers at most.
        verify_blocks: believe a block only if its hash commits to all that the node says of it. For chains that do
            not make their blocks as Ethereum does this must be off, and then a node that leaves something out is
            noticed less surely.
        known_nonces_below: the operator says that whoever used the key for nonces below this one is known, and that
            its payments are accounted for; paying resumes after an alarm.
        require_strong_handshake: refuse peers that only speak the Rust engine's handshake.
        lag_patience_s: how long the node's newest block may be lower than one that was seen before, until the lower
            one counts, with a warning.
        doubt_after_s: how long a nonce may be used, as the node says, without proof by what, until its payment is in
            doubt.
        timeout_s: how long one call to the node may take.
    """

    node_url: str = field(repr=False)
    chain_id: int
    key: SigningKey
    ca_file: str | None = None
    proxy: str | None = field(default=None, repr=False)
    token: str | None = None
    asset_scale: int | None = None
    asset: str = ""
    confirmations: int | None = 12
    poll_interval_s: float = 4.0
    max_fee_per_gas: int = 200 * GWEI
    max_gas: int = 200_000
    minimum: Decimal = ZERO
    incoming_minimum: Decimal = ZERO
    bump_after_blocks: int = 5
    gap_patience_s: float = 60.0
    start_block: int | None = None
    block_range: int = 1000
    verify_blocks: bool = True
    known_nonces_below: int = 0
    require_strong_handshake: bool = False
    lag_patience_s: float = 600.0
    doubt_after_s: float = 7200.0
    timeout_s: float = 20.0

    def __post_init__(self) -> None:
        check_node_url(self.node_url)
        check_amount(self.minimum, "minimum")
        check_amount(self.incoming_minimum, "incoming_minimum")
        if self.token is not None and not _ADDRESS.fullmatch(self.token):
            raise LocalError(
                f"token is an address such as 0x… of 40 hexadecimal digits in lower case, not {self.token!r}"
            )
        scale = self.asset_scale
        if scale is not None and not (0 <= scale <= MAX_SCALE if self.token else scale == ETHER_SCALE):
            raise LocalError(f"asset_scale is 18 for ether and 0 to {MAX_SCALE} for a token, not {scale}")
        smallest = {
            "chain_id": 1,
            "max_fee_per_gas": 1,
            "max_gas": 21_000,
            "bump_after_blocks": 1,
            "block_range": 1,
            "known_nonces_below": 0,
        }
        for name, least in smallest.items():
            if getattr(self, name) < least:
                raise LocalError(f"{name} is at least {least}, not {getattr(self, name)}")
        if self.confirmations is not None and self.confirmations < 1:
            raise LocalError(f"confirmations is at least 1, or None for the finalized tag, not {self.confirmations}")
        if self.start_block is not None and self.start_block < 0:
            raise LocalError(f"start_block is 0 or a later block, not {self.start_block}")
        for name in ("poll_interval_s", "gap_patience_s", "lag_patience_s", "doubt_after_s", "timeout_s"):
            if not getattr(self, name) > 0:
                raise LocalError(f"{name} is above 0, not {getattr(self, name)}")


def load_key(*, key_file: str, password_file: str, environment: Mapping[str, str]) -> SigningKey:
    """Return the key from a file, else from the environment; raises `LocalError` that tells no secret.

    The file holds the key in hexadecimal, or is an Ethereum keystore (JSON), whose password is in another file or in
    the environment. A key is never an option of its own: others on the machine can see command lines. A file that
    everybody may read is warned about and used: secrets of containers are mounted like that.
    """
    if not key_file:
        secret = environment.get(KEY_VARIABLE, "").strip()
        if not secret:
            raise LocalError(f"the Ethereum engine needs its key: say -o key_file=PATH, or set {KEY_VARIABLE}")
        return SigningKey(secret)
    content = _read(key_file, "key file").strip()
    if not content.startswith("{"):
        return SigningKey(content)
    password = (
        _read(password_file, "password file").rstrip("\r\n") if password_file else environment.get(PASSWORD_VARIABLE)
    )
    if password is None:
        raise LocalError(f"{key_file!r} is a keystore: say -o password_file=PATH, or set {PASSWORD_VARIABLE}")
    try:
        return SigningKey(bytes(_eth_account().decrypt(json.loads(content), password)))
    except Exception:  # noqa: BLE001 - whatever it says may hold the password
        raise LocalError(f"cannot open the keystore {key_file!r}: the password or the file is wrong") from None


def _read(path: str, what: str) -> str:
    try:
        with Path(path).open(encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read()
    except (OSError, UnicodeDecodeError) as problem:
        raise LocalError(f"cannot read the {what} {path!r}: {type(problem).__name__}") from None
    # what Windows shows there says nothing
    if os.name == "posix" and mode & stat.S_IROTH:
        _log.warning("the %s %r may be read by everybody on this machine: say chmod o= %s", what, path, path)
    return content


def _eth_account() -> Any:
    # it raises the limit for all the process; deep nesting would then end it, instead of being an error
    limit = sys.getrecursionlimit()
    try:
        from eth_account import Account  # noqa: PLC0415 - an extra, and half a second to import
    except ModuleNotFoundError as problem:
        raise LocalError(
            f"the Ethereum engine needs {problem.name}: pip install settlement-core[ethereum]"
        ) from problem
    finally:
        sys.setrecursionlimit(limit)
    return cast("Any", Account)
