"""The dashboard at `/`: a page that is the same for everybody, and holds nothing before it has asked with a token.

Its files are the package's own, read once; the page asks no other server for anything, and runs no script but these.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Final

from quart import Quart, Response, request

__all__ = ["PAGE_PATHS", "add_dashboard"]

_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

_POLICY: Final = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self'",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    # no text of a stranger's can become markup, even by a slip
    "require-trusted-types-for": "'script'",
    "trusted-types": "'none'",
}

_HEADERS: Final = {
    "content-security-policy": "; ".join(f"{what} {where}" for what, where in _POLICY.items()),
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    # what a newer version serves under the same name must not meet the older one's
    "cache-control": "no-cache",
}


def _read(folder: Traversable, path: str) -> dict[str, tuple[str, bytes]]:
    """Return type and content of every file of the page, by its path on the server."""
    found: dict[str, tuple[str, bytes]] = {}
    for item in sorted(folder.iterdir(), key=lambda item: item.name):
        kind = _TYPES.get(item.name[item.name.rfind(".") :])
        if item.is_dir():
            found |= _read(item, f"{path}{item.name}/")
        elif kind is not None:
            found[path if item.name == "index.html" else path + item.name] = (kind, item.read_bytes())
    return found


_INDEX: Final = "/"
_FOLDER: Final = resources.files("settlement_core.http") / "page"
_FILES: Final = {_INDEX if path == "/page/" else path: file for path, file in _read(_FOLDER, "/page/").items()}

PAGE_PATHS: Final = frozenset(_FILES)
"""What is answered without a token: a page that knows nothing yet, and is public like the package it is part of."""


def add_dashboard(app: Quart) -> None:
    """Serve the page's files, each under its own path and nothing else."""
    for path, (kind, content) in _FILES.items():
        _add_file(app, path, kind, content)


def _add_file(app: Quart, path: str, kind: str, content: bytes) -> None:
    tag = hashlib.sha256(content).hexdigest()[:32]

    @app.get(path, endpoint=f"page {path}")
    async def file() -> Response:
        response = Response(content, 200, {"content-type": kind, **_HEADERS})
        response.set_etag(tag)
        if request.if_none_match.contains(tag):
            response = Response(b"", 304, _HEADERS)
            response.set_etag(tag)
        return response
