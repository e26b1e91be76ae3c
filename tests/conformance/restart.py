"""Kill a program at whatever it is doing, and start it (again): `python restart.py FOLDER`.

The folder says what to start in `start.json`, and keeps the process id in `pid` and the output in `log`. The program
outlives this one; `python restart.py FOLDER kill` only ends it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path


def main(folder: Path, *, start: bool) -> None:
    """Kill what runs, if anything does; start it."""
    pid = folder / "pid"
    if pid.exists():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid.read_text()), signal.SIGKILL)
        pid.unlink()
    if start:
        told = json.loads((folder / "start.json").read_text())
        with (folder / "log").open("ab") as log:
            process = subprocess.Popen(
                told["command"],
                env=told["environment"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        pid.write_text(str(process.pid))


if __name__ == "__main__":
    main(Path(sys.argv[1]), start=sys.argv[2:] != ["kill"])
