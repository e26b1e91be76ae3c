"""How the command line asks a running server: whom it trusts, and what it shows it."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path

import httpx2

from settlement_core.cli.secrets import without_secrets
from settlement_core.values.errors import LocalError

__all__ = ["Credentials", "answers", "explained", "open_client"]


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
    trust = _trust(credentials)
    try:
        return httpx2.Client(base_url=url, timeout=60, trust_env=False, headers=headers, verify=trust)
    except httpx2.InvalidURL as problem:
        raise LocalError(f"{without_secrets(url)} is no URL of a server: {problem}") from None


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


def _trust(credentials: Credentials) -> ssl.SSLContext | bool:
    """Return whom to trust over TLS, and the certificate to show."""
    named = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
    if not (credentials.authorities or credentials.certificate or named):
        return True
    try:
        # without a file OpenSSL takes those that its variables name
        context = ssl.create_default_context(cafile=credentials.authorities)
        if credentials.certificate:
            # an empty password makes an encrypted key an error, where None would ask the terminal
            context.load_cert_chain(credentials.certificate, password="")
    except (OSError, ValueError) as problem:
        raise LocalError(f"cannot use --admin-ca or --admin-certificate: {problem}") from None
    return context


def explained(problem: Exception) -> str:
    """Return what was wrong, with the remedy where the server's certificate was."""
    if _is_distrusted(problem):
        return f"{problem}; name the authority that signed its certificate by --admin-ca or SETTLEMENT_ADMIN_CA"
    return str(problem)


def _is_distrusted(problem: Exception) -> bool:
    return "CERTIFICATE_VERIFY_FAILED" in str(problem)


def answers(client: httpx2.Client) -> bool:
    """Tell whether a server of ours is there."""
    try:
        answer = client.get("/statistics")
    except httpx2.TransportError as problem:
        # a server that we do not trust is one: its store is not to be opened
        return _is_distrusted(problem)
    # a server that refuses us is no less one
    return answer.is_success or answer.headers.get("content-type") == "application/problem+json"
