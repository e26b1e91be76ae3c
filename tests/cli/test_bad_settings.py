"""Bad settings: exit code 2 and one line that says what to change."""

from __future__ import annotations

import socket
import sqlite3
from pathlib import Path

import pytest

from tests.cli.processes import MINIMAL, run, serving, write_engine

NO_FACTORY = "x = 1\n"
NO_SETTLE = "class Engine:\n    pass\n\nasync def connect_engine(services):\n    return Engine()\n"
HALF = "class Engine:\n    def prepare(self): ...\n\nasync def connect_engine(services):\n    return Engine()\n"
RAISES = "raise ZeroDivisionError('oops')\n"
NOT_CALLABLE = "connect_engine = 5\n"
LACKS_MODULE = "import no_such_module\n"


def error(*arguments: str, cwd: Path, **variables: str) -> str:
    """Run a command that must refuse its settings; return its one line."""
    variables.setdefault("PAID", str(cwd / "paid"))
    refused = run(*arguments, code=2, cwd=cwd, **variables)
    assert refused.stdout == ""
    lines = refused.stderr.splitlines()
    if lines[0].startswith("Usage:"):  # click's own, for what it checks itself
        lines = [line for line in lines[1:] if line and not line.startswith("Try ")]
    assert len(lines) == 1, refused.stderr
    assert lines[0].startswith("Error: ")
    return lines[0].removeprefix("Error: ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nosuch"], "no engine 'nosuch': expected simulated, ethereum, module:factory or path/to"),
        (["nosuch.module:connect"], "no engine 'nosuch.module': expected simulated, ethereum, module:factory or"),
        (["missing.py"], "no engine: there is no file 'missing.py'"),
        (["no_factory.py"], "'no_factory.py' has no 'connect_engine'; name the function that makes the engine"),
        (["engine.py:nosuch"], "'engine.py' has no 'nosuch'; name the function that makes the engine"),
        (["json:nosuch"], "'json' has no 'nosuch'"),
        (["not_callable.py"], "'connect_engine' in 'not_callable.py' is int, not a function that makes an engine"),
        (["raises.py"], "'raises.py' cannot be loaded: ZeroDivisionError: oops"),
        (["lacks.py"], "'lacks.py' cannot be loaded: ModuleNotFoundError: No module named 'no_such_module'"),
        (["no_settle.py"], "Engine is no settlement engine: it has neither settle nor prepare, submit and verify"),
        (["half.py"], "Engine is no settlement engine: it has prepare but not submit, verify"),
        (["simulated"], "engine 'simulated' needs ledger, address; its options are ledger=…, address=…"),
        (["simulated", "-o", "ledger=x"], "engine 'simulated' needs address"),
        (["simulated", "-o", "ledger=x", "-o", "address=a", "-o", "z=1"], "engine 'simulated' does not know z"),
        (["simulated", "-o", "ledger"], "'ledger' is not NAME=VALUE"),
        (["simulated", "-o", "ledger=x", "-o", "address=a", "-o", "poll_interval_s=y"], "engine 'simulated': could"),
        (["simulated", "-o", "ledger=nosuch/ledger.db", "-o", "address=a"], "nosuch/ledger.db"),
        (
            ["engine.py", "-o", "x=1"],
            "engine options are for shipped engines (simulated, ethereum), not for 'engine.py'",
        ),
        (["engine.py", "--store", "mysql://x"], "store mysql:… is not known, or lacks its path; known are memory:"),
        (["engine.py", "--store", "sqlite:"], "store sqlite:… is not known, or lacks its path"),
        (["engine.py", "--store", "somewhere"], "store 'somewhere' is no URL; known are memory:, sqlite:PATH, redis"),
        (["engine.py", "--store", "sqlite:nosuch/folder/s.db"], "nosuch/folder/s.db"),
        (["engine.py", "--store", "sqlite://s.db"], "names a host, not a file: say sqlite:s.db for a file in this"),
        (["engine.py", "--store", "sqlite:s.db?mode=ro"], "has options, which a store takes none of"),
        (["engine.py", "--store", "sqlite::memory:"], "is not a file: memory: keeps money in memory"),
        (["engine.py", "--store", "sqlite:///:memory:"], "is not a file: memory: keeps money in memory"),
        (["engine.py", "--store", "sqlite:folder/"], "names a directory; name a file in it"),
        (["engine.py", "--store", "sqlite:s.db\n"], "holds characters that are not printable"),
        (["engine.py", "--store", "sqlite:~nosuchuser/s.db"], "the home directory of ~ is not known"),
        (["engine.py", "--store", "sqlite:."], ""),
        (["engine.py", "--connector-url", "localhost:7771"], "connector"),
        (["engine.py", "--connector-url", "ftp://localhost"], "connector"),
        (["engine.py", "--connector-url", ""], "connector"),
        (["engine.py", "--connector-timeout", "0"], "connector"),
        (["engine.py", "--connector-timeout", "nan"], "connector"),
        (["engine.py", "--shutdown", "-1"], "-1 is not a number of seconds"),
        (["engine.py", "--shutdown", "nan"], "nan is not a number of seconds"),
        (["engine.py", "--credit-cap", "0"], "a setting is wrong: credit_cap"),
        (["engine.py", "--credit-cap", "NaN"], "credit"),
        (["engine.py", "--credit-cap", "many"], "'many' is not a number"),
        (
            ["engine.py", "--credit-cap", "0.5", "--connector-scale", "0"],
            "a setting is wrong: credit_cap 0.5 is less than one unit of connector_scale 0",
        ),
        (["engine.py", "--connector-scale", "256"], "256 is not in the range 0<=x<=255"),
        (["engine.py", "--port", "65536"], "65536 is not in the range 0<=x<=65535"),
        (["engine.py", "--host", "no.such.host.invalid"], "cannot listen on no.such.host.invalid:3000: "),
        (["engine.py", "--certfile", "engine.py"], "TLS needs a certificate and its key"),
        (["engine.py", "--certfile", "engine.py", "--keyfile", "engine.py"], "cannot serve TLS with engine.py"),
        (["engine.py", "--connector-token-file", "nosuch"], "'nosuch' does not exist"),
        (["engine.py", "--connector-ca", "engine.py"], "needs an https:// connector URL: http:// would ignore it"),
        (["engine.py", "--connector-certificate", "engine.py"], "needs an https:// connector URL"),
        ([], "Missing argument 'TARGET'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_bad_setting_is_exit_code_2_and_one_sentence(arguments: list[str], sentence: str, tmp_path: Path) -> None:
    """Nothing is left behind by it but, at most, an empty store."""
    sources = {"no_factory": NO_FACTORY, "no_settle": NO_SETTLE, "half": HALF, "raises": RAISES, "engine": MINIMAL}
    sources |= {"not_callable": NOT_CALLABLE, "lacks": LACKS_MODULE}
    for name, source in sources.items():
        write_engine(tmp_path, source, f"{name}.py")
    if "--store" not in arguments:
        arguments = [*arguments, "--store", "memory:"]
    if "--host" not in arguments:
        arguments = [*arguments, "--port", "0", "--admin-port", "-1"] if "--port" not in arguments else arguments
    assert sentence in error("serve", *arguments, cwd=tmp_path)


def test_a_port_in_use_is_named_with_the_option_to_change(tmp_path: Path) -> None:
    """For both ports."""
    write_engine(tmp_path, MINIMAL)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        common = ("serve", "engine.py", "--store", "memory:")
        said = error(*common, "--port", port, "--admin-port", "-1", cwd=tmp_path)
        assert said.startswith(f"cannot listen on 127.0.0.1:{port}: ")
        assert said.endswith("choose another with --port")
        said = error(*common, "--port", "0", "--admin-port", port, cwd=tmp_path)
        assert said.endswith("choose another with --admin-port")


def test_a_store_that_another_server_holds_is_refused_by_every_command(tmp_path: Path) -> None:
    """Serving and reading; the sentence names the file. Afterwards it is as it was."""
    engine = write_engine(tmp_path, MINIMAL)
    store = f"sqlite:{tmp_path / 'store.db'}"
    with serving(str(engine), "--store", store, folder=tmp_path, PAID=str(tmp_path / "paid")) as server:
        server.create()
        for command in (["serve", str(engine), "--port", "0", "--admin-port", "-1"], ["accounts"], ["audit"]):
            assert "store.db" in error(*command, "--store", store, cwd=tmp_path)
        assert server.settle("5", "a") == 201
        assert server.stop() == 0


def test_a_file_that_is_no_store_of_ours_is_left_alone(tmp_path: Path) -> None:
    """Another program's database, and no database at all: told, and unchanged byte by byte."""
    write_engine(tmp_path, MINIMAL)
    foreign, text = tmp_path / "foreign.db", tmp_path / "text.db"
    with sqlite3.connect(foreign) as db:
        db.execute("CREATE TABLE notes (text)")
    db.close()
    text.write_text("dear diary " * 100)
    for path in (foreign, text):
        kept = path.read_bytes()
        for command in (["serve", "engine.py", "--port", "0", "--admin-port", "-1"], ["accounts"]):
            refused = run(*command, "--store", f"sqlite:{path}", code=None, cwd=tmp_path, PAID="x")
            assert refused.returncode in {1, 2}
            assert refused.stderr.startswith("Error: ")
            assert len(refused.stderr.splitlines()) == 1
            assert path.name in refused.stderr
        assert path.read_bytes() == kept
