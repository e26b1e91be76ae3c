"""What connectors answer an engine: RFC 38 to the letter, and what others make of it (WIRE, section 2).

Functions from books and request to an answer, one family per connector. The table of `_modes` puts them together.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Final

from settlement_core.testing.connector._books import AccountBooks, Books
from settlement_core.testing.connector._wire import (
    DROP,
    JSON,
    OCTETS,
    Answer,
    Request,
    json_answer,
    json_object,
    media_type,
    problem,
)
from settlement_core.values.amounts import MAX_DIGITS, MAX_SCALE, Quantity, add, floor, plain, subtract
from settlement_core.values.errors import LocalError
from settlement_core.values.identifiers import check_key

__all__ = [
    "credit_java",
    "credit_rafiki",
    "credit_rfc38",
    "credit_rs",
    "missing_java",
    "missing_rafiki",
    "missing_rfc38",
    "missing_rs",
    "object_java",
    "object_rafiki",
    "object_rfc38",
    "object_rs",
    "rejected_rfc38",
    "rejected_rs",
]

DAY_S: Final = 24 * 3600.0
SPRING_CACHE_S: Final = 5 * 60.0
U64_MAX: Final = 2**64 - 1

LOOSE_SCALE: Final = 1000
"""Where connectors that take any scale are stopped here: real ones would only run out of memory."""


# RFC 38, to the letter


def credit_rfc38(books: Books, request: Request) -> Answer:
    """Credit exactly once per key, exactly, whatever the scale."""
    if media_type(request) != JSON:
        return problem(415, "Unsupported Media Type", f"a settlement is sent as {JSON}")
    if request.key is None:
        return problem(400, "Bad Request", "the Idempotency-Key header is missing")
    try:
        check_key(request.key, "idempotency key")
        quantity = Quantity.parse(json_object(request.body))
    except LocalError as error:
        return problem(400, "Bad Request", str(error))
    amount = quantity.to_amount()
    if not amount:
        return problem(400, "Bad Request", "amount to credit is 0")

    def act() -> Answer:
        account = books.find(request.account_id)
        if account is None:
            return missing_rfc38(request.account_id)
        account.credit(amount, request.key)
        return Answer(201)

    # an unknown account may become known: only what was processed is remembered
    record = books.once(request, (request.account_id, quantity), act, keep=lambda answer: answer.ok)
    if record.used_for != (request.account_id, quantity):
        return problem(409, "Conflict", "provided idempotency key is tied to other input")
    return record.answer


def missing_rfc38(account_id: str) -> Answer:
    """Answer for an account that does not exist."""
    return problem(404, "Not Found", f"account {account_id} does not exist")


def object_rfc38(_books: Books, request: Request) -> Answer | None:
    """Take only octets."""
    if media_type(request) != OCTETS:
        return problem(415, "Unsupported Media Type", f"a message is sent as {OCTETS}")
    return None


def rejected_rfc38(code: str, message: str) -> Answer:
    """Say that the peer rejected the message."""
    return problem(502, "Bad Gateway", f"the peer rejected the message: {code} {message}")


# Interledger.rs with its Redis store


def credit_rs(books: Books, request: Request) -> Answer:
    """Credit once per key and day; amounts must be text; what is finer than the account is kept."""
    if "content-type" in request.headers and media_type(request) != JSON:
        return Answer(415, b"The request's content-type is not supported", {"content-type": "text/plain"})
    value = json_object(request.body) or {}
    amount, scale = value.get("amount"), value.get("scale")
    if not isinstance(amount, str) or type(scale) is not int or not 0 <= scale <= MAX_SCALE:
        return Answer(400, b"Request body deserialize error", {"content-type": "text/plain; charset=utf-8"})
    return _once_rs(books, request, lambda: _book_rs(books, request, amount, scale))


def _once_rs(books: Books, request: Request, act: Callable[[], Answer]) -> Answer:
    """Answer as the Redis store does: it cannot read back what a key was used for, so any replay conflicts."""
    if request.key is None:
        return act()
    books.forget(request.key, at=request.at, after_s=DAY_S)
    if request.key in books.keys:
        return problem(409, "Conflict", "Could not process idempotent data in store")
    return books.once(request, None, act, keep=lambda answer: answer.status is not None).answer


def _book_rs(books: Books, request: Request, amount: str, scale: int) -> Answer:
    account = books.find(request.account_id)
    if account is None or not _is_uuid(request.account_id):
        return missing_rs(request.account_id)
    if not _is_count(amount):
        return problem(500, "Internal Server Error", "invalid digit found in string")
    if request.key is None:
        return DROP  # the store unwraps the key it was not given, and panics
    told = Quantity(amount, scale).to_amount()
    whole = _in_scale(account, add(told, account.dust))
    account.dust = subtract(add(told, account.dust), whole)
    account.credit(_clamped(account, whole), request.key, told=told)
    return Answer(201, b"RECEIVED")


def missing_rs(account_id: str) -> Answer:
    """Answer for an account that does not exist, or never could."""
    if not _is_uuid(account_id):
        return problem(400, "Bad Request", f"{account_id} is an invalid account ID")
    return problem(404, "Not Found", f"Account {account_id} was not found")


def object_rs(books: Books, request: Request) -> Answer | None:
    """Take any content type, but no key twice."""
    if request.key is None:
        return None
    books.forget(request.key, at=request.at, after_s=DAY_S)
    if request.key in books.keys:
        return problem(409, "Conflict", "Could not process idempotent data in store")
    books.once(request, None, lambda: Answer(201), keep=lambda _: True)
    return None


def rejected_rs(code: str, message: str) -> Answer:
    """Say that the peer rejected the message."""
    told = f"Error sending message to peer settlement engine. Packet rejected with code: {code}, message: {message}"
    return problem(502, "Bad Gateway", told)


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS


def _is_uuid(account_id: str) -> bool:
    try:
        uuid.UUID(account_id)
    except ValueError:
        return False
    return True


# the Java connector


def credit_java(books: Books, request: Request) -> Answer:
    """Credit once per key and five minutes; what is finer than the account is lost."""
    objection = _objection_java(request)
    if objection is not None:
        return objection
    value = json_object(request.body) or {}
    quantity = _loose_quantity(value.get("amount"), value.get("scale"))
    if quantity is None or request.key is None:
        return problem(400, "Bad Request", "JSON parse error")
    # Two caches share one key in Redis, and the one that lives 5 minutes wins
    books.forget(request.key, at=request.at, after_s=SPRING_CACHE_S)
    if request.key in books.keys:
        return problem(500, "Internal Server Error", "java.util.LinkedHashMap cannot be cast to HttpEntity")

    def act() -> Answer:
        account = books.find(request.account_id)
        if account is None:
            return missing_java(request.account_id)
        told = quantity.to_amount()
        scale = quantity.scale if account.scale is None else account.scale
        # what is finer is lost, unless the engine reads the answer; what is larger overflows
        units = _as_long(_units_of(floor(told, scale), scale))
        account.credit(_amount_of(units, scale), request.key, told=told)
        told_back = {"amount": str(units), "scale": scale}
        location = f"/accounts/{request.account_id}/settlements"
        return json_answer(200, told_back, **{"location": location, "idempotency-key": request.key or ""})

    return books.once(request, None, act, keep=lambda answer: answer.ok).answer


def _objection_java(request: Request) -> Answer | None:
    if media_type(request) != JSON:
        return problem(415, "Unsupported Media Type", "Content type is not supported")
    accepted = {part.partition(";")[0].strip() for part in request.headers.get("accept", "*/*").lower().split(",")}
    if not accepted & {JSON, "application/*", "*/*"}:
        return problem(406, "Not Acceptable", "Could not find acceptable representation")
    if request.key is None:
        told = "Missing request header 'Idempotency-Key' for method parameter of type String"
        return problem(400, "Bad Request", told)
    return None


def _loose_quantity(amount: object, scale: object) -> Quantity | None:
    """Return the quantity that two JSON values hold when numbers may stand for text."""
    text = str(amount) if type(amount) in {str, int} else ""
    if not _is_count(text) or type(scale) is not int or not 0 <= scale <= LOOSE_SCALE:
        return None
    return Quantity(text, scale)


def missing_java(_account_id: str) -> Answer:
    """Answer 400 where 404 was meant."""
    return problem(400, "Invalid AccountId", "Invalid AccountId")


def object_java(_books: Books, request: Request) -> Answer | None:
    """Take only octets."""
    if request.headers.get("content-type", "").lower() != OCTETS:
        return problem(415, "Unsupported Media Type", "Content type is not supported")
    return None


# the Rafiki of 2019


def credit_rafiki(books: Books, request: Request) -> Answer:
    """Credit every request, unless it is finer than the account; then say OK all the same."""
    if media_type(request) != JSON:
        return Answer(400, b"expected json", {"content-type": "text/plain"})
    value = json_object(request.body) or {}
    amount, scale = value.get("amount"), value.get("scale")
    if isinstance(scale, str) and scale.isdigit():
        scale = int(scale)
    quantity = _loose_quantity(amount, scale) if isinstance(amount, str) else None
    if quantity is None:
        return Answer(400, b"Bad Request", {"content-type": "text/plain"})
    account = books.find(request.account_id)
    if account is None:
        return missing_rafiki(request.account_id)
    if account.scale is None or quantity.scale <= account.scale:
        account.credit(quantity.to_amount(), request.key)
    return Answer(200, b"OK", {"content-type": "text/plain"})  # also if it was too fine, and nothing was credited


def missing_rafiki(_account_id: str) -> Answer:
    """Answer for an account that does not exist."""
    return Answer(404, b"Not Found", {"content-type": "text/plain"})


def object_rafiki(_books: Books, request: Request) -> Answer | None:
    """Take only what says `application/octet-stream` and nothing else."""
    if request.headers.get("content-type") != OCTETS:  # compared as strings: no parameters
        return Answer(400, b"Bad Request", {"content-type": "text/plain"})
    return None


# what they do to amounts


def _in_scale(account: AccountBooks, amount: Decimal) -> Decimal:
    return amount if account.scale is None else floor(amount, account.scale)


def _clamped(account: AccountBooks, amount: Decimal) -> Decimal:
    """Return what fits into an unsigned 64-bit count of the account's units."""
    return min(amount, _amount_of(U64_MAX, account.scale or 0))


def _as_long(units: int) -> int:
    """Return what is left of a number in signed 64 bits."""
    return (units + 2**63) % 2**64 - 2**63


def _units_of(amount: Decimal, scale: int) -> int:
    """Return how many multiples of 10^-scale an amount holds that is no finer."""
    written = Quantity.of(plain(amount))
    return int(written.amount + "0" * (scale - written.scale))


def _amount_of(units: int, scale: int) -> Decimal:
    return Decimal((int(units < 0), tuple(map(int, str(abs(units)))), -scale))
