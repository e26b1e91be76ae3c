"""What two engines on the simulated ledger say to each other: where to pay, and with which memo.

    -> {"type": "paymentDetails", "address": "bob", "memo": "1f…"}     how to pay me; tell me how to pay you
    <- {"type": "paymentDetails", "address": "alice", "memo": "9c…"}
    <- {"type": "error", "message": "…"}

The asker may leave its own details out. Errors travel as answers, because connectors never forward an engine's
HTTP errors. A peer can only ever say where *it* wants to be paid; nothing it says chooses asset, amount or account.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from settlement_core.engines.simulated.records import check_name
from settlement_core.values.errors import LocalError, RemoteError

__all__ = ["PaymentDetails", "PeerError", "error_answer", "is_question", "read_details"]

PAYMENT_DETAILS = "paymentDetails"


class PeerError(RemoteError):
    """The peer's engine did not say how it wants to be paid; it is asked again later."""

    def __init__(self, account_id: str, problem: str) -> None:
        super().__init__(f"the peer of account {account_id!r} did not tell its payment details: {problem}")
        self.account_id = account_id
        self.problem = problem


@dataclass(frozen=True, slots=True)
class PaymentDetails:
    """How somebody wants to be paid: to this address, with this memo."""

    address: str
    memo: str

    def to_json(self) -> dict[str, str]:
        """Return the message that tells them."""
        return {"type": PAYMENT_DETAILS, "address": self.address, "memo": self.memo}


def is_question(message: Any) -> bool:
    """Tell whether a message asks for payment details (and perhaps tells the asker's)."""
    return isinstance(message, dict) and message.get("type") == PAYMENT_DETAILS


def read_details(message: Any) -> PaymentDetails | None:
    """Return the details a message tells, None if it tells none; raise a LocalError if they are malformed."""
    if not is_question(message):
        raise LocalError("expected a JSON object of type paymentDetails")
    if "address" not in message and "memo" not in message:
        return None
    return PaymentDetails(check_name(message.get("address"), "address"), check_name(message.get("memo"), "memo"))


def error_answer(problem: str) -> dict[str, str]:
    """Return the answer that tells the peer what is wrong with its message."""
    return {"type": "error", "message": problem}
