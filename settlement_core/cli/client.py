"""How the command line asks a running server: whom it trusts, and what it shows it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import httpx2

from settlement_core.outbound.blocking import CertificateRefused, open_blocking_client
from settlement_core.outbound.trust import make_trust
from settlement_core.outbound.urls import check_url
from settlement_core.values.errors import LocalError

__all__ = ["Credentials", "answers", "open_client"]

STREAMED = frozenset({"events", "backup"})
"""What is followed, or copied to a file, for as long as it comes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a server is shown, and whom it must be certified by; each a file.

    Attributes:
        token_file: holds the operator's bearer token; None means the one of SETTLEMENT_ADMIN_TOKEN, if there is one.
        authorities: PEM certificates, the only ones to trust; None means those of SSL_CERT_FILE, or the public ones.
        certificate: our client certificate and its key.
    """

    token_file: str | None = None
    authorities: str | None = None
    certificate: str | None = None


def open_client(url: str, credentials: Credentials) -> httpx2.Client:
    """Return a client for a server's operator API."""
    token = _token(credentials.token_file)
    headers = {"authorization": f"Bearer {token}"} if token else {}
    target = check_url(url, "admin URL", example="http://127.0.0.1:3001")
    # the environment may name them for a server that is asked without TLS now
    files = credentials if target.over_tls else Credentials()
    return open_blocking_client(
        target,
        trust=make_trust(target, ca_file=files.authorities, client_certificate=files.certificate),
        ca_option="--admin-ca",
        streamed=STREAMED,
        headers=headers,
    )


def _token(path: str | None) -> str | None:
    """Return the token to show: a file's, or else the variable's; never an argument's, which others can see."""
    token = os.environ.get("SETTLEMENT_ADMIN_TOKEN", "")
    if path:
        try:
            token = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as problem:
            raise LocalError(f"the operator's token cannot be read: {problem}") from None
    token = token.strip()
    if not token.isascii() or not token.isprintable() or " " in token:
        raise LocalError("the operator's token must be visible ASCII characters without spaces")
    return token or None


def answers(client: httpx2.Client) -> bool:
    """Tell whether a server of ours is there."""
    try:
        answer = client.get("/statistics")
    except CertificateRefused:
        return True  # whose store is not to be opened
    except httpx2.TransportError:
        return False
    # a server that refuses us is no less one
    return answer.is_success or answer.headers.get("content-type") == "application/problem+json"
