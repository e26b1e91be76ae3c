"""Real Redis servers for tests, killed, paused and started again at will.

`RedisServer` is one server. `tests.redis.topologies` puts several together: `Sentinels` and `Cluster`.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

import redis
import trustme
from redis.backoff import NoBackoff
from redis.retry import Retry

__all__ = ["HOST", "RedisServer", "Setting", "executable", "reserve_port", "wait_until"]

HOST = "127.0.0.1"

START_S = 30.0
"""How long a start may take on a busy machine before we call it failed."""

Setting = bool | int | str | Path | Sequence[str]
"""A setting's value; a list is one line of the configuration per item."""

_BUS = 10_000
"""How far above its port a cluster's server listens for the others."""

_PORTS = (10_000, 20_000)
"""Below those the system gives to clients, with their bus ports. A client that keeps calling a killed server on one of
the system's own ports may end up connected to itself, and the server does not get its port back."""


def executable() -> str:
    """Return the path of the server's program: `REDIS_SERVER`, else the one that is installed."""
    wanted = os.environ.get("REDIS_SERVER", "redis-server")
    found = shutil.which(wanted)
    if found is None:
        raise FileNotFoundError(f"there is no {wanted}: install redis-server, or name another in REDIS_SERVER")
    return found


def reserve_port() -> tuple[int, socket.socket]:
    """Choose a port that is free together with its bus port.

    Returns:
        The port, and what keeps other users of this function off it, in any process, until it is closed: a server
        that was killed finds its port free when it comes back.
    """
    while True:
        port = random.randrange(*_PORTS)
        claim = socket.socket(socket.AF_UNIX)
        try:
            if sys.platform == "linux":
                # An abstract name is no file, and goes with the process, whatever becomes of it.
                claim.bind(f"\0settlement-core-tests-{port}")
            with socket.create_server((HOST, port)), socket.create_server((HOST, port + _BUS)):
                return port, claim
        except OSError:
            claim.close()


def wait_until(condition: Callable[[], bool], what: str, *, timeout_s: float = START_S) -> None:
    """Return once the condition holds; raise TimeoutError, naming what was awaited, if it does not in time.

    A server that does not answer is a condition that does not hold.
    """
    deadline = time.monotonic() + timeout_s
    reason: Exception | None = None
    while time.monotonic() < deadline:
        try:
            if condition():
                return
            reason = None
        except (redis.RedisError, OSError) as error:
            reason = error
        time.sleep(0.01)
    raise TimeoutError(f"waited {timeout_s} s in vain until {what}") from reason


