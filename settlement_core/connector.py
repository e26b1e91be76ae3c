"""Floor 3: the accounting system over HTTP (RFC 38, "Accounting System HTTP API").

Every call is one request and one verdict. Nothing is sent twice here: the core repeats an unanswered credit, under
the same key. The status line decides a credit, so a broken or endless body can neither undo an acknowledgement nor make
one. Only the whole body of a 2xx may say that less was credited than offered.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Container
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Final

from settlement_core.abc import Acknowledged, CreditOutcome, Refused, Unanswered
from settlement_core.outbound.client import NoReply, Outbound, Reply, open_outbound
from settlement_core.outbound.trust import StrPath, make_trust
from settlement_core.outbound.urls import check_url
from settlement_core.values.amounts import Quantity, check_amount, plain
from settlement_core.values.answers import named, words_of
from settlement_core.values.errors import ConnectorError, InvalidIdentifier, InvalidQuantity, LocalError
from settlement_core.values.identifiers import check_account_id, check_key
from settlement_core.values.json_text import decode_json

__all__ = ["CREDIT_OUTCOMES", "HttpConnector", "credit_outcome", "open_connector"]

MAX_EXPLANATION: Final = 64 * 1024
"""Bytes read of an answer to a credit: a quantity is short, and anything else is only quoted."""

MAX_MESSAGE: Final = 100 * 1024
"""Bytes of an answered message; connectors carry at most 32,767 (WIRE, "Message proxying")."""

EXPLANATION_S: Final = 2.0
"""Seconds spent on the body of an answer to a credit, within the caller's own timeout."""

IDLE_S: Final = 4.0
"""Seconds an idle connection is kept: below the 5 s after which common servers close it themselves."""

REDIRECTED: Final = "redirects are not followed, so the connector URL should be corrected"

CREDIT_OUTCOMES: Final[tuple[tuple[Container[int], type[Acknowledged | Unanswered | Refused]], ...]] = (
    (range(200, 300), Acknowledged),  # whatever the body, unless it says that less was credited (WIRE 5, row 10)
    # A redirect that is followed could take money to another host or become a GET; nothing was refused by it either,
    # so the same credit is repeated, and goes through once URL or proxy are corrected.
    (range(300, 400), Unanswered),
    ((408, 425, 429), Unanswered),  # "not now", in the words of the HTTP specifications
    (range(400, 500), Refused),  # 409 included: it is never re-keyed without a person (WIRE 5, row 11)
    (range(500, 600), Unanswered),  # RFC 38, "Retry behavior"
)
"""The first row that has the status decides; a status in no row (101, 600 and above) means nothing: Unanswered."""

MAYBE_PROXY: Final = frozenset({401, 403, 404})
"""Refusals that a proxy gives as well while the connector behind it is deployed again."""


def credit_outcome(status: int, explanation: str) -> CreditOutcome:
    """Return what the status of an answer to a credit means."""
    kind = next((kind for statuses, kind in CREDIT_OUTCOMES if status in statuses), Unanswered)
    if issubclass(kind, Refused):
        return Refused(explanation, maybe_proxy=status in MAYBE_PROXY)
    return Acknowledged() if issubclass(kind, Acknowledged) else kind(explanation)


class HttpConnector:
    """A `Connector` at a base URL, by `open_connector`, which also ends it; a call takes `timeout_s` at most."""

    def __init__(self, outbound: Outbound, *, origin: str, base: str) -> None:
        self._outbound = outbound
        self._origin = origin
        self._base = base
        self.timeout_s = outbound.timeout_s

    def __repr__(self) -> str:
        """Show where it points, but no path: a secret base path serves as a password (WIRE 5, row 16)."""
        return f"<HttpConnector {self._origin}, timeout {self.timeout_s:g} s>"

    async def credit(self, account_id: str, amount: Decimal, idempotency_key: str) -> CreditOutcome:
        """Tell the connector of an incoming settlement by exactly one request, and say how it answered.

        Raises a `LocalError` for arguments that no request can carry, but never for a bad answer.
        """
        quantity = Quantity.of(plain(check_amount(amount, "credited amount")))
        answer = await self._outbound.post(
            f"{self._base}/accounts/{check_account_id(account_id)}/settlements",
            json.dumps(quantity.to_json(), separators=(",", ":")).encode(),
            headers={
                "Content-Type": "application/json",  # exactly: some connectors compare strings (WIRE 5, row 15)
                "Accept": "application/json",
                "Idempotency-Key": _check_header_key(idempotency_key),
            },
            max_bytes=MAX_EXPLANATION,
            body_s=EXPLANATION_S,
        )
        if isinstance(answer, NoReply):
            return Unanswered(answer.reason, sent=answer.sent)
        outcome = credit_outcome(answer.status, self._explain(answer))
        if isinstance(outcome, Unanswered):
            return replace(outcome, retry_after_s=_retry_after_s(answer.headers.get("retry-after", "")))
        return _credited(answer, amount) if isinstance(outcome, Acknowledged) else outcome

    async def send_message(self, account_id: str, message: bytes) -> bytes:
        """Have the connector carry a message to the peer's engine and return its answer, which is not empty.

        Raises `ConnectorError`. Messages carry no idempotency key: some connectors refuse one they saw before.
        """
        answer = await self._outbound.post(
            f"{self._base}/accounts/{check_account_id(account_id)}/messages",
            message,
            headers={"Content-Type": "application/octet-stream", "Accept": "application/octet-stream"},
            max_bytes=MAX_MESSAGE,
        )
        if isinstance(answer, NoReply):
            problem = answer.reason
        elif not 200 <= answer.status < 300:
            problem = self._explain(answer)
        elif answer.flaw:
            problem = f"{named(answer.status)}, but {answer.flaw}"
        elif answer.encoded:
            problem = f"{named(answer.status)}, but in a content encoding that was not asked for"
        elif not answer.body:
            # what the Java connector makes of a peer's refusal (WIRE 5, row 14)
            problem = f"{named(answer.status)} without content, so the peer's engine did not answer"
        else:
            return answer.body
        raise ConnectorError(f"cannot send a message for account {account_id!r} through {self._origin}: {problem}")

    def _explain(self, answer: Reply) -> str:
        """Return one readable sentence: the status and a short, safe excerpt of the body."""
        words = "" if answer.encoded else words_of(answer.headers.get("content-type", ""), answer.body)
        told = REDIRECTED if 300 <= answer.status < 400 else self._outbound.excerpt(words)
        return f"{named(answer.status)}: {told}" if told else named(answer.status)


