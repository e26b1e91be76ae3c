"""What a server can do at most: an ASGI app that reads a request and answers it, and does nothing else."""

from __future__ import annotations

from typing import Any

from settlement_core import collect_garbage_rarely

__all__ = ["app"]

_HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"27")]


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer every request as a settlement request is answered."""
    if scope["type"] == "lifespan":
        collect_garbage_rarely()  # as ours does
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 201, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": b'{"amount":"1500","scale":3}'})
