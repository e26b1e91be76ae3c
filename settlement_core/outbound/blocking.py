"""The same bounds for a client that blocks: the command line asks a running server by it.

What is read whole has a bound in bytes and in time; what is followed or copied for as long as it comes has neither.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator, Mapping
from typing import Final

import httpx2

from settlement_core.outbound.trust import describe_failure, find_refused_certificate
from settlement_core.outbound.urls import CheckedUrl, make_excerpter

__all__ = ["CertificateRefused", "open_blocking_client"]

MAX_ANSWER: Final = 64 * 2**20
"""Bytes of one answer: a page of attempts with all their history takes a tenth."""

TIMEOUT_S: Final = 60.0


class CertificateRefused(httpx2.ConnectError):
    """Somebody is there, whose certificate is not accepted."""


def open_blocking_client(
    target: CheckedUrl, *, trust: ssl.SSLContext, ca_option: str, streamed: frozenset[str], headers: Mapping[str, str]
) -> httpx2.Client:
    """Return a client for a server; it asks no proxy, and keeps no cookies of others.

    Args:
        target: the server. Its user name and password are sent, unless `headers` have an authorization of their own.
        trust: from `make_trust`.
        ca_option: the setting that names a file of authorities, for errors.
        streamed: last segments of paths whose answers have no bounds.
        headers: sent with every request.
    """
    shown = {"accept-encoding": "identity", "user-agent": "settlement-core", **headers}
    if target.authorization is not None:
        shown.setdefault("authorization", target.authorization)
    inner = httpx2.HTTPTransport(verify=trust, trust_env=False)
    return httpx2.Client(
        base_url=target.url,
        timeout=TIMEOUT_S,
        trust_env=False,
        headers=shown,
        transport=_Bounded(inner, target.secrets, ca_option, streamed),
    )


class _Bounded(httpx2.BaseTransport):
    """Passes requests on, refuses answers that would unfold, and cuts those that do not end."""

    def __init__(
        self, inner: httpx2.BaseTransport, secrets: frozenset[str], ca_option: str, streamed: frozenset[str]
    ) -> None:
        self._inner = inner
        self._excerpt = make_excerpter(secrets)
        self._ca_option = ca_option
        self._streamed = streamed

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        deadline = time.monotonic() + TIMEOUT_S
        try:
            response = self._inner.handle_request(request)
        except httpx2.TransportError as error:
            kind = type(error) if find_refused_certificate(error) is None else CertificateRefused
            raise kind(self._excerpt(describe_failure(error, ca_option=self._ca_option))) from None
        if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
            response.close()
            raise httpx2.RemoteProtocolError("it answered in a content encoding that was not asked for")
        stream = response.stream
        if request.url.path.rpartition("/")[2] not in self._streamed and isinstance(stream, httpx2.SyncByteStream):
            response.stream = _BoundedStream(stream, deadline)
        return response

    def close(self) -> None:
        self._inner.close()


class _BoundedStream(httpx2.SyncByteStream):
    def __init__(self, inner: httpx2.SyncByteStream, deadline: float) -> None:
        self._inner = inner
        self._deadline = deadline

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for chunk in self._inner:
            size += len(chunk)
            if size > MAX_ANSWER:
                raise httpx2.RemoteProtocolError(f"its answer is longer than {MAX_ANSWER} bytes")
            if time.monotonic() > self._deadline:
                raise httpx2.ReadTimeout(f"its answer did not end within {TIMEOUT_S:g} s")
            yield chunk

    def close(self) -> None:
        self._inner.close()
