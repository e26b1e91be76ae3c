"""Tables: what strangers wrote into reasons and ids is shown as it is."""

from __future__ import annotations

import pytest

from settlement_core.cli.books import add_row, make_table, print_table


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
