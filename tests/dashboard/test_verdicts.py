"""One verdict: in ten situations the summary, audit, watch, the metrics and the page say the same, and what ends it."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from settlement_core.auditing.verdict import EXIT_CODES, Grade
from settlement_core.stores.sqlite import open_sqlite_store
from settlement_core.values import commands as c
from settlement_core.values.records import Direction
from tests.cli.processes import (
    COMMAND,
    Connector,
    Server,
    ask,
    clean_environment,
    run,
    run_json,
    serving,
    until,
    write_engine,
)
from tests.dashboard.stage import PATIENCE_MS

pytestmark = pytest.mark.timeout(600)

ENGINE = '''
"""Does what messages say; its server takes half a second of failures for a quarter of an hour."""

from dataclasses import replace
from decimal import Decimal

from settlement_core import SettlementFailed
from settlement_core.auditing import verdict
from settlement_core.auditing.kinds import KINDS, Kind
from settlement_core.http import judging

quick = {kind: replace(known, patience_s=min(known.patience_s, 0.5)) for kind, known in KINDS.items()}
quick[Kind.UNSETTLED] = KINDS[Kind.UNSETTLED]
verdict.KINDS = judging.KINDS = quick


class Engine:
    def __init__(self, services):
        self.services, self.broke, self.alarm = services, False, None

    async def settle(self, account_id, amount):
        if self.broke:
            raise SettlementFailed("insufficient funds")
        return amount + 1 if amount == 29 else amount

    async def status(self):
        return {"alarm": self.alarm}

    async def handle_message(self, account_id, message):
        if "credit" in message:
            await self.services.credit_settlement(account_id, Decimal(message["credit"]), "tx")
        if "report" in message:
            await self.services.report_unattributed("tx 7", Decimal(message["report"]), {})
        self.broke, self.alarm = "broke" in message, message.get("alarm")


async def connect_engine(services):
    return Engine(services)
'''


@dataclass(frozen=True)
class Situation:
    """What is done, what everybody then says, and what is in a reason and in its command.

    `stopped` is the verdict of the books alone, once the server is stopped.
    """

    name: str
    grade: Grade
    sentence: str
    act: Callable[[Server, Connector], Any] = lambda _server, _connector: None
    text: str = ""
    command: str = ""
    before: tuple[c.Command[Any], ...] = ()
    stopped: Grade = Grade.GOOD

    def __str__(self) -> str:
        """Return its name, for the test's."""
        return self.name


def _tell(message: dict[str, str]) -> Callable[[Server, Connector], Any]:
    def act(server: Server, _connector: Connector) -> None:
        server.create()
        server.tell(message)

    return act


def _settle(amount: str, *, first: dict[str, str] | None = None) -> Callable[[Server, Connector], Any]:
    def act(server: Server, _connector: Connector) -> None:
        server.create()
        if first is not None:
            server.tell(first)
        assert server.settle(amount, "key") == 201

    return act


def _connector_down(server: Server, connector: Connector) -> None:
    connector.answers += [503] * 1000
    server.create()
    server.tell({"credit": "3"})


def _pause(server: Server, _connector: Connector) -> None:
    server.create()
    body = b'{"reason": "strange", "by": "ann"}'
    assert (
        ask(server.admin_url, "POST", "/accounts/alice/pause", body, **{"content-type": "application/json"})[0] == 200
    )
    assert server.settle("5", "key") == 201


def _doubts(number: int) -> Iterator[c.Command[Any]]:
    yield c.OpenAccount(account_id="alice", at=0.0)
    for count in range(number):
        name = f"a-{count}"
        key: dict[str, Any] = {"account_id": "alice", "direction": Direction.OUTGOING}
        yield c.Enqueue(**key, entry_id=name, amount=Decimal("0.01"), at=1.0)
        yield c.Claim(**key, attempt_id=name, at=2.0)
        yield c.Hold(account_id="alice", attempt_id=name, reason="no answer")


