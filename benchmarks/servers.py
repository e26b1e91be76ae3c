"""Other programs that measurements need: started on free ports, and gone afterwards."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["free_port", "redis_server", "require_node", "running"]


def free_port() -> int:
    """Return a port nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def running(
    command: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program for the block; it is asked to end, and killed if it does not."""
    with subprocess.Popen(command, cwd=cwd, env=env, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def redis_server(folder: Path, *, fsync: str = "always") -> Iterator[str]:
    """Run a Redis that writes to the disk for the block, and give its URL."""
    program = shutil.which("redis-server")
    if program is None:
        raise RuntimeError("no redis-server is installed: apt-get install redis-server")
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    with running([*command, "--appendonly", "yes", "--appendfsync", fsync, "--maxmemory-policy", "noeviction"]):
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}"


def require_node(folder: Path) -> None:
    """Install what the programs in `folder` need, from its lock file, unless it is there."""
    if shutil.which("npm") is None:
        raise RuntimeError("no npm is installed: the original framework is measured with Node.js")
    if not (folder / "node_modules").is_dir():
        subprocess.run(["npm", "ci", "--silent", "--no-fund", "--no-audit"], cwd=folder, check=True)
