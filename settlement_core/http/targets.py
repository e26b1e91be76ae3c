"""The target of a request: a path of this server, as nearly all are, or a whole URL (RFC 9112, section 3.2)."""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import unquote

__all__ = ["in_origin_form"]

_ABSOLUTE = re.compile(
    rb"https?://(?P<host>(?:\[[0-9a-f:.]+\]|[a-z0-9._~%!$&'()*+,;=-]+)(?::[0-9]*)?)(?P<path>/.*)?", re.IGNORECASE
)


def in_origin_form(scope: MutableMapping[str, Any]) -> MutableMapping[str, Any] | None:
    """Return the scope of a request with a path as its target; None if the target is none.

    The host of a whole URL takes the place of the Host header, as the RFC says.
    """
    if not scope.get("query_string", b"").isascii():
        return None  # Quart would fail on it, and the server answer 500
    path: str = scope["path"]
    if path.startswith("/") or (path == "*" and scope.get("method") == "OPTIONS"):
        return scope
    absolute = _ABSOLUTE.fullmatch((scope.get("raw_path") or path.encode(errors="replace")).partition(b"?")[0])
    if absolute is None:
        return None
    raw = absolute["path"] or b"/"
    headers = [(name, value) for name, value in scope["headers"] if name != b"host"]
    headers.append((b"host", absolute["host"]))
    return {**scope, "path": unquote(raw.decode("ascii", "replace")), "raw_path": raw, "headers": headers}
