"""Floor 3: the accounting system over HTTP (RFC 38, "Accounting System HTTP API").

Every call is one request and one verdict. Nothing is sent twice here: the core repeats an unanswered credit, under
the same key. The status line decides a credit, so a broken or endless body can neither undo an acknowledgement nor make
one. Only the whole body of a 2xx may say that less was credited than offered.
"""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import AsyncIterator, Container, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import SplitResult, urlsplit

import anyio

from settlement_core.abc import Acknowledged, CreditOutcome, Refused, Unanswered
from settlement_core.values.amounts import Quantity, check_amount, plain
from settlement_core.values.answers import MAX_EXCERPT, named, one_line, words_of
from settlement_core.values.errors import ConnectorError, InvalidIdentifier, InvalidQuantity, LocalError
from settlement_core.values.identifiers import check_account_id, check_key
from settlement_core.values.json_text import decode_json

if TYPE_CHECKING:
    import httpx2

__all__ = ["CREDIT_OUTCOMES", "HttpConnector", "credit_outcome", "open_connector"]

StrPath: TypeAlias = str | os.PathLike[str]

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


@dataclass(frozen=True, slots=True)
class _Answer:
    """A status, and as much of the body as was read; `flaw` says why it is not whole."""

    status: int
    content_type: str
    encoded: bool
    body: bytes
    flaw: str
    retry_after_s: float | None


class HttpConnector:
    """A `Connector` at a base URL, by `open_connector`, which also ends it; a call takes `timeout_s` at most."""

    def __init__(
        self,
        transport: httpx2.AsyncBaseTransport,
        *,
        headers: Mapping[str, str],
        origin: str,
        base: str,
        timeout_s: float,
        secrets: tuple[str, ...],
    ) -> None:
        self._transport = transport
        self._headers = headers
        self._origin = origin
        self._base = base
        self.timeout_s = timeout_s
        self._secrets = secrets

    def __repr__(self) -> str:
        """Show where it points, but no path: a secret base path serves as a password (WIRE 5, row 16)."""
        return f"<HttpConnector {self._origin}, timeout {self.timeout_s:g} s>"

    async def credit(self, account_id: str, amount: Decimal, idempotency_key: str) -> CreditOutcome:
        """Tell the connector of an incoming settlement by exactly one request, and say how it answered.

        Raises a `LocalError` for arguments that no request can carry, but never for a bad answer.
        """
        quantity = Quantity.of(plain(check_amount(amount, "credited amount")))
        answer = await self._post(
            f"/accounts/{check_account_id(account_id)}/settlements",
            json.dumps(quantity.to_json(), separators=(",", ":")).encode(),
            headers={
                "Content-Type": "application/json",  # exactly: some connectors compare strings (WIRE 5, row 15)
                "Accept": "application/json",
                "Idempotency-Key": _check_header_key(idempotency_key),
            },
            max_bytes=MAX_EXPLANATION,
            body_s=EXPLANATION_S,
        )
        if isinstance(answer, Unanswered):
            return answer
        outcome = credit_outcome(answer.status, self._explain(answer))
        if isinstance(outcome, Unanswered):
            return replace(outcome, retry_after_s=answer.retry_after_s)
        return _credited(answer, amount) if isinstance(outcome, Acknowledged) else outcome

    async def send_message(self, account_id: str, message: bytes) -> bytes:
        """Have the connector carry a message to the peer's engine and return its answer, which is not empty.

        Raises `ConnectorError`. Messages carry no idempotency key: some connectors refuse one they saw before.
        """
        answer = await self._post(
            f"/accounts/{check_account_id(account_id)}/messages",
            message,
            headers={"Content-Type": "application/octet-stream", "Accept": "application/octet-stream"},
            max_bytes=MAX_MESSAGE,
            body_s=self.timeout_s,
        )
        if isinstance(answer, Unanswered):
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

    async def _post(
        self, path: str, content: bytes, *, headers: dict[str, str], max_bytes: int, body_s: float
    ) -> _Answer | Unanswered:
        """Send one request and return its answer, or why there is none, within the timeout."""
        import httpx2  # noqa: PLC0415  only who opened a connector pays for it

        deadline = anyio.current_time() + self.timeout_s
        request = httpx2.Request("POST", self._base + path, content=content, headers={**self._headers, **headers})
        try:
            # httpx's own timeouts begin anew with each byte; this one does not
            with anyio.fail_after(self.timeout_s):
                response = await self._transport.handle_async_request(request)
        except TimeoutError:
            return Unanswered(f"no answer within {self.timeout_s:g} s")
        except httpx2.ConnectError as error:
            # there never was a connection, so the request certainly never left
            return Unanswered(self._no_answer(error), sent=False)
        except Exception as error:  # noqa: BLE001  whatever HTTP library or loop make of it, there is no answer
            return Unanswered(self._no_answer(error))
        try:
            body, flaw = await _read(response, max_bytes, min(deadline, anyio.current_time() + body_s))
        finally:
            with suppress(Exception):  # the status stands, however the connection ends
                await response.aclose()
        return _Answer(
            status=response.status_code,
            content_type=response.headers.get("content-type", ""),
            encoded=response.headers.get("content-encoding", "identity").strip().lower() != "identity",
            body=body,
            flaw=flaw,
            retry_after_s=_retry_after_s(response.headers.get("retry-after", "")),
        )

    def _no_answer(self, error: Exception) -> str:
        if "Timeout" in type(error).__name__:
            return f"no answer within {self.timeout_s:g} s"
        told: BaseException | None = error
        while told is not None and not str(told):  # trio's errors leave the words to their cause
            told = told.__cause__ or told.__context__
        return f"no answer: {self._redact(one_line(str(told or type(error).__name__)))}"

    def _explain(self, answer: _Answer) -> str:
        """Return one readable sentence: the status and a short, safe excerpt of the body."""
        words = "" if answer.encoded else words_of(answer.content_type, answer.body)
        told = REDIRECTED if 300 <= answer.status < 400 else self._redact(one_line(words))
        return f"{named(answer.status)}: {told}" if told else named(answer.status)

    def _redact(self, text: str) -> str:
        """Take out what a careless connector may echo, and shorten."""
        for secret in self._secrets:
            text = text.replace(secret, "[secret]")
        return text if len(text) <= MAX_EXCERPT else text[: MAX_EXCERPT - 1] + "…"


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


