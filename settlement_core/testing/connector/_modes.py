"""How real connectors differ from RFC 38 and from each other, as one table.

The facts are those of their source code: WIRE, sections 1 (how they call an engine), 2 (what they offer to an engine)
and 4 (how they carry messages).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from settlement_core.testing.connector._books import Books
from settlement_core.testing.connector._habits import (
    credit_java,
    credit_rafiki,
    credit_rfc38,
    credit_rs,
    missing_java,
    missing_rafiki,
    missing_rfc38,
    missing_rs,
    object_java,
    object_rafiki,
    object_rfc38,
    object_rs,
    rejected_rfc38,
    rejected_rs,
)
from settlement_core.testing.connector._wire import OCTETS, Answer, Request
from settlement_core.values.amounts import Quantity
from settlement_core.values.backoff import Backoff

__all__ = ["MODES", "Mode", "ModeName"]

ModeName: TypeAlias = Literal["rfc38", "interledger_rs", "java", "rafiki"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """One connector's habits.

    Attributes:
        credit_paths: last path segments that take a credit.
        credit: answers a credit and books it.
        missing: answers for an account it does not have.
        objection: what is wrong with a message request, if anything.
        carried: answers a message the peer's engine answered.
        rejected: answers a message the peer rejected with an ILP error code and message.
        scale: precision of accounts opened without one; None if any.
        create_body: what `POST /accounts` holds.
        engine_names: it needs the engine to answer with the account's id, and uses that one.
        settle_path: last path segment that asks to settle.
        settle_body: how a quantity is written.
        keys: whether retries carry the same key, a new one each, or none at all.
        tries: requests per settlement at most; None as many as patience allows.
        try_s: seconds for each.
        retries: statuses after which it tries again; no answer always counts as one, if tries are left.
        create_again: whether that goes for creating an account, too.
        pause_s: seconds before the next try, given the failures so far, a chance, and whether there was an answer.
        refunds: it takes back what it asked once it stops trying, even if nobody answered.
        needs_quantity: it takes a 2xx without a JSON quantity for a failure.
        deletes: it ever deletes an account.
        message_key: it gives messages an idempotency key, new each time.
        message_tries: how often it delivers a message that got no answer.
    """

    credit_paths: frozenset[str]
    credit: Callable[[Books, Request], Answer]
    missing: Callable[[str], Answer]
    objection: Callable[[Books, Request], Answer | None]
    carried: Callable[[bytes], Answer]
    rejected: Callable[[str, str], Answer]
    scale: int | None
    create_body: Callable[[str], dict[str, Any]]
    engine_names: bool
    settle_path: str
    settle_body: Callable[[Quantity], dict[str, Any]]
    keys: Literal["settlement", "attempt", "none"]
    tries: int | None
    try_s: float
    retries: Callable[[int], bool]
    create_again: bool
    pause_s: Callable[[int, float, bool], float]
    refunds: bool
    needs_quantity: bool
    deletes: bool
    message_key: bool
    message_tries: int


_BACKOFF = Backoff(first_s=0.05, max_s=2.0)


def _retries_rfc38(status: int) -> bool:
    return status >= 500 or status in {408, 425, 429}


def _quantity_json(quantity: Quantity) -> dict[str, Any]:
    return {"amount": quantity.amount, "scale": quantity.scale}


RFC38: Final = Mode(
    credit_paths=frozenset({"settlements"}),
    credit=credit_rfc38,
    missing=missing_rfc38,
    objection=object_rfc38,
    carried=lambda body: Answer(201, body, {"content-type": OCTETS}),
    rejected=rejected_rfc38,
    scale=None,
    create_body=lambda account_id: {"id": account_id},
    engine_names=False,
    settle_path="settlements",
    settle_body=_quantity_json,
    keys="settlement",
    tries=None,
    try_s=5.0,
    retries=_retries_rfc38,
    create_again=True,
    pause_s=lambda failures, chance, _answered: _BACKOFF.delay_s(failures, chance),
    refunds=False,
    needs_quantity=False,
    deletes=True,
    message_key=False,
    message_tries=1,
)

INTERLEDGER_RS: Final = Mode(
    credit_paths=frozenset({"settlements"}),
    credit=credit_rs,
    missing=missing_rs,
    objection=object_rs,
    carried=lambda body: Answer(201, body),
    rejected=rejected_rs,
    scale=9,
    create_body=lambda account_id: {"id": account_id},
    engine_names=False,
    settle_path="settlements",
    settle_body=_quantity_json,
    keys="attempt",
    tries=11,
    try_s=5.0,
    retries=lambda status: status >= 500,
    create_again=False,
    pause_s=lambda _failures, _chance, answered: 5.0 if answered else 1.0,
    refunds=True,
    needs_quantity=False,
    deletes=False,
    message_key=True,
    message_tries=11,
)

JAVA: Final = Mode(
    credit_paths=frozenset({"settlements"}),
    credit=credit_java,
    missing=missing_java,
    objection=object_java,
    carried=lambda body: Answer(200, body, {"content-type": OCTETS}),
    rejected=lambda _code, _message: Answer(200, b"", {"content-type": OCTETS}),  # the reject's data, which is empty
    scale=9,
    create_body=lambda _account_id: {"id": None},
    engine_names=True,
    settle_path="settlements",
    settle_body=lambda quantity: {"scale": quantity.scale, "amount": quantity.amount},
    keys="settlement",
    tries=1,
    try_s=30.0,
    retries=lambda _status: False,
    create_again=False,
    pause_s=lambda _failures, _chance, _answered: 0.0,
    refunds=True,
    needs_quantity=True,
    deletes=False,
    message_key=False,
    message_tries=1,
)

RAFIKI: Final = Mode(
    credit_paths=frozenset({"settlement", "settlements"}),
    credit=credit_rafiki,
    missing=missing_rafiki,
    objection=object_rafiki,
    carried=lambda body: Answer(200, body, {"content-type": OCTETS}),
    rejected=lambda _code, message: Answer(500, message.encode(), {"content-type": "text/plain"}),
    scale=9,
    create_body=lambda account_id: {"id": account_id},
    engine_names=False,
    settle_path="settlement",
    settle_body=_quantity_json,
    keys="none",
    tries=1,
    try_s=30.0,
    retries=lambda _status: False,
    create_again=False,
    pause_s=lambda _failures, _chance, _answered: 0.0,
    refunds=True,
    needs_quantity=False,
    deletes=True,
    message_key=False,
    message_tries=1,
)

MODES: Final[dict[ModeName, Mode]] = {
    "rfc38": RFC38,
    "interledger_rs": INTERLEDGER_RS,
    "java": JAVA,
    "rafiki": RAFIKI,
}
"""Every mode by name."""
