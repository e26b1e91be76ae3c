"""Who may ask an HTTP API, and how much at once, decided from a request's head alone.

Refusals come from one table. They repeat no path and no token, and do not tell which part of a token was wrong. One
for a name or a site repeats the headers that were compared: behind a proxy nobody could find the difference otherwise.
"""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import anyio

from settlement_core.http import responses
from settlement_core.http.asgi import Scope
from settlement_core.http.origins import WATCHED, bare_name, find_cross_site, names_server, quoted
from settlement_core.http.rates import RateLimit
from settlement_core.http.responses import Response
from settlement_core.http.tally import Tally
from settlement_core.http.targets import local_path
from settlement_core.http.tokens import READ, TokenFile
from settlement_core.values.errors import LocalError

__all__ = ["CALLER", "AccessRules", "Gate"]

CALLER = "settlement_core.caller"
"""What a scope says of the `Token` that its request showed."""

MAX_HEADERS = 100
"""Connectors and browsers send about twenty; their length is the server's affair (`h11_max_incomplete_size`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRules:
    """Who may ask one API, and how much.

    Attributes:
        tokens: a file of hashed bearer tokens, one of which every request must then show.
        allowed_hosts: names by which clients call this server, besides localhost and addresses. A page whose Origin
            has one of these names may ask, on any port, also where a proxy changed the Host header.
        requests_per_s: how often one client (one token, or else one address) may ask; None does not count.
        max_requests: requests to work on at once; more are answered 503, which is safe to repeat.
        max_connections: connections at once; a new one closes one that is slow to send its request, or the longest
            idle one, and is refused where all are owed an answer.
    """

    tokens: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    requests_per_s: float | None = None
    max_requests: int = 1000
    max_connections: int = 1000

    def __post_init__(self) -> None:
        if self.requests_per_s is not None and not 0 < self.requests_per_s < math.inf:
            raise LocalError(f"a rate is above 0 requests a second, not {self.requests_per_s:g}")
        if min(self.max_requests, self.max_connections) < 1:
            raise LocalError("a server needs at least one connection and one request at a time")


def _refusal(status: int, detail: str, *headers: tuple[bytes, bytes]) -> Response:
    response = responses.problem_of(status, f"{detail}; nothing was recorded")
    return replace(response, headers=(*response.headers, *headers))


_BEARER = (b"www-authenticate", b'Bearer realm="settlement-core"')
# which has a browser ask for the token, as a password
_BASIC = (b"www-authenticate", b'Basic realm="settlement-core", charset="UTF-8"')
_SHOW_ONE = "this server answers only who shows a token it knows, as in Authorization: Bearer TOKEN"
_UNKNOWN_CALLER = _refusal(401, _SHOW_ONE, _BEARER, _BASIC)
# by its custom, a script that says so asks for the token itself
_UNKNOWN_SCRIPT = _refusal(401, _SHOW_ONE, _BEARER)
_TOO_OFTEN = _refusal(429, "this client asks more often than it may", (b"retry-after", b"1"))
_TOO_MANY_HEADERS = _refusal(431, f"a request has at most {MAX_HEADERS} headers")
_MAY_ONLY_READ = _refusal(
    403, "this token may only read; a decision needs one that settlement-core token made with --role decide"
)
_BUSY = _refusal(503, "too many requests are under way; the same one may be repeated")

_WATCHED = WATCHED | {b"authorization", b"x-requested-with"}


def _cross_site(why: str) -> Response:
    return _refusal(403, f"a web page of another site may not ask this server: {why}")


def _unknown_host(host: bytes) -> Response:
    return _refusal(
        421,
        f"the Host header {quoted(host)} is no name of this server; if it is one, say --allowed-host, or "
        "allowed_hosts of AccessRules",
    )


class Gate:
    """Decides, for one API, which requests go in; whoever carries that out counts those `under_way`.

    Raises `LocalError` if the rules name a file that cannot be used.
    """

    def __init__(
        self,
        rules: AccessRules,
        *,
        name: str,
        tokenless: frozenset[str] = frozenset(),
        whole: frozenset[str] = frozenset(),
        host: str = "localhost",
    ) -> None:
        """Guard the API that the log calls `name` and that listens on `host`.

        Paths in `tokenless` need no token; those in `whole` give so much that a token which may only read is refused.
        """
        self._whole = whole
        self._rules = rules
        self._tokenless = tokenless
        self._tokens = None if rules.tokens is None else TokenFile(rules.tokens)
        self._rate = None if rules.requests_per_s is None else RateLimit(rules.requests_per_s)
        # an empty name would be that of a page without any, whose Origin is null
        self._allowed = frozenset(filter(None, map(bare_name, rules.allowed_hosts)))
        known = self._allowed | {bare_name(host)}
        self._is_ours = lru_cache(maxsize=256)(lambda host: names_server(host, known))
        self._refused = Tally(f"{name}: %d refused, the last with %d, from %s")
        self.under_way = 0

    def refusal(self, scope: Scope) -> Response | None:
        """Return the answer to a request that is not let in; None lets it in, and then `CALLER` is in the scope."""
        found = self._refusal(scope)
        if found is not None:
            # never the path: it may be a secret
            self._refused.note(found.status, _network(scope.get("client")))
        return found

    def _refusal(self, scope: Scope) -> Response | None:
        if len(scope["headers"]) > MAX_HEADERS:
            return _TOO_MANY_HEADERS
        # of a header that comes twice the last counts: no browser repeats these, and others gain nothing by it
        heads = {name: value for name, value in scope["headers"] if name in _WATCHED}
        host = heads.get(b"host")
        if host is not None and not self._is_ours(host):
            return _unknown_host(host)
        public = local_path(scope) in self._tokenless
        foreign = find_cross_site(heads, scope.get("method", "GET"), self._allowed, public=public)
        if foreign is not None:
            return _cross_site(foreign)
        if self._tokens is not None or self._rate is not None:
            refusal = self._check_caller(scope, heads)
            if refusal is not None:
                return refusal
        return _BUSY if self.under_way >= self._rules.max_requests else None

    def _check_caller(self, scope: Scope, heads: dict[bytes, bytes]) -> Response | None:
        now = anyio.current_time()
        authorization = heads.get(b"authorization", b"")
        path = local_path(scope)
        caller = None if self._tokens is None else self._tokens.find(authorization, now)
        client = _network(scope.get("client")) if caller is None else f"token {caller.name}"
        if self._rate is not None and not self._rate.admits(client, now):
            return _TOO_OFTEN
        if self._tokens is not None and caller is None and path not in self._tokenless:
            return _UNKNOWN_SCRIPT if heads.get(b"x-requested-with") == b"XMLHttpRequest" else _UNKNOWN_CALLER
        if caller is not None and caller.role == READ and (path in self._whole or not _only_reads(scope)):
            return _MAY_ONLY_READ
        scope[CALLER] = caller
        return None


def _only_reads(scope: Scope) -> bool:
    return scope.get("method", "GET") in {"GET", "HEAD", "OPTIONS"}


def _network(client: Any) -> str:
    """Return who a client is to us: an IPv4 address, or the IPv6 network that one subscriber has."""
    if not client:
        return "unknown"
    try:
        address = ipaddress.ip_address(client[0].partition("%")[0])
    except ValueError:
        return str(client[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
