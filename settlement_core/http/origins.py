"""Checks against browsers: by which name a request came (DNS rebinding), and from which site (CSRF).

Only a browser can be made to send a request by a strange name or for a foreign page, and browsers always say both.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping

__all__ = ["WATCHED", "bare_name", "find_cross_site", "names_server", "quoted"]

WATCHED = frozenset({b"host", b"origin", b"sec-fetch-site", b"sec-fetch-mode", b"sec-fetch-dest"})
"""The headers that these checks read."""

MAX_QUOTED = 100
"""Characters of a header that a refusal repeats."""


def names_server(host: bytes, names: Collection[str]) -> bool:
    """Return whether a Host header names this server: an address, localhost, or one of `names`.

    Nobody can point an address elsewhere, and what ends in localhost stays on this machine (RFC 6761).
    """
    name = bare_name(host)
    if name in names or name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def find_cross_site(
    heads: Mapping[bytes, bytes], method: str, names: Collection[str], *, public: bool = False
) -> str | None:
    """Return why a request counts as one of a foreign page; None if it is not.

    Fetch Metadata decides where a browser sends it. "same-origin" suffices, whatever a proxy made of the Host header:
    scripts cannot set it, and browsers send it only over HTTPS and to this machine, where no foreign name leads to a
    server of ours. Elsewhere the Origin must be the Host, or have one of `names`, on any port; not for what is
    `public`, such as the page's scripts, which browsers load with an Origin: a page that loads can show a refusal.

    Following a link is no harm: the page that had it sees nothing of the answer.
    """
    site = heads.get(b"sec-fetch-site", b"none")
    if site == b"same-origin":
        return None
    if site != b"none":
        follows_link = heads.get(b"sec-fetch-mode") == b"navigate" and heads.get(b"sec-fetch-dest") == b"document"
        return None if follows_link and method == "GET" else f"its browser sent Sec-Fetch-Site: {quoted(site)}"
    origin, host = heads.get(b"origin"), heads.get(b"host")
    if origin is None or (public and method == "GET"):
        return None
    # without the scheme, which a proxy that speaks TLS for us changes
    address = origin.partition(b"://")[2].lower()
    if (host is not None and address == host.lower()) or bare_name(address) in names:
        return None
    called = "there is no Host header" if host is None else f"the Host header is {quoted(host)}"
    return f"its Origin is {quoted(origin)}, {called}, and no --allowed-host, or allowed_hosts of AccessRules, names it"


def bare_name(host: str | bytes) -> str:
    """Return a host without port, brackets and final dot."""
    text = (host if isinstance(host, str) else host.decode("latin-1")).strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    if text.count(":") > 1:
        return text  # an IPv6 address as --host has it, without brackets
    return text.partition(":")[0].removesuffix(".")


def quoted(value: bytes) -> str:
    """Return a header's value as a refusal may repeat it."""
    return ascii(value[:MAX_QUOTED].decode("latin-1"))
