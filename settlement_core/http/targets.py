"""The target of a request: a path of this server, as nearly all are, or a whole URL (RFC 9112, section 3.2).

An app may be mounted below a path of another one, ASGI's `root_path`. Servers differ in whether `path` begins with it.
"""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import quote, unquote

__all__ = ["in_origin_form", "local_path", "local_raw_path"]

_ABSOLUTE = re.compile(
    rb"https?://(?P<host>(?:\[[0-9a-f:.]+\]|[a-z0-9._~%!$&'()*+,;=-]+)(?::[0-9]*)?)(?P<path>/.*)?", re.IGNORECASE
)


def in_origin_form(scope: MutableMapping[str, Any]) -> MutableMapping[str, Any] | None:
    """Return the scope of a request with a path as its target; None if the target is none.

    The host of a whole URL takes the place of the Host header, as the RFC says. The path begins with `root_path`, as
    ASGI says, also where a proxy took that off.
    """
    if not scope.get("query_string", b"").isascii():
        return None  # Quart would fail on it, and the server answer 500
    path: str = scope["path"]
    if path.startswith("/"):
        return _below_root(scope)
    if path == "*" and scope.get("method") == "OPTIONS":
        return scope
    absolute = _ABSOLUTE.fullmatch((scope.get("raw_path") or path.encode(errors="replace")).partition(b"?")[0])
    if absolute is None:
        return None
    raw = absolute["path"] or b"/"
    headers = [(name, value) for name, value in scope["headers"] if name != b"host"]
    headers.append((b"host", absolute["host"]))
    path = unquote(raw.decode("ascii", "replace"))
    return _below_root({**scope, "path": path, "raw_path": raw, "headers": headers})


def _below_root(scope: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    root, path = scope.get("root_path", "").strip("/"), scope["path"]
    if not root:
        return scope
    root = f"/{root}"
    if not (path == root or path.startswith(f"{root}/")):
        raw = quote(root).encode() + _raw_path(scope)
        return {**scope, "root_path": root, "path": root + path, "raw_path": raw}
    return scope if scope["root_path"] == root else {**scope, "root_path": root}


def local_path(scope: MutableMapping[str, Any]) -> str:
    """Return the path below the `root_path` of a scope from `in_origin_form`."""
    path: str = scope["path"]
    root = scope.get("root_path", "")
    return path[len(root) :] or "/" if root and path.startswith("/") else path


def local_raw_path(scope: MutableMapping[str, Any]) -> bytes:
    """Return the same as it was sent, percent-encoded."""
    raw = _raw_path(scope)
    root = scope.get("root_path", "")
    if not root or not raw.startswith(b"/"):
        return raw
    parts = raw.split(b"/")
    end = root.count("/") + 1
    if unquote(b"/".join(parts[:end])) != root:
        # a slash of the root is encoded, so segments cannot be counted
        return quote(local_path(scope)).encode()
    return b"/" + b"/".join(parts[end:])


def _raw_path(scope: MutableMapping[str, Any]) -> bytes:
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw.partition(b"?")[0]