SITUATIONS = [
    Situation(
        "all good", Grade.GOOD, "your money is all right: the books add up, and nothing waits for you", _settle("5")
    ),
    Situation("empty", Grade.GOOD, "there is no account yet: the books are empty, and nothing waits for you"),
    Situation(
        "alarm",
        Grade.STUCK,
        "money is stuck: the engine has an alarm",
        _tell({"alarm": "key used elsewhere"}),
        "the engine has an alarm: key used elsewhere",
        "settlement-core engine",
    ),
    Situation(
        "halted",
        Grade.WRONG,
        "something is wrong: account alice halted",
        _settle("29"),
        "settled 30, more than the 29 it may",
        "settlement-core resume alice --reason",
        stopped=Grade.WAITS,
    ),
    Situation(
        "connector down",
        Grade.STUCK,
        "money is stuck: the connector takes no credits",
        _connector_down,
        "account alice: the connector takes no credits: 503 Service Unavailable",
        "mend the connector",
        stopped=Grade.WAITS,
    ),
    Situation(
        "insufficient funds",
        Grade.STUCK,
        "money is stuck: retries of account alice have failed for more than 15 minutes",
        _settle("5", first={"broke": "yes"}),
        "account alice: nothing was settled: insufficient funds since ",
        "settlement-core settle alice",
        stopped=Grade.WAITS,
    ),
    Situation(
        "paused with money",
        Grade.WAITS,
        "the books add up, and this waits for you: 5 of account alice paused",
        _pause,
        "5 of account alice paused: by ann: strange since ",
        "settlement-core resume alice --reason",
        stopped=Grade.WAITS,
    ),
    Situation(
        "clock jump",
        Grade.WAITS,
        "the books add up, and this waits for you: the wall clock jumped",
        text="the wall clock jumped: by -",
        command="set the clock right",
        before=(c.Tick(wall=time.time() + 7200, keep_s=604800.0),),
    ),
    Situation(
        "unattributed",
        Grade.WAITS,
        "the books add up, and this waits for you: 7 unattributed",
        _tell({"report": "7"}),
        "7 unattributed since ",
        "settlement-core suspense --assign tx 7 ACCOUNT",
        stopped=Grade.WAITS,
    ),
    Situation(
        "500 doubts",
        Grade.WAITS,
        "the books add up, and this waits for you: 5 in doubt",
        text="account alice: 5 in doubt: no answer since ",
        command="settlement-core resolve ATTEMPT",
        before=tuple(_doubts(500)),
        stopped=Grade.WAITS,
    ),
]


def watched(server: Server, sentence: str) -> str:
    """Return what `watch` draws on a wide terminal, once the sentence is there."""
    ours, theirs = pty.openpty()
    screen = b""

    def shows() -> bool:
        nonlocal screen
        while select.select([ours], [], [], 0)[0]:
            screen += os.read(ours, 65536)
        return sentence.encode() in screen

    env = clean_environment(TERM="xterm", COLUMNS="400", LINES="60")
    with subprocess.Popen([*COMMAND, "watch", "--admin-url", server.admin_url], stdout=theirs, env=env) as process:
        os.close(theirs)
        try:
            until(shows, f"for watch to say: {sentence}")
        finally:
            process.kill()
            os.close(ours)
    return screen.decode()


def metric_of(server: Server, name: str, label: str) -> dict[str, float]:
    """Return the values of a family by the value of one label."""
    told = ask(server.admin_url, "GET", "/metrics")[1].decode()
    return {found: float(value) for found, value in re.findall(rf'{name}\{{.*?{label}="(\w+)".*?\}} (\S+)', told)}


@pytest.mark.parametrize("situation", SITUATIONS, ids=str)
def test_every_surface_gives_the_same_verdict(
    situation: Situation, browser: Browser, connector: Connector, tmp_path: Path
) -> None:
    """Grade, sentence, reason and what ends it; and the exit code is the grade's."""
    store = f"sqlite:{tmp_path / 'books.db'}"
    with closing(open_sqlite_store(tmp_path / "books.db")) as made:
        made.apply(situation.before)
    arguments = (str(write_engine(tmp_path, ENGINE)), "--store", store, "--connector-url", connector.url)
    with serving(*arguments, folder=tmp_path) as server:
        situation.act(server, connector)
        until(lambda: server.books("/summary")["verdict"]["sentence"] == situation.sentence, "for the verdict")
        verdict = server.books("/summary")["verdict"]
        assert verdict["grade"] == situation.grade
        assert [situation.text in reason["text"] for reason in verdict["reasons"]] == [True] * bool(situation.text)
        assert all(situation.command in reason["command"] for reason in verdict["reasons"])

        where, code = ("--admin-url", server.admin_url), EXIT_CODES[situation.grade]
        assert run_json("audit", *where, code=code)["verdict"]["sentence"] == situation.sentence
        said = run("audit", *where, code=code).stdout
        assert said.splitlines()[-1] == situation.sentence
        assert f"audited: the server at {server.admin_url}, store {store}\n" in said
        assert situation.text in said
        assert situation.command in said

        drawn = watched(server, situation.sentence)
        assert situation.text in drawn
        assert situation.command in drawn

        grades = metric_of(server, "settlement_core_verdict", "grade")
        assert grades == {grade: float(grade is situation.grade) for grade in Grade}
        reasons = metric_of(server, "settlement_core_verdict_reasons", "kind")
        assert {kind for kind, number in reasons.items() if number} == {one["kind"] for one in verdict["reasons"]}

        page = browser.new_context(reduced_motion="reduce").new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(server.admin_url)
        expect(page.locator(".verdict")).to_have_attribute("data-grade", situation.grade)
        expect(page.locator(".sentence")).to_have_text(situation.sentence)
        expect(page.locator(".reasons li")).to_have_count(len(verdict["reasons"]))
        if situation.text:
            expect(page.locator(".reasons li")).to_contain_text(situation.text)
            expect(page.locator(".reasons code")).to_contain_text(situation.command)
        page.context.close()
        server.stop()
    said = run("audit", "--store", store, code=EXIT_CODES[situation.stopped]).stdout
    assert f"audited: store {store}, without its server, last written 20" in said
    if situation.stopped is situation.grade:
        assert said.splitlines()[-1] == situation.sentence
