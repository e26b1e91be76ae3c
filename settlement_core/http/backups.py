"""`GET /backup` of the operator's API: a consistent copy of the store, as a file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

import anyio.to_thread
from quart import Quart, Response

from settlement_core.core.core import Core
from settlement_core.http.answering import answering

__all__ = ["BACKUP_PATHS", "add_backup"]

BACKUP_PATHS = frozenset({"/backup"})
"""What gives all there is, also what an engine keeps for itself: a token that may only read is refused."""

CHUNK = 64 * 1024
"""Bytes sent at once."""


def add_backup(app: Quart, core: Core) -> None:
    """Serve the path."""

    @app.get("/backup")
    @answering()
    async def backup() -> Response:
        path = await core.back_up()
        file, size = await anyio.to_thread.run_sync(_take, path)
        headers = {"content-type": "application/vnd.sqlite3", "content-length": str(size), "cache-control": "no-store"}
        response = Response(_chunks(file), 200, headers)
        # a large store may take longer than an answer usually may; a client that does not read is cut all the same
        response.timeout = None
        return response


def _take(path: Path) -> tuple[BinaryIO, int]:
    """Open the file and take its name away, so that nothing of it is left once it is sent, or is not."""
    file = path.open("rb")
    path.unlink()
    return file, file.seek(0, 2)


async def _chunks(file: BinaryIO) -> AsyncIterator[bytes]:
    with file:
        file.seek(0)
        while chunk := await anyio.to_thread.run_sync(file.read, CHUNK):
            yield chunk
