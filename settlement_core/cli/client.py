"""How the command line asks a running server: whom it trusts, and what it shows it."""

from __future__ import annotations

import os
from pathlib import Path

import httpx2

from settlement_core.outbound.blocking import CertificateRefused, open_blocking_client
from settlement_core.outbound.trust import make_trust
from settlement_core.outbound.urls import check_url
from settlement_core.values.errors import LocalError

__all__ = ["answers", "open_client"]


STREAMED = frozenset({"events", "backup"})
"""What is followed, or copied to a file, for as long as it comes."""


def open_client(url: str, token_file: str | None) -> httpx2.Client:
    """Return a client that shows a server the token of a file, or else of the environment, if there is one."""
    token = _token(token_file or os.environ.get("SETTLEMENT_ADMIN_TOKEN_FILE"))
    headers = {"authorization": f"Bearer {token}"} if token else {}
    target = check_url(url, "admin URL", example="http://127.0.0.1:3001")
    # the environment may name them for a server that is asked without TLS now
    environment = os.environ if target.over_tls else {}
    return open_blocking_client(
        target,
        trust=make_trust(
            target,
            ca_file=environment.get("SETTLEMENT_ADMIN_CA") or None,
            client_certificate=environment.get("SETTLEMENT_ADMIN_CERTIFICATE") or None,
        ),
        ca_option="SETTLEMENT_ADMIN_CA",
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