def _credited(answer: _Answer, offered: Decimal) -> Acknowledged:
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


async def _read(response: httpx2.Response, max_bytes: int, deadline: float) -> tuple[bytes, str]:
    """Return at most `max_bytes` of the body and, if that is not all of it, why."""
    if response.status_code < 200:
        return b"", "nobody asked to switch protocols"
    parts: list[bytes] = []
    size = 0
    flaw = "the answer did not end in time"
    with anyio.CancelScope(deadline=deadline) as reading:
        try:
            # raw: an answer of 100 KiB must not unfold into gigabytes
            async with aclosing(response.aiter_raw()) as chunks:
                async for chunk in chunks:
                    size += len(chunk)
                    if size <= max_bytes:
                        parts.append(chunk)
                    else:
                        # Not `break`: httpx leaves the generators below its own to the garbage collector then,
                        # which trio rejects. A cancelled read unwinds all of them.
                        flaw = f"the answer is longer than {max_bytes} bytes"
                        reading.cancel()
            if size <= max_bytes:
                flaw = ""
        except Exception:  # noqa: BLE001  the status stands, whatever broke after it
            flaw = "the answer broke off"
    return b"".join(parts), flaw


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
        ca_file: the PEM file of the only authorities to trust, instead of the system's.
        max_connections: connections at a time; further calls wait, within their timeout.

    Raises a `LocalError` if any of these cannot be used. Proxies and other settings from the environment are ignored.
    """
    parts = _check_url(url)
    if not timeout_s > 0 or max_connections < 1:
        raise LocalError(
            f"a connector needs timeout_s > 0 and max_connections >= 1, got {timeout_s} and {max_connections}"
        )
    tls = _tls_context(parts.scheme, client_certificate, ca_file)
    import httpx2  # noqa: PLC0415  only who opens a connector pays for it

    headers = {"Accept-Encoding": "identity", "Connection": "keep-alive", "User-Agent": "settlement-core"}
    secrets = []
    if bearer_token is not None:
        headers["Authorization"] = f"Bearer {_check_token(bearer_token)}"
        secrets.append(bearer_token)
    base_path = parts.path.rstrip("/")
    if base_path:
        secrets.append(f"{base_path}/")
    origin = f"{parts.scheme}://{parts.netloc}"
    try:
        httpx2.URL(origin + base_path)
    except httpx2.InvalidURL as error:
        raise LocalError(f"cannot use the connector URL: {error}") from None
    # HTTP/1.1 on purpose (RFC 38 allows it): over HTTP/2 one broken connection would leave all calls on it unanswered.
    # The transport alone: what a client adds (cookies, redirects, credentials of the environment) must not happen here
    async with httpx2.AsyncHTTPTransport(
        verify=tls,
        trust_env=False,
        limits=httpx2.Limits(
            max_connections=max_connections, max_keepalive_connections=max_connections, keepalive_expiry=IDLE_S
        ),
    ) as transport:
        yield HttpConnector(
            transport,
            headers=headers,
            origin=origin,
            base=origin + base_path,
            timeout_s=timeout_s,
            secrets=tuple(secrets),
        )


def _check_url(url: str) -> SplitResult:
    """Return the parts of a usable base URL, or raise LocalError with a sentence that tells no secret."""
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise LocalError("cannot use the connector URL: it holds spaces, backslashes or characters outside ASCII")
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError:
        raise LocalError("cannot use the connector URL: its host or port is malformed") from None
    if parts.scheme not in {"http", "https"}:
        raise LocalError(
            "cannot use the connector URL: it must begin with http:// or https://, such as http://127.0.0.1:7771"
        )
    if "@" in parts.netloc:
        raise LocalError(
            "cannot use the connector URL: it carries a user name or password; "
            "pass a bearer token or a client certificate instead"
        )
    if not host:
        raise LocalError("cannot use the connector URL: it names no host")
    if "?" in url or "#" in url:
        raise LocalError("cannot use the connector URL: a base URL has neither query nor fragment")
    if {".", ".."} & set(parts.path.split("/")):
        raise LocalError("cannot use the connector URL: its path holds dot segments")
    return parts


def _check_token(bearer_token: str) -> str:
    if not bearer_token or not bearer_token.isascii() or not bearer_token.isprintable() or " " in bearer_token:
        raise LocalError("cannot use the bearer token: it must be visible ASCII characters without spaces")
    return bearer_token


def _tls_context(
    scheme: str, client_certificate: StrPath | tuple[StrPath, StrPath] | None, ca_file: StrPath | None
) -> ssl.SSLContext:
    """Return whom to trust and who we are."""
    if scheme == "http":
        if client_certificate is not None or ca_file is not None:
            raise LocalError("a client certificate or CA file needs an https:// connector URL: http:// would ignore it")
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # never used
    import httpx2  # noqa: PLC0415

    try:
        if ca_file is None:
            context = httpx2.create_ssl_context(trust_env=False)
        else:
            context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as error:
        raise LocalError(f"cannot read the connector's CA file {os.fspath(ca_file or '')!r}: {error}") from None
    if client_certificate is not None:
        certificate, key = (
            client_certificate if isinstance(client_certificate, tuple) else (client_certificate, client_certificate)
        )
        try:
            # an empty password makes an encrypted key an error, where None would ask the terminal
            context.load_cert_chain(certificate, key, password="")
        except (OSError, ValueError) as error:
            raise LocalError(f"cannot use the client certificate {os.fspath(certificate)!r}: {error}") from None
    return context
