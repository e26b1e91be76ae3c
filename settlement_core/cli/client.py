"""How the command line asks a running server: whom it trusts, and what it shows it."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import httpx2

from settlement_core.values.errors import LocalError

__all__ = ["answers", "open_client"]


def open_client(url: str, token_file: str | None) -> httpx2.Client:
    """Return a client that shows a server the token of a file, or else of the environment, if there is one."""
    token = _token(token_file or os.environ.get("SETTLEMENT_ADMIN_TOKEN_FILE"))
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return httpx2.Client(base_url=url, timeout=60, trust_env=False, headers=headers, verify=_trust())


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


def _trust() -> ssl.SSLContext | bool:
    """Return whom to trust over TLS, and the certificate to show, where the environment says so."""
    authorities = os.environ.get("SETTLEMENT_ADMIN_CA")
    certificate = os.environ.get("SETTLEMENT_ADMIN_CERTIFICATE")
    if not authorities and not certificate:
        return True
    try:
        context = ssl.create_default_context(cafile=authorities or None)
        if certificate:
            # an empty password makes an encrypted key an error, where None would ask the terminal
            context.load_cert_chain(certificate, password="")
    except (OSError, ValueError) as problem:
        raise LocalError(f"cannot use SETTLEMENT_ADMIN_CA or SETTLEMENT_ADMIN_CERTIFICATE: {problem}") from None
    return context


def answers(client: httpx2.Client) -> bool:
    """Tell whether a server of ours is there."""
    try:
        answer = client.get("/statistics")
    except httpx2.TransportError:
        return False
    # a server that refuses us is no less one
    return answer.is_success or answer.headers.get("content-type") == "application/problem+json"
