"""The original framework from npm, as locked by the benchmarks beside which it is measured, and its engines here."""

from __future__ import annotations

from pathlib import Path

from benchmarks.servers import NODE, require_node

__all__ = ["ENGINES", "node_command"]

ENGINES = Path(__file__).parent / "node"
"""Engines written for the original framework."""


def node_command(engine: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """Return the command that runs an engine of `ENGINES` on the original, and the variables it needs.

    Installs the original first, from its lock file. Raises RuntimeError where there is no Node.js: a test that cannot
    run must not pass.
    """
    require_node()
    return ["node", str(ENGINES / engine), *arguments], {"NODE_PATH": str(NODE / "node_modules")}
