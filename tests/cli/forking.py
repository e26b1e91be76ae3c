"""A process that has imported the command line already, and becomes each command by forking: half a second less each.

Everything else is as in a process of its own: arguments, folder, environment, output, exit code, signals.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

__all__ = ["Forking"]


class Forking:
    """Runs commands, one at a time."""

    def __init__(self) -> None:
        self._folder = TemporaryDirectory()  # removes itself
        self._process: subprocess.Popen[str] | None = None

    def run(self, arguments: list[str], *, cwd: Path | None, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        out, err = (Path(self._folder.name) / name for name in ("out", "err"))
        order = {"arguments": arguments, "cwd": str(cwd or Path.cwd()), "env": env, "out": str(out), "err": str(err)}
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            code = int(self._process.stdout.readline())
        except BaseException:  # as when the test has taken too long
            self._process.kill()
            self.close()
            raise
        return subprocess.CompletedProcess(arguments, code, out.read_text(), err.read_text())

    def close(self) -> None:
        """End."""
        if self._process is not None:
            self._process.communicate()
            self._process = None


def _main() -> None:
    package = importlib.import_module("settlement_core.cli")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    gc.freeze()  # else each command looks through all of it when it ends
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(order)
            return
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        sys.stdout.flush()


def _become(order: dict[str, object]) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for number, path in ((0, os.devnull), (1, order["out"]), (2, order["err"])):
        os.dup2(os.open(str(path), flags if number else os.O_RDONLY), number)
    os.chdir(str(order["cwd"]))
    os.environ.clear()
    os.environ.update(order["env"])  # type: ignore[call-overload]
    sys.argv = ["settlement-core", *order["arguments"]]  # type: ignore[misc]
    # from which `serve --workers` makes the workers'
    sys.orig_argv = [sys.executable, "-m", "settlement_core", *sys.argv[1:]]
    sys.path[0] = ""
    importlib.import_module("settlement_core.cli").main()


if __name__ == "__main__":
    _main()
