"""A settlement engine under any ASGI server: the core lives as long as the server's lifespan.

Needs nothing for hypercorn, and `pip install uvicorn` for uvicorn. From this folder run one of

    hypercorn --worker-class trio asgi_app:app
    uvicorn asgi_app:app

and you will have the API of RFC 38 on port 8000. One worker only: a SQLite store belongs to one process.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

from verifiable_engine import connect_engine

from settlement_core import (
    Core,
    LifespanApp,
    LogObserver,
    collect_garbage_rarely,
    open_connector,
    open_core,
    open_store,
)


@asynccontextmanager
async def run_core() -> AsyncIterator[Core]:
    """Open everything the core needs, in the server's own loop."""
    with closing(open_store(os.environ.get("SETTLEMENT_STORE", "sqlite:settlement.db"))) as store:
        url = os.environ.get("SETTLEMENT_CONNECTOR_URL", "http://127.0.0.1:7771")
        async with (
            open_connector(url) as connector,
            open_core(connect_engine, store=store, connector=connector, observer=LogObserver()) as core,
        ):
            # this process serves and does nothing else
            collect_garbage_rarely()
            yield core


app = LifespanApp(run_core)
