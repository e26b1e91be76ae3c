"""The whole examination: reach the engine, go through the checks, clean up, report."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

import anyio

from settlement_core.conformance import accounts, idempotency, incoming, messages, quantities, settlements, transport
from settlement_core.conformance.client import Client, open_client
from settlement_core.conformance.connector import Connector
from settlement_core.conformance.findings import Check, Finding, Outcome, Report, judge
from settlement_core.conformance.listening import open_listener
from settlement_core.conformance.world import Options, World
from settlement_core.values.amounts import total
from settlement_core.values.errors import LocalError, RemoteError

__all__ = ["CHECKS", "EngineUnreachable", "RestartFailed", "choose", "examine"]

CHECKS: Final[tuple[Check, ...]] = (
    *(*accounts.CHECKS, *settlements.CHECKS, *idempotency.CHECKS, *quantities.CHECKS),
    *(*messages.CHECKS, *incoming.CHECKS, *transport.CHECKS),
    *(idempotency.RESTART, incoming.RESTART),
    *(settlements.SYMMETRY, *incoming.SEEN, messages.OUTGOING, settlements.ALIVE),
)
"""Every check, in the order in which they are made: what looks back on all others comes last."""

START_S: Final = 30.0
"""Seconds for an engine to answer, and for a restart command to end."""

TIDY_S: Final = 15.0
"""Seconds for deleting what was opened."""


class EngineUnreachable(RemoteError):
    """Nobody answers where the engine should be."""

    def __init__(self, url: str, problem: str) -> None:
        super().__init__(f"cannot reach an engine at {url}: {problem}; nothing was examined")


class RestartFailed(LocalError):
    """The engine cannot be restarted."""

    def __init__(self, command: str, problem: str) -> None:
        super().__init__(f"cannot restart the engine by {command!r}: {problem}; the examination ends here")


def choose(names: Sequence[str]) -> list[Check]:
    """Return the checks so named, by their own name or their group's; all if none is. Raises a `LocalError`."""
    known = {check.name for check in CHECKS} | {check.group for check in CHECKS}
    unknown = [name for name in names if name not in known]
    if unknown:
        groups = ", ".join(dict.fromkeys(check.group for check in CHECKS))
        raise LocalError(f"there is no check {unknown[0]!r}; the groups are {groups}, and --list names all checks")
    return [check for check in CHECKS if not names or check.name in names or check.group in names]


async def examine(
    url: str,
    *,
    listen: tuple[str, int],
    options: Options,
    checks: Sequence[Check] = CHECKS,
    restart_command: str | None = None,
    on_check: Callable[[Check], None] = lambda _check: None,
    on_finding: Callable[[Finding], None] = lambda _finding: None,
) -> Report:
    """Examine the engine at a base URL, and return what was found.

    Args:
        url: where its `/accounts` are.
        listen: host and port where the engine finds its connector.
        options: how to examine it.
        checks: what to examine, in this order.
        restart_command: a shell command that restarts the engine, and ends.
        on_check: called before each check.
        on_finding: called after each check.

    Raises `EngineUnreachable`, `RestartFailed`, and `ListenFailed` if the connector cannot listen.
    """
    connector = Connector()
    async with open_client(url, ca_file=options.ca_file) as client:
        answer = await client.send("GET", "/")
        if not answer.status:
            raise EngineUnreachable(url, answer.problem)
        if restart_command is not None:

            async def restart() -> None:
                await _restart(restart_command, client)

            options = replace(options, restart=restart)
        world = World(client=client, connector=connector, options=options)
        findings = []
        async with open_listener(connector, *listen), _tidied(world):
            for check in checks:
                on_check(check)
                findings.append(await _look(check, world))
                on_finding(findings[-1])
        settled = total(world.expected(account_id) for account_id in world.accepted)
        return Report(client.url, settled, findings)


async def _look(check: Check, world: World) -> Finding:
    try:
        return judge(check, await check.examine(world))
    except Outcome as outcome:
        return judge(check, outcome)


@asynccontextmanager
async def _tidied(world: World) -> AsyncIterator[None]:
    """Delete what was opened, however the block ends."""
    try:
        yield
    finally:
        with anyio.move_on_after(TIDY_S, shield=True):
            # also those that a check deleted: it may have opened them again
            for account_id in world.opened:
                await world.delete(account_id)


async def _restart(command: str, client: Client) -> None:
    """Run the command, and wait until the engine answers again."""
    try:
        with anyio.fail_after(START_S):
            done = await anyio.run_process(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=None, check=False
            )
    except TimeoutError:
        raise RestartFailed(command, f"it did not end within {START_S:g} s") from None
    if done.returncode:
        raise RestartFailed(command, f"its exit code is {done.returncode}")
    with anyio.move_on_after(START_S):
        while True:
            answer = await client.send("GET", "/")
            if answer.status:
                return
            await anyio.sleep(0.05)
    raise RestartFailed(command, f"the engine did not answer within {START_S:g} s")
