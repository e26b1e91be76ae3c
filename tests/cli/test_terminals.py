"""Real terminals: 80 columns with long ids and amounts, and encodings that lack what ledgers write."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from contextlib import closing
from decimal import Decimal

import pytest

from settlement_core.cli.tables import grouped
from settlement_core.store_urls import open_store
from settlement_core.values.commands import Claim, Enqueue, Hold, OpenAccount
from settlement_core.values.records import Direction
from tests.cli.processes import COMMAND, PATIENCE_S, clean_environment, run

UUID = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"
LONG = "b" * 128
AMOUNT = Decimal("1234567.123456789012345678")
REASON = "the ledger → said 日本, and nothing else for quite a while"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Make a store with one payment in doubt in each of two accounts with long ids."""
    url = f"sqlite:{tmp_path_factory.mktemp('terminals') / 's.db'}"
    with closing(open_store(url)) as store:
        for number, account_id in enumerate((UUID, LONG)):
            attempt_id = f"c0ffee00-0000-4000-8000-00000000000{number}"
            way = {"account_id": account_id, "direction": Direction.OUTGOING}
            store.apply(
                [
                    OpenAccount(account_id=account_id, at=1.0),
                    Enqueue(entry_id="k", amount=AMOUNT if number else Decimal(5), at=1.0, **way),  # type: ignore[arg-type]
                    Claim(attempt_id=attempt_id, at=2.0, **way),  # type: ignore[arg-type]
                    Hold(account_id=account_id, attempt_id=attempt_id, reason=REASON),
                ]
            )
    return url


def on_terminal(*arguments: str, columns: int = 80, **variables: str) -> list[str]:
    """Run a command on a terminal of so many columns; return the lines that it shows."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = clean_environment(TERM="xterm", **variables)
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
        environment.pop(name, None)
    with subprocess.Popen(
        [*COMMAND, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 65536):
                shown += part
        except OSError:
            pass  # Linux says so when the other side is closed
        process.wait(PATIENCE_S)
    os.close(ours)
    text = re.sub(r"\x1b\[[0-9;]*m", "", shown.decode())
    return [line.rstrip() for line in text.replace("\r\n", "\n").split("\n")]


def test_80_columns_show_account_state_and_direction_of_long_ids(store: str) -> None:
    """No figure and no attempt id is broken; what is left out is named, the least needed first."""
    lines = on_terminal("accounts", "--store", store)
    assert max(map(len, lines)) <= 80
    assert "1 234 567.123456789012345678" in "\n".join(lines)
    assert [line for line in lines if "open" in line and "outgoing" in line]
    assert "(too narrow for: entered, open, settled, queued; --json has everything)" in lines
    ids = "".join(line.split(" ")[0] for line in lines)
    assert LONG in ids
    assert UUID in ids
    lines = on_terminal("attempts", "--store", store)
    assert max(map(len, lines)) <= 80
    shown = "\n".join(lines)
    for number in (0, 1):
        assert f"c0ffee00-0000-4000-8000-00000000000{number}" in shown
    assert "1 234 567.123456789012345678" in shown
    assert shown.count("in doubt") == shown.count("outgoing") == 2


def test_a_terminal_too_narrow_for_a_table_shows_one_record_a_row(store: str) -> None:
    """Each figure and id stands whole after its name."""
    lines = on_terminal("attempts", "--store", store, columns=50)
    assert "amount     1 234 567.123456789012345678" in lines
    assert "attempt    c0ffee00-0000-4000-8000-000000000001" in lines
    assert "state      in doubt" in lines


def test_figures_stand_point_below_point_in_groups(store: str) -> None:
    """In a file as on a terminal; JSON has them as they are in the books."""
    table = run("accounts", "--store", store).stdout.splitlines()
    small, large = (next(line for line in table if line.startswith(account)) for account in (UUID, LONG))
    assert large.index("1 234 567.123456789012345678") + len("1 234 567") == small.index(" 5 ") + 2
    assert "1234567.123456789012345678" in run("accounts", "--store", store, "--json").stdout


@pytest.mark.parametrize(
    ("amount", "shown"),
    [("0", "0"), ("999", "999"), ("1000", "1 000"), ("1234567.8901", "1 234 567.8901"), ("", ""), ("x1000", "x1000")],
)
def test_only_whole_digits_are_grouped(amount: str, shown: str) -> None:
    """By spaces, which nobody takes for a decimal sign; what is no amount stays as it is."""
    assert grouped(amount) == shown


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "cp1252"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=lambda variables: " ".join(variables.values()),
)
def test_what_an_encoding_lacks_is_shown_in_ascii(variables: dict[str, str], store: str) -> None:
    """The commands end as ever: the audit's exit code is about money, not about signs."""
    for command in ("audit", "attempts"):
        done = subprocess.run(
            [*COMMAND, command, "--store", store],
            capture_output=True,
            env=clean_environment(**variables),
            timeout=PATIENCE_S,
            check=False,
        )
        assert (done.returncode, done.stderr) == (run(command, "--store", store, code=None).returncode, b"")
        assert b"-> said" in done.stdout
        assert b"\\u65e5\\u672c" in done.stdout
