"""The service files name what exists: systemd takes the unit, and its deadlines are longer than the server's."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import click
import pytest

from settlement_core.cli.serve import serve
from settlement_core.core.config import CoreConfig
from settlement_core.server import CUT_S, ServerConfig

OPERATIONS = Path(__file__).parents[2] / "examples" / "operations"
UNIT = OPERATIONS / "settlement-engine.service"
DOCKERFILE = OPERATIONS / "Dockerfile"

VARIABLES = {str(option.envvar) for option in serve.params if isinstance(option, click.Option)}

SHUTDOWN_S = ServerConfig().drain_s + CUT_S + CoreConfig().shutdown_s + CoreConfig().drain_s
"""What an orderly end may take by its deadlines; an engine's own end comes on top."""


def settings() -> dict[str, list[str]]:
    """Return the unit's settings by name."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in UNIT.read_text().splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            found[name].append(value)
    return found


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions, lines that continue put together."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.strip().startswith("#")]
    whole = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in whole.splitlines()) if word]


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """With a command in place of ours, which is not installed here; the least warning fails."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/settlement-core/bin/settlement-core", "/bin/true"))
    done = subprocess.run([analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_unit_waits_for_an_orderly_end_and_then_kills() -> None:
    """Ten seconds more than all deadlines together, and SIGTERM first."""
    unit = settings()
    assert unit["KillSignal"] == ["SIGTERM"]
    assert float(unit["TimeoutStopSec"][0]) >= SHUTDOWN_S + 10
    assert (unit["Type"], unit["NotifyAccess"]) == (["notify"], ["all"])
    assert unit["RestartPreventExitStatus"] == ["2"]


def test_every_variable_of_the_service_files_is_an_option_of_serve() -> None:
    """A misspelt one would be ignored, and with it perhaps what keeps strangers out."""
    unit = settings()
    said = {value.partition("=")[0] for value in unit["Environment"]}
    said |= set(re.findall(r"\bSETTLEMENT_[A-Z_]+", DOCKERFILE.read_text() + UNIT.read_text()))
    assert said
    assert said <= VARIABLES
    loaded = {value.partition(":")[0] for value in unit["LoadCredential"]}
    used = set(re.findall(r"%d/(\S+)", UNIT.read_text()))
    assert loaded == used


def test_the_container_is_nobody_s_and_gets_its_signals_itself() -> None:
    """Not root; no shell between, in exec form; and it tells how it is by /ready."""
    found = instructions()
    last = max(number for number, (word, _) in enumerate(found) if word == "FROM")
    run = dict(found[last:])
    assert run["USER"].partition(":")[0] not in {"root", "0"}
    assert run["STOPSIGNAL"] == "SIGTERM"
    assert json.loads(run["ENTRYPOINT"]) == ["settlement-core", "serve"]
    check = json.loads(run["HEALTHCHECK"].partition("CMD ")[2])
    compile(check[2], "healthcheck", "exec")
    assert ":3001/ready" in check[2]
    assert "CMD" not in run


def test_what_the_dockerfile_copies_is_there() -> None:
    """From the repository's root; what is installed is locked by hash."""
    root = OPERATIONS.parents[1]
    for word, rest in instructions():
        if word == "COPY" and not rest.startswith("--from"):
            assert all((root / name).exists() for name in rest.split()[:-1])
    assert "--require-hashes -r requirements.lock" in DOCKERFILE.read_text()
