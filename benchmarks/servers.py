"""Other programs that measurements need: started on free ports, and gone afterwards."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["NODE", "ROOT", "free_port", "redis_server", "require_node", "running", "wait_idle", "wait_until"]

NODE = Path(__file__).parent / "node"
"""Where the programs for Node.js are, and the lock file of what they need."""

ROOT = Path(__file__).parent.parent

ORIGINAL_VERSION = "0.1.1"
"""The last version of the original framework that was published."""

OLDEST_NODE = 18
"""What the original's own dependencies need, as locked."""

INSTALL_S = 300.0

START_S = 60.0

IDLE_SHARE = 0.05
"""Of a processor: servers that share a Redis ask it once a second who else is there."""


def free_port() -> int:
    """Return a port nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def running(command: Sequence[str], *, env: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program for the block; it is asked to end, and killed if it does not."""
    environment = os.environ | (env or {})
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Run a Redis that has everything on the disk before it answers, for the block, and give its URL."""
    program = shutil.which("redis-server")
    if program is None:
        raise RuntimeError("no redis-server is installed: apt-get install redis-server")
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    command += ["--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"]
    with running([*command, "--databases", "64"]) as process:
        wait_until(lambda: listens(port), process, "Redis")
        yield f"redis://127.0.0.1:{port}"


def listens(port: int) -> bool:
    """Tell whether somebody listens on the port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], name: str) -> None:
    """Wait until a program that was started is ready, and raise if it ends instead."""
    deadline = time.monotonic() + START_S
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{name} did not start; its exit code is {process.poll()}")
        time.sleep(0.02)


def wait_idle(pid: int, *, timeout_s: float = 60.0) -> None:
    """Wait until a program and its children have nothing left to do: what it leaves undone is others' time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        before = _processor_s(pid)
        time.sleep(0.25)
        if _processor_s(pid) - before < 0.25 * IDLE_SHARE:
            return
    raise RuntimeError(f"process {pid} is still at work {timeout_s:g} s after its turn")


def _processor_s(pid: int) -> float:
    try:
        # what follows the name in parentheses, which may hold anything; user and system time are fields 14 and 15
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except FileNotFoundError:
        return 0.0
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(_processor_s(int(child)) for child in children)


def require_node() -> None:
    """Install the original framework and the load, from their lock file, unless they are there.

    Raises RuntimeError where there is no Node.js.
    """
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise RuntimeError("there is no Node.js, which the original framework needs: apt-get install nodejs npm")
    version = subprocess.run(["node", "--version"], check=True, capture_output=True, text=True).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < OLDEST_NODE:
        raise RuntimeError(f"Node.js {version} is too old for the original framework, which needs {OLDEST_NODE}")
    # several processes may come here at once, and npm takes no turns
    with (NODE / "package-lock.json").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_installed():
            # left on its own, npm would also ask its registry for audits and news
            command = ["npm", "ci", "--silent", "--no-fund", "--no-audit"]
            environment = os.environ | {"NO_UPDATE_NOTIFIER": "1"}
            subprocess.run(command, cwd=NODE, env=environment, check=True, timeout=INSTALL_S)
    assert _is_installed(), f"{NODE} does not hold ilp-settlement-core {ORIGINAL_VERSION}"


def _is_installed() -> bool:
    # npm writes this list last, so an installation that was cut off has none
    complete = (NODE / "node_modules" / ".package-lock.json").is_file()
    package = NODE / "node_modules" / "ilp-settlement-core" / "package.json"
    return complete and package.is_file() and json.loads(package.read_text())["version"] == ORIGINAL_VERSION