class _Guardian:
    """A process that outlives this one by a moment, and kills the servers it leaves behind.

    The kernel could do it (PR_SET_PDEATHSIG), but it kills when the *thread* that started the server ends, and threads
    of a pool do so in the middle of a test.
    """

    _PROGRAM = """if True:
        import os, signal, sys
        alive = set()
        for line in sys.stdin:
            alive ^= {int(line)}
        for group in alive:
            try:
                os.killpg(group, signal.SIGKILL)
            except ProcessLookupError:
                pass
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def toggle(self, group: int) -> None:
        """Begin to watch a process group, or stop to."""
        if self._process is None or self._process.poll() is not None:
            command = [sys.executable, "-I", "-S", "-c", self._PROGRAM]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, bufsize=0, start_new_session=True)
            atexit.register(self._process.communicate)
        assert self._process.stdin is not None
        self._process.stdin.write(b"%d\n" % group)


_guardian = _Guardian()


class RedisServer:
    """One server on a port and in a directory of its own, which it keeps when it is killed and started again.

    It appends every write to a file and syncs it before it answers (`appendfsync always`): what was acknowledged
    survives. Use it as a context manager, which starts it, and leaves nothing running.

    Args:
        directory: Where its data, configuration (`redis.conf`) and log (`redis.log`) go; made if missing.
        tls: An authority. With it the server speaks only TLS, with a certificate for 127.0.0.1 issued by it.
        unix: Whether it listens on a Unix socket too, `unix_url`.
        sentinel: What it watches, "monitor …" and so on. With it the server is a sentinel, which keeps no data.
        settings: Lines of the configuration, `_` for `-`; None takes a default away.
    """

    def __init__(
        self,
        directory: Path,
        *,
        tls: trustme.CA | None = None,
        unix: bool = False,
        sentinel: Sequence[str] = (),
        **settings: Setting | None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.port, self._claim = reserve_port()
        self.ca_file: Path | None = None
        self._is_sentinel = bool(sentinel)
        self._process: subprocess.Popen[bytes] | None = None
        self._log = directory / "redis.log"
        self._unix = directory / "redis.sock"
        lines = self._defaults() | {"sentinel": sentinel, "unixsocket": self._unix if unix else None}
        if tls is not None:
            lines |= self._secured(tls)
        lines |= {name.replace("_", "-"): value for name, value in settings.items()}
        self._password = str(lines.get("requirepass") or "")
        # A file, not arguments: sentinels rewrite a server's configuration, and that must survive its restart.
        self._conf = directory / "redis.conf"
        self._conf.write_text(_configuration(lines))

    def __repr__(self) -> str:
        state = f"pid {self._process.pid}" if self._process else "down"
        return f"<RedisServer {self.address} {state}>"

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def address(self) -> str:
        """The server's host and port, "127.0.0.1:10001"."""
        return f"{HOST}:{self.port}"

    @property
    def running(self) -> bool:
        """Whether its process lives, paused or not."""
        return self._process is not None and self._process.poll() is None

    def url(self, db: int = 0) -> str:
        """Return the URL of one of its databases."""
        secret = f":{self._password}@" if self._password else ""
        if self.ca_file is not None:
            return f"rediss://{secret}{self.address}/{db}?ssl_ca_certs={self.ca_file}"
        return f"redis://{secret}{self.address}/{db}"

    def unix_url(self, db: int = 0) -> str:
        """Return the URL of one of its databases by way of its Unix socket."""
        secret = f":{self._password}@" if self._password else ""
        return f"unix://{secret}{self._unix}?db={db}"

    def client(self, db: int = 0) -> redis.Redis:
        """Return a new client that repeats nothing; use it as a context manager, or close it."""
        return redis.Redis.from_url(self.url(db), retry=Retry(NoBackoff(), 0), socket_timeout=10)

    def launch(self) -> None:
        """Start its process without waiting until it answers; `wait_ready` does."""
        assert not self.running, f"{self!r} is running already"
        command = [executable(), str(self._conf), *(["--sentinel"] if self._is_sentinel else [])]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory, start_new_session=True
            )
        _guardian.toggle(self._process.pid)

    def wait_ready(self) -> None:
        """Wait until it has read its data and answers; raise RuntimeError with the end of its log if it does not."""
        assert self._process is not None
        deadline = time.monotonic() + START_S
        with self.client() as client:
            while time.monotonic() < deadline and self._process.poll() is None:
                with contextlib.suppress(redis.RedisError):
                    client.ping()
                    return
                time.sleep(0.01)
        code = self._process.poll()
        state = f"does not answer within {START_S} s" if code is None else f"ended at its start with code {code}"
        self.kill()
        raise RuntimeError(f"the server {self.address} {state}. Its log ends with:\n{self.log_tail()}")

    def start(self) -> None:
        """Start it; return once it answers."""
        self.launch()
        self.wait_ready()

    def kill(self) -> None:
        """End it by SIGKILL, whatever it is doing, with its children; fine if it is down."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it as an operator does, by SIGTERM; fine if it is down."""
        self.resume()
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        """Start it again, on the same port and with its data, after killing it if it is running."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """Freeze it: it holds its connections, and accepts new ones, but answers nothing until `resume`."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """Kill it and give up its port."""
        self.kill()
        self._claim.close()

    def log_tail(self, lines: int = 20) -> str:
        """Return the last lines of its log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:]) if self._log.exists() else ""

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._signal(number)
        try:
            self._process.wait(START_S)
        finally:
            # Its children, which write files anew in the background, are in its group.
            self._signal(signal.SIGKILL)
            _guardian.toggle(self._process.pid)
            self._process.wait()
            self._process = None

    def _defaults(self) -> dict[str, Setting | None]:
        shared: dict[str, Setting | None] = {
            "bind": HOST,
            "port": self.port,
            "dir": self.directory,
            "daemonize": False,
            "protected-mode": False,
        }
        if self._is_sentinel:
            return shared
        return shared | {
            "save": "",
            "appendonly": True,
            "appendfsync": "always",
            "repl-diskless-sync-delay": 0,
        }

    def _secured(self, authority: trustme.CA) -> dict[str, Setting | None]:
        self.ca_file, key, certificate = (self.directory / name for name in ("ca.pem", "key.pem", "certificate.pem"))
        authority.cert_pem.write_to_path(self.ca_file)
        issued = authority.issue_cert(HOST, "localhost")
        issued.private_key_pem.write_to_path(key)
        for pem in issued.cert_chain_pems:
            pem.write_to_path(certificate, append=True)
        return {
            "port": 0,
            "tls-port": self.port,
            "tls-cert-file": certificate,
            "tls-key-file": key,
            "tls-ca-cert-file": self.ca_file,
            "tls-auth-clients": False,
        }


def _configuration(settings: Mapping[str, Setting | None]) -> str:
    """Write settings as the server reads them."""
    lines = []
    for name, value in settings.items():
        match value:
            case None:
                continue
            case bool():
                lines.append(f"{name} {'yes' if value else 'no'}")
            case Path():
                lines.append(f'{name} "{value}"')
            case str() | int():
                # Settings of several words, "save 60 1", stand as they are; only nothing at all needs its quotes.
                lines.append(f"{name} {value}" if value != "" else f'{name} ""')
            case _:
                lines += [f"{name} {item}" for item in value]
    return "\n".join([*lines, ""])
