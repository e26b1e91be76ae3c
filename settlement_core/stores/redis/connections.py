"""The connections made to servers, so that the server's side of those that were dropped can be ended.

What was sent on a dropped connection, and was not carried out yet, must never be carried out once something was said
about it. A server is known by its run id, which is true of its process whatever led to it: a port, a socket, sentinels.
"""

from __future__ import annotations

import re
from typing import Any

import redis
from redis import exceptions as failures

__all__ = ["Connections"]

_RUN_ID = re.compile(r"run_id:(\S+)")


class Connections:
    """What each server calls the connections made to it.

    Attributes:
        made: how many were made so far.
    """

    def __init__(self) -> None:
        self.made = 0
        self._live: dict[str, set[int]] = {}
        self._dropped: dict[str, set[int]] = {}

    def greet(self, connection: Any) -> None:
        """Note a new connection, after what redis-py says on it first; also called by the thread that listens."""
        connection.on_connect()
        self.made += 1
        connection.send_command("CLIENT", "ID")
        connection.send_command("INFO", "server")
        number, told = _answer(connection), _answer(connection)
        found = _RUN_ID.search(told) if isinstance(told, str) else None
        # which is required of the server, unless it may be as it is: see `Guard.check`
        if number is not None and found is not None:
            self._live.setdefault(found[1], set()).add(number)

    def drop(self) -> None:
        """All connections made so far are dropped, or will be: what they carried must not arrive any more."""
        live, self._live = self._live, {}
        for run_id, numbers in live.items():
            self._dropped.setdefault(run_id, set()).update(numbers)

    def end_dropped(self, client: redis.Redis, *, forgiving: bool) -> None:
        """Have a server end what was dropped; a subscriber's connection, ended too, is made anew.

        Args:
            client: of the server.
            forgiving: go on if it does not allow that.

        Raises what redis-py raises: a server that cannot be reached now may come back with what was sent.
        """
        if not self._dropped:
            return
        # one connection, so that whoever is asked to end them is whoever told its run id
        with client.client() as alone:
            run_id = str(alone.info("server").get("run_id"))
            dropped = self._dropped.get(run_id, set())
            for number in tuple(dropped):
                try:
                    alone.execute_command("CLIENT", "KILL", "ID", number)
                except failures.ResponseError:
                    if not forgiving:
                        raise
                dropped.discard(number)
            self._dropped.pop(run_id, None)


def _answer(connection: Any) -> Any:
    """Return an answer, None if the question is not allowed."""
    try:
        return connection.read_response()
    except failures.NoPermissionError:
        return None
    except failures.ResponseError as problem:
        if str(problem).startswith(("unknown command", "unknown subcommand", "ERR unknown")):
            return None
        # it is busy, perhaps: a connection that was not noted could not be ended
        raise failures.ConnectionError(f"it does not say who it is: {problem}") from problem
