"""`settlement-core watch`: the first look at a running server, kept up to date; or its events, one a line."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from settlement_core.cli.books import on_books
from settlement_core.cli.following import Heard
from settlement_core.cli.printing import add_row, as_text, count, make_table, say
from settlement_core.cli.source import Source
from settlement_core.cli.tables import Listing
from settlement_core.cli.verdicts import reason_lines

__all__ = ["watch"]

EVENTS = 8
"""The latest ones shown."""

ACCOUNTS = 12
"""Accounts shown, of those with something to do."""

LOOK_S = 1.0
"""How often the server is asked at most."""

ANYHOW_S = 5.0
"""How often it is asked although nothing was heard: other workers' events are not told here."""

_GRADES = {"good": "bold green", "waits": "bold yellow", "stuck": "bold red", "wrong": "bold white on red"}

_STYLES = {"warning": "yellow", "error": "red", "critical": "bold red", "debug": "dim"}


@click.command()
@on_books
def watch(source: Source, *, as_json: bool) -> None:
    """Watch a running server: the verdict about the money, its reasons, what is tried again, what happens.

    With --json one event a line is printed, as it happens, for scripts; {"event": "resync"} says that some may have
    been missed, such as at the beginning, and {"event": "lost"} that the server does not answer for now. Ctrl-C ends
    it.
    """
    try:
        if as_json or not Console().is_terminal:
            _print(source.events(), as_json=as_json)
        else:
            _Screen(source).run()
    except KeyboardInterrupt:
        return


def _print(heard: Iterator[Heard], *, as_json: bool) -> None:
    for event in heard:
        if as_json:
            say(json.dumps({"event": event.kind, **event.content}))
        elif "text" in event.content:
            when = datetime.fromtimestamp(event.content["time"], UTC).isoformat(" ", "seconds")
            say(f"{when} {event.content['level']:8} {event.content['text']}")


class _Screen:
    """What is shown: drawn by one thread, while another one listens."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._latest: deque[Heard] = deque(maxlen=EVENTS)
        self._news = threading.Event()
        self._lost = False
        self._ended: BaseException | None = None

    def run(self) -> None:
        threading.Thread(target=self._listen, daemon=True).start()
        with Live(Text("asking…"), screen=True, auto_refresh=False) as live:
            while True:
                live.update(self._draw(), refresh=True)
                time.sleep(LOOK_S)
                self._news.wait(ANYHOW_S - LOOK_S)
                self._news.clear()
                if self._ended is not None:
                    raise self._ended

    def _listen(self) -> None:
        try:
            for heard in self._source.events():
                self._lost = heard.kind == "lost"
                if "text" in heard.content:
                    self._latest.append(heard)
                self._news.set()
        except BaseException as problem:  # noqa: BLE001 - the thread that draws raises it
            self._ended = problem
            self._news.set()

    def _draw(self) -> Group:
        if self._lost:
            return Group(Text("the server does not answer", style="bold red"), *self._told())
        summary = self._source.summary()
        waiting = self._source.attempts(None, ("in_doubt", "held"), None)
        return Group(
            *verdict_of(summary),
            Text(),
            _sums(summary),
            Text(),
            *_waiting(waiting),
            *_retrying(summary),
            *self._told(),
        )

    def _told(self) -> Iterator[Text]:
        yield Text("\nevents", style="bold")
        for heard in reversed(self._latest):
            when = datetime.fromtimestamp(heard.content["time"], UTC).strftime("%H:%M:%S")
            style = _STYLES.get(heard.content["level"], "")
            line = as_text(f"{when} {heard.content['text']}", style=style)
            line.no_wrap, line.overflow = True, "ellipsis"
            yield line


def verdict_of(summary: dict[str, Any]) -> Iterator[Text]:
    """Yield the server's verdict, and each of its reasons with what ends it."""
    verdict = summary["verdict"]
    engine, accounts = summary["server"]["engine"], count(summary["accounts"], "account")
    yield as_text(f"{engine}, {accounts}: {verdict['sentence']}", style=_GRADES[verdict["grade"]])
    for line, command in reason_lines(verdict):
        yield as_text(line)
        yield as_text(f"    {command}", style="dim")


def _sums(summary: dict[str, Any]) -> Listing:
    table = make_table("", "entered", "queued", "open", "settled", "in doubt / held")
    for direction, parked in (("outgoing", "in_doubt"), ("incoming", "held")):
        sums = summary[direction]
        add_row(table, direction, *(sums[name] for name in ("entered", "queued", "open", "settled", parked)))
    return table


def _waiting(attempts: list[dict[str, Any]]) -> Iterator[Listing]:
    if attempts:
        table = make_table("attempt", "account", "amount", "state", "why")
        for attempt in attempts[:ACCOUNTS]:
            state = attempt["state"].replace("_", " ")
            add_row(table, attempt["id"], attempt["account"], attempt["amount"], state, attempt["reason"])
        yield table


def _retrying(summary: dict[str, Any]) -> Iterator[Text | Listing]:
    lanes = summary["retrying"]["lanes"][:ACCOUNTS]
    if lanes:
        table = make_table("tried again", "", "failures", "next", "why")
        for lane in lanes:
            left = lane["next_try_in_s"]
            soon = "now" if left is None else f"in {left:.0f} s"
            add_row(table, lane["account_id"], lane["direction"], str(lane["failures"]), soon, lane["last_error"])
        yield Text()
        yield table
