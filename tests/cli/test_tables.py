"""What commands print: what strangers wrote into reasons and ids is shown as it is, and moves no cursor."""

from __future__ import annotations

import ast
import inspect
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import settlement_core.cli
from settlement_core.cli import main
from settlement_core.cli.books import audit, suspense
from settlement_core.cli.engine import engine
from settlement_core.cli.printing import add_row, make_table, print_table, say
from settlement_core.cli.watch import verdict_of
from settlement_core.values.errors import LocalError

CLI = Path(settlement_core.cli.__file__).parent


@pytest.mark.parametrize("written", ["[/] closes nothing", "[bold]loud", "a\x1b[2Jb\nc\x07", "[link=http://x]y[/link]"])
def test_what_strangers_write_is_neither_markup_nor_a_terminal_code(
    written: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It used to end `attempts` with a traceback, or to change what else was seen."""
    table = make_table("attempt", "why")
    add_row(table, "a1", written)
    print_table(table, "1 attempt")
    head, row, summary = capsys.readouterr().out.splitlines()
    assert head.split() == ["attempt", "why"]
    shown = "".join(char if char.isprintable() else " " for char in written)
    assert row.rstrip() == f"a1       {shown}".rstrip()
    assert summary == "1 attempt"


ODD = "\x1b]0;owned\x07\x1b[2J\r\nyour money is all right\u202e\ud800\x9b31m"
"""Sets a window's title, clears the screen, begins a line of its own, and turns the direction of what follows."""


SUMS = dict.fromkeys(("entered", "queued", "open", "settled", "parked"), "0")


ODD_VERDICT = {
    "grade": "wrong",
    "sentence": f"something is wrong: {ODD}",
    "reasons": [{"grade": "wrong", "text": ODD, "command": ODD}],
}


class _Told:
    """Books whose every text came from outside."""

    def audit(self) -> dict[str, Any]:
        """Return a report in which everything is wrong."""
        return {
            "ok": False,
            "outgoing": SUMS,
            "incoming": SUMS,
            "entries": 0,
            "attempts": 0,
            "accounts": [],
            "held": [],
            "maybe_older": ODD,
            "dismissed": {"count": 1, "amount": "1"},
            "in_doubt": [{"amount": "1", "account": ODD, "attempt_id": ODD, "reason": ODD}],
            "unattributed": [{"amount": "1", "settlement_id": ODD}],
            "problems": [{"account": ODD, "row": ODD, "problem": ODD}],
            "audited": ODD,
            "verdict": ODD_VERDICT,
        }

    def asset(self) -> str:
        """Return an odd label."""
        return ODD

    def engine(self) -> dict[str, Any]:
        """Return an alarm."""
        return {"engine": ODD, "status": {ODD: ODD, "alarm": ODD}}

    def suspense(self, after: str, *, decided: bool) -> list[dict[str, Any]]:
        """Return one page."""
        item: dict[str, Any] = {"settlement_id": ODD, "amount": "1", "reported_at": 0.0, "details": {"memo": ODD}}
        told = {"state": "dismissed" if decided else "waiting", "assigned_by": ODD, "reason": ODD}
        return [] if after else [item | told]


UNSAID = {"assign": None, "not_ours": (), "not_ours_below": None, "reason": "", "by": ""}


def test_no_command_prints_a_terminal_code_from_outside(capsys: pytest.CaptureFixture[str]) -> None:
    """Of audits, alarms, memos, ids and errors: a line stays one line, and no cursor moves."""
    books: Any = _Told()
    lists: list[Any] = [(suspense, {**UNSAID, "decided": decided}) for decided in (False, True)]
    for command, options in ((audit, {}), (engine, {}), *lists):
        inner: Any = inspect.unwrap(command.callback)
        for as_json in (False, True):
            with suppress(SystemExit):
                inner(books, as_json=as_json, **options)
    said, lines = capsys.readouterr(), 0
    for line in (said.out + said.err).split("\n"):
        assert line.isprintable()
        assert not line.lstrip().startswith("your money")
        lines += "your money is all right" in line
    assert lines > 10
    say(ODD, err=True)
    assert capsys.readouterr().err.removesuffix("\n").isprintable()


def test_an_error_from_outside_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A server's refusal is printed as it came, but for what moves a cursor."""

    def refuse(_: Any) -> Any:
        raise LocalError(ODD)

    monkeypatch.setattr("settlement_core.cli.books.open_source", refuse)
    with pytest.raises(SystemExit) as ended:
        main(["audit"])
    assert ended.value.code == 2
    said = capsys.readouterr().err.removesuffix("\n")
    assert said.startswith("Error: ")
    assert said.isprintable()


def test_the_screen_s_first_line_holds_no_terminal_code() -> None:
    """Not even of the engine's name."""
    summary = {"server": {"engine": ODD}, "accounts": 1, "verdict": ODD_VERDICT}
    lines = [line.plain for line in verdict_of(summary)]
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)


def test_commands_print_by_one_module_only() -> None:
    """So that none prints text from outside as it came."""
    for path in sorted(CLI.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if path.name in {"printing.py", "tables.py"} or not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            assert called not in {"click.echo", "click.secho", "print"}, f"{path.name}:{node.lineno}: use say()"
            assert called != "table.add_row" or path.name in {"demo.py", "migrate.py", "conformance.py"}
