"""The page for several operators: one who may only read, and two who decide together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from settlement_core.http.tokens import hash_line
from tests.cli.processes import run, until
from tests.dashboard.stage import Stage

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def stage(open_stage: Callable[..., Stage], tmp_path: Path) -> Stage:
    """Serve an engine that asks three operators for tokens, and two for each decision above 10."""
    path = tmp_path / "tokens"
    path.write_text(
        "\n".join([hash_line("ann", "ann-s"), hash_line("bob", "bob-s"), hash_line("rae", "rae-s", "read")])
    )
    return open_stage("--admin-tokens", str(path), "--four-eyes-above", "10")


def sign_in(page: Page, url: str, token: str) -> None:
    """Open the page anew with a token."""
    page.goto(url)
    page.evaluate("sessionStorage.clear()")
    page.reload()
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Show").click()
    expect(page.locator("#live")).to_have_text("live")


def in_doubt(stage: Stage) -> None:
    """Have 13 in doubt."""
    assert stage.server.create() == 201
    assert stage.server.settle("13", "a") == 201
    sign_in(stage.page, stage.server.admin_url, "ann-s")
    expect(stage.waits("in doubt")).to_have_count(1)


def test_two_operators_decide_together_on_the_page(stage: Stage) -> None:
    """The first one's dialog says that it is proposed; the second one sees it in full, and confirms."""
    in_doubt(stage)
    page = stage.page
    stage.waits("in doubt").get_by_role("button", name="Resolve").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("All of it was paid").check()
    dialog.get_by_label("Reason").fill("looked at the ledger")
    dialog.get_by_label("Your name").fill("Ann")
    dialog.get_by_role("button", name="Resolve", exact=True).click()
    expect(dialog.get_by_role("alert")).to_contain_text("proposed by token ann, and not decided")
    sign_in(page, stage.server.admin_url, "bob-s")
    row = page.locator("section.proposals li")
    expect(row).to_contain_text("Token ann (Ann) proposes to resolve")
    expect(row).to_contain_text("of which 13 moved: looked at the ledger")
    row.get_by_role("button", name="Confirm").click()
    stage.decide("Confirm", "saw it too", "Bob")
    expect(stage.waits("in doubt")).to_have_count(0)
    expect(page.locator("section.proposals")).to_be_hidden()
    page.locator("tr[data-account=alice]").get_by_role("link", name="alice").click()
    expect(page.locator(".timeline")).to_contain_text(
        "looked at the ledger; saw it too, says tokens ann and bob (Ann; Bob)"
    )


def test_who_may_only_read_is_offered_no_decision(stage: Stage) -> None:
    """Everything else is there; and the command line says why it is refused."""
    in_doubt(stage)
    sign_in(stage.page, stage.server.admin_url, "rae-s")
    expect(stage.waits("in doubt")).to_have_count(1)
    expect(stage.page.get_by_role("button", name="Resolve")).to_have_count(0)
    url = stage.server.admin_url
    (attempt,) = run("attempts", "--json", "--admin-url", url, SETTLEMENT_ADMIN_TOKEN="rae-s").stdout.splitlines()
    assert '"in_doubt"' in attempt
    refused = run("pause", "alice", "--reason", "x", "--admin-url", url, code=2, SETTLEMENT_ADMIN_TOKEN="rae-s")
    assert "this token may only read" in refused.stderr


def test_two_operators_decide_together_by_the_command_line(stage: Stage) -> None:
    """The first one's command fails and says what is missing; the second one sends the same."""
    in_doubt(stage)
    url = stage.server.admin_url
    listed = run("attempts", "--json", "--admin-url", url, SETTLEMENT_ADMIN_TOKEN="ann-s").stdout
    attempt = listed.partition('"id": "')[2].partition('"')[0] or listed.partition('"id":"')[2].partition('"')[0]
    command = ("resolve", attempt, "--all", "--reason", "looked", "--admin-url", url)
    proposed = run(*command, code=2, SETTLEMENT_ADMIN_TOKEN="ann-s")
    assert "a second token has to send the same decision within 24 h" in proposed.stderr
    run(*command, SETTLEMENT_ADMIN_TOKEN="bob-s")
    log = stage.server.log
    until(lambda: "tokens ann and bob" in log.read_text(), "for the log")
    assert "proposed to resolve: looked" in log.read_text()
