"""Whose certificates are accepted, who we are over TLS, and in words what was wrong with a certificate."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from typing import Final, TypeAlias

from settlement_core.outbound.urls import CheckedUrl
from settlement_core.values.errors import LocalError

__all__ = ["StrPath", "describe_failure", "find_refused_certificate", "make_trust"]

StrPath: TypeAlias = str | os.PathLike[str]

UNKNOWN_AUTHORITY: Final = frozenset({2, 18, 19, 20, 21})
"""OpenSSL's codes for a chain that ends at nobody whom we trust, which another file of authorities can change."""


def make_trust(
    target: CheckedUrl,
    *,
    ca_file: StrPath | None = None,
    client_certificate: StrPath | tuple[StrPath, StrPath] | None = None,
    proxy: CheckedUrl | None = None,
) -> ssl.SSLContext:
    """Return whom to trust and who we are at a target and on the way; raise `LocalError` if a file cannot be used.

    Trusted are the authorities of `ca_file`; else those of the file `SSL_CERT_FILE` or the folder `SSL_CERT_DIR`, if
    the environment names one; else the system's.
    """
    if not target.over_tls and not (proxy is not None and proxy.over_tls):
        if client_certificate is not None or ca_file is not None:
            raise LocalError(
                f"a client certificate or CA file needs an https:// {target.name}: http:// would ignore it"
            )
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # never used
    import httpx2  # noqa: PLC0415  only who asks others pays for it

    authorities = ca_file or os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR") or ""
    try:
        context = httpx2.create_ssl_context() if ca_file is None else ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as error:
        raise LocalError(f"cannot read the CA file {os.fspath(authorities)!r} for the {target.name}: {error}") from None
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


def describe_failure(error: BaseException, *, ca_option: str) -> str:
    """Return what became of a request, in words; `ca_option` names a file of authorities."""
    refused = find_refused_certificate(error)
    if refused is not None:
        remedy = f"; name its authority by {ca_option} or SSL_CERT_FILE"
        unknown = refused.verify_code in UNKNOWN_AUTHORITY
        return f"the certificate is refused: {refused.verify_message}{remedy if unknown else ''}"
    # trio's errors leave the words to their cause
    return next(filter(None, map(str, _causes(error))), type(error).__name__)


def find_refused_certificate(error: BaseException) -> ssl.SSLCertVerificationError | None:
    """Return what says that we refused the server's certificate, if that is what happened."""
    return next((cause for cause in _causes(error) if isinstance(cause, ssl.SSLCertVerificationError)), None)


def _causes(error: BaseException) -> Iterator[BaseException]:
    told: BaseException | None = error
    while told is not None:
        yield told
        told = told.__cause__ or told.__context__