def _retry_after_s(text: str) -> float | None:
    """Return the seconds that a Retry-After header asks for, as a number or a date (RFC 9110, 10.2.3)."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max((at - datetime.now(at.tzinfo)).total_seconds(), 0.0)


def _credited(answer: Reply, offered: Decimal) -> Acknowledged:
    """Return how much a 2xx acknowledges: less than offered only if its whole body is a quantity that says so.

    The Java connector floors what is finer than its account, and answers with what it credited (WIRE, section 2).
    """
    if answer.flaw or answer.encoded:
        return Acknowledged()
    try:
        said = Quantity.parse(decode_json(answer.body))
    except (ValueError, InvalidQuantity):
        return Acknowledged()
    amount = said.to_amount()
    return Acknowledged(plain(amount), said.scale) if amount < offered else Acknowledged()


def _check_header_key(idempotency_key: str) -> str:
    """Return a key that a header can carry as it is."""
    key = check_key(idempotency_key, "idempotency key")
    if not key.isascii() or key != key.strip():
        raise InvalidIdentifier("idempotency key", "a header carries only ASCII, without spaces around it")
    return key


@asynccontextmanager
async def open_connector(
    url: str,
    *,
    timeout_s: float = 30,
    bearer_token: str | None = None,
    client_certificate: StrPath | tuple[StrPath, StrPath] | None = None,
    ca_file: StrPath | None = None,
    max_connections: int = 300,
) -> AsyncIterator[HttpConnector]:
    """Give the connector at a base URL, and close its connections at the end. Runs on trio and on asyncio.

    Args:
        url: where the connector's `/accounts` begin; a path before it is kept.
        timeout_s: seconds that one call may take as a whole.
        bearer_token: sent as `Authorization: Bearer …`, never shown.
        client_certificate: a PEM file with certificate and key, or the two files.
        ca_file: the PEM file of the only authorities to trust, instead of those of SSL_CERT_FILE or the system's.
        max_connections: connections at a time; further calls wait, within their timeout.

    Raises a `LocalError` if any of these cannot be used. Proxies from the environment are ignored.
    """
    target = check_url(
        url,
        "connector URL",
        example="http://127.0.0.1:7771",
        instead="pass a bearer token or a client certificate instead",
        base=True,
    )
    if not timeout_s > 0 or max_connections < 1:
        raise LocalError(
            f"a connector needs timeout_s > 0 and max_connections >= 1, got {timeout_s} and {max_connections}"
        )
    trust = make_trust(target, ca_file=ca_file, client_certificate=client_certificate)
    bearer = {} if bearer_token is None else {"Authorization": f"Bearer {_check_token(bearer_token)}"}
    async with open_outbound(
        target,
        timeout_s=timeout_s,
        trust=trust,
        max_connections=max_connections,
        ca_option="--connector-ca",
        headers=bearer,
        secrets=(bearer_token or "",),
    ) as outbound:
        yield HttpConnector(outbound, origin=target.origin, base=target.origin + target.path.rstrip("/"))


def _check_token(bearer_token: str) -> str:
    if not bearer_token or not bearer_token.isascii() or not bearer_token.isprintable() or " " in bearer_token:
        raise LocalError("cannot use the bearer token: it must be visible ASCII characters without spaces")
    return bearer_token
