"""The original framework from npm, as locked by the benchmarks beside which it is measured, and its engines here."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from pathlib import Path

__all__ = ["ENGINES", "node_command"]

LOCKED = Path(__file__).parents[2] / "benchmarks" / "node"
"""The folder whose lock file says which versions are installed, and where."""

ENGINES = Path(__file__).parent / "node"
"""Engines written for the original framework."""

VERSION = "0.1.1"
"""The last version that was published."""

OLDEST_NODE = 18
"""What the original's own dependencies need, as locked."""

INSTALL_S = 300.0


def node_command(engine: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """Return the command that runs an engine of `ENGINES` on the original, and the variables it needs.

    Installs the original first, from its lock file. Raises RuntimeError where there is no Node.js: a test that cannot
    run must not pass.
    """
    _install()
    return ["node", str(ENGINES / engine), *arguments], {"NODE_PATH": str(LOCKED / "node_modules")}


def _install() -> None:
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise RuntimeError("there is no Node.js, which the original framework needs: apt-get install nodejs npm")
    version = subprocess.run(["node", "--version"], check=True, capture_output=True, text=True).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < OLDEST_NODE:
        raise RuntimeError(f"Node.js {version} is too old for the original framework, which needs {OLDEST_NODE}")
    # several test processes may come here at once, and npm takes no turns
    with (LOCKED / "package-lock.json").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_installed():
            # left on its own, npm would also ask its registry for audits and news
            command = ["npm", "ci", "--silent", "--no-fund", "--no-audit"]
            environment = os.environ | {"NO_UPDATE_NOTIFIER": "1"}
            subprocess.run(command, cwd=LOCKED, env=environment, check=True, timeout=INSTALL_S)
    assert _is_installed(), f"{LOCKED} does not hold ilp-settlement-core {VERSION}"


def _is_installed() -> bool:
    # npm writes this list last, so an installation that was cut off has none
    complete = (LOCKED / "node_modules" / ".package-lock.json").is_file()
    package = LOCKED / "node_modules" / "ilp-settlement-core" / "package.json"
    return complete and package.is_file() and json.loads(package.read_text())["version"] == VERSION
