"""The forms identifiers may have, checked once at the edge so that nothing inside needs to doubt them."""

from __future__ import annotations

import re

from settlement_core.values.errors import InvalidIdentifier
from settlement_core.values.texts import whole_value

__all__ = ["MAX_ACCOUNT_ID", "MAX_KEY", "check_account_id", "check_key", "check_value_key"]

MAX_ACCOUNT_ID = 128
"""Characters; connectors use UUIDs or names of up to 64."""

MAX_KEY = 255
"""Bytes of an idempotency key or settlement id; a transaction hash with log index is under 100."""

# RFC 38, "Accounts and identifiers": RFC 3986 unreserved characters only
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]+")
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]")


def check_account_id(account_id: object) -> str:
    """Return a valid account id or raise InvalidIdentifier."""
    what = "account id"
    if not isinstance(account_id, str):
        raise InvalidIdentifier(what, "it must be a string")
    if not account_id:
        raise InvalidIdentifier(what, "it is empty")
    if len(account_id) > MAX_ACCOUNT_ID:
        raise InvalidIdentifier(what, f"it is longer than {MAX_ACCOUNT_ID} characters")
    if not _UNRESERVED.fullmatch(account_id):
        raise InvalidIdentifier(what, "only letters, digits and . _ ~ - are allowed")
    if account_id in {".", ".."}:
        raise InvalidIdentifier(what, "a dot segment cannot stand in a URL path")
    return account_id


def check_key(key: object, what: str) -> str:
    """Return a valid idempotency key or settlement id (`what` names which) or raise InvalidIdentifier."""
    if not isinstance(key, str):
        raise InvalidIdentifier(what, "it must be a string")
    if not key.strip():
        raise InvalidIdentifier(what, "it is empty")
    if _UNSEEN.search(key):
        raise InvalidIdentifier(what, "it holds control characters")
    if len(key.encode()) > MAX_KEY:
        raise InvalidIdentifier(what, f"it is longer than {MAX_KEY} bytes")
    return key


def check_value_key(key: object) -> str:
    """Return a valid key of an engine value or raise InvalidIdentifier. It may be any whole text of any length."""
    what = "key of an engine value"
    if not isinstance(key, str):
        raise InvalidIdentifier(what, "it must be a string")
    if whole_value(key) != key:
        raise InvalidIdentifier(what, "it holds half a character")
    return key
