"""Hypercorn's settings for one API: bounds, and TLS files that were checked and can be read again."""

from __future__ import annotations

import logging
import ssl

import hypercorn

from settlement_core.http.crowding import Connections
from settlement_core.http.gate import AccessRules
from settlement_core.http.process import room_for
from settlement_core.values.errors import LocalError

__all__ = ["BACKLOG", "MAX_STREAMS", "HypercornSettings", "make_settings"]

logger = logging.getLogger("settlement_core.http")

BACKLOG = 1024
"""Connections the system may hold for us: a burst of connectors reconnecting after a restart."""

MAX_HEAD = 16 * 1024
"""Bytes of a request's head, which connectors and browsers fill by a tenth."""

MAX_STREAMS = 32
"""Requests of one HTTP/2 connection at once, each of which may hold a body of 100 KiB; further ones wait their turn."""

HEAD_S = 5.0
"""How long a client may take to send the head of a request, the first or the next one."""

HANDSHAKE_S = 10.0
"""How long a client may take to agree on TLS."""


class HypercornSettings(hypercorn.Config):
    """Hypercorn's settings, and the connections that are open under them."""

    connections: Connections
    h2c: bool = False

    def __init__(self) -> None:
        super().__init__()
        self._contexts: list[ssl.SSLContext] = []

    def create_ssl_context(self) -> ssl.SSLContext | None:
        """Return what hypercorn uses for every new connection, and remember it."""
        context = super().create_ssl_context()
        if context is not None:
            self._contexts.append(context)
        return context

    def read_certificates_again(self) -> None:
        """Use what the TLS files hold now for new connections; what cannot be used is told, and the old stays."""
        if self.certfile is None:
            return
        try:
            # all of them are tried before one is used
            super().create_ssl_context()
            for context in self._contexts:
                context.load_cert_chain(self.certfile, self.keyfile)
                if self.ca_certs is not None:
                    context.load_verify_locations(self.ca_certs)
        except (OSError, ValueError) as problem:
            logger.error("cannot read %s again: %s; the old certificate stays", self.certfile, problem)  # noqa: TRY400
        else:
            logger.info("%s was read again: new connections are served with it", self.certfile)


def make_settings(
    rules: AccessRules, certfile: str | None, keyfile: str | None, ca_certs: str | None, *, prefix: str
) -> HypercornSettings:
    """Return hypercorn's settings, having checked the TLS files: it would serve plain HTTP if one were missing."""
    settings = HypercornSettings()
    settings.connections = Connections(room_for(rules.max_connections))
    settings.backlog = BACKLOG
    settings.h11_max_incomplete_size = settings.h2_max_header_list_size = MAX_HEAD
    settings.keep_alive_timeout, settings.ssl_handshake_timeout = HEAD_S, HANDSHAKE_S
    settings.h2_max_concurrent_streams = MAX_STREAMS
    settings.certfile, settings.keyfile, settings.ca_certs = certfile, keyfile, ca_certs
    if ca_certs is not None:
        settings.verify_mode = ssl.CERT_REQUIRED
    settings.include_server_header = False
    settings.errorlog = logging.getLogger("settlement_core.http")
    if (certfile is None) != (keyfile is None):
        raise LocalError(
            f"TLS needs a certificate and its key: give both {prefix}certfile and {prefix}keyfile, or neither"
        )
    if ca_certs is not None and certfile is None:
        raise LocalError(
            f"clients can only show a certificate over TLS: {prefix}client-ca needs {prefix}certfile and "
            f"{prefix}keyfile"
        )
    try:
        settings.create_ssl_context()
    except (OSError, ValueError) as problem:
        files = ", ".join(name for name in (certfile, keyfile, ca_certs) if name)
        raise LocalError(f"cannot serve TLS with {files}: {problem}") from None
    return settings
