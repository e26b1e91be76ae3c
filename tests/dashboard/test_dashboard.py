"""The dashboard in a real browser: it shows what the books hold, as it changes, and has them do what a person says."""

from __future__ import annotations

import signal
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from playwright.sync_api import expect

from settlement_core.http.tokens import hash_line
from settlement_core.values.amounts import total
from tests.cli.processes import until
from tests.dashboard.stage import HOSTILE, Stage

pytestmark = pytest.mark.timeout(600)

PHONE = {"viewport": {"width": 375, "height": 740}, "has_touch": True, "is_mobile": True}


def test_a_settlement_is_seen_as_it_arrives_and_every_number_is_the_audits(stage: Stage) -> None:
    """Nothing is loaded again; then money of every kind is there, and the page says of it what the audit says."""
    page = stage.page
    expect(page.locator(".sentence")).to_have_text(
        "there is no account yet: the books are empty, and nothing waits for you"
    )
    page.evaluate("window.here = true")
    assert stage.server.create("zoe") == 201
    assert stage.server.settle("123456789012345678901234567890", "k", "zoe") == 201
    expect(page.locator("[data-account=zoe] [data-label=Settled]")).to_have_text("123456789012345678901234567890")
    expect(page.locator(".events")).to_contain_text("account zoe settled 123456789012345678901234567890 of")
    stage.trouble()
    expect(page.locator(".sentence")).to_have_text(
        "the books add up, and this waits for you: 13 in doubt, 3 held, 7 unattributed"
    )
    expect(page.locator(".detail")).to_contain_text("13 in doubt · 3 held · 7 unattributed")
    expect(page.locator("[data-sum='incoming.parked']")).to_have_text("3")
    expect(page.locator("[data-sum='outgoing.settled']")).to_have_text("123456789012345678901234567895")
    assert stage.figures() == stage.audited()
    # the curves' caption is added up from their points
    expect(page.locator(".curves")).to_contain_text("123456789012345678901234567895 settled in 2, 0 credited in 0")
    expect(page.locator(".plot canvas")).to_have_count(2)
    rows = page.locator("tr[data-account]").evaluate_all(
        "rows => rows.map(row => [...row.cells].slice(1).map(cell => cell.textContent))"
    )
    for column, name in (
        (0, "outgoing.entered"),
        (2, "outgoing.settled"),
        (3, "outgoing.parked"),
        (6, "incoming.parked"),
    ):
        assert total(Decimal(row[column]) for row in rows) == stage.audited()[name]
    assert page.evaluate("window.here")


def test_a_person_resolves_what_is_in_doubt(stage: Stage) -> None:
    """4 of 13 were paid, says the ledger: the other 9 are paid then, and who said so and why is in the history."""
    stage.trouble()
    stage.waits("in doubt").get_by_role("button", name="Resolve").click()
    dialog = stage.page.get_by_role("dialog")
    dialog.get_by_role("button", name="Resolve", exact=True).click()
    expect(dialog.get_by_role("alert")).to_have_text("Say how much was paid.")
    dialog.get_by_label("A part was paid").check()
    for wrong in ("13", "0", "14", "-1", "1e1", "٣"):
        dialog.get_by_label("How much was paid").fill(wrong)
        dialog.get_by_role("button", name="Resolve", exact=True).click()
        expect(dialog.get_by_role("alert")).to_be_visible()
    assert stage.sum("outgoing", "in_doubt") == 13, "nothing was sent"
    dialog.get_by_label("How much was paid").fill("4")
    expect(dialog.locator(".outcome")).to_have_text("9 is paid again.")
    stage.decide("Resolve")
    expect(stage.waits("in doubt")).to_have_count(0)
    until(lambda: stage.sum("outgoing", "settled") == 18, "for the rest")
    (resolved,) = [attempt for attempt in stage.server.books("/attempts") if attempt["amount"] == "13"]
    assert (resolved["state"], resolved["settled"]) == ("closed", "4")
    assert (resolved["resolved_by"], resolved["reason"]) == ("ann", "looked at the ledger")
    stage.open("/#/account/alice")
    history = stage.page.locator(".timeline")
    expect(history).to_contain_text("looked at the ledger, says ann")
    expect(history.locator("li")).to_have_count(4)
    expect(history.locator("li").first).to_contain_text("9 was paid")


def test_a_person_releases_a_held_credit_and_names_an_owner(stage: Stage) -> None:
    """Both are credited once, and nothing waits any more but what is in doubt."""
    stage.trouble()
    stage.waits("held").get_by_role("button", name="Release").click()
    stage.decide("Release")
    expect(stage.waits("held")).to_have_count(0)
    stage.waits("unattributed").get_by_role("button", name="Assign").click()
    stage.page.get_by_role("dialog").get_by_label("Account").fill("nobody")
    dialog = stage.page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill("asked around")
    dialog.get_by_role("button", name="Assign", exact=True).click()
    expect(dialog.get_by_role("alert")).to_contain_text("account 'nobody' does not exist; nothing was recorded")
    dialog.get_by_label("Account").fill("alice")
    stage.decide("Assign")
    expect(stage.waits("unattributed")).to_have_count(0)
    until(lambda: stage.connector.total("alice") == 10, "for both credits")
    expect(stage.page.locator("[data-sum='incoming.settled']")).to_have_text("10")
    assert stage.figures() == stage.audited()
    # the browser tells of the refusal
    assert [complaint for complaint in stage.complaints if "404" not in complaint] == []
    stage.complaints.clear()


def test_a_stranger_s_payment_is_dismissed_as_not_ours(stage: Stage) -> None:
    """By a button beside Assign, with a reason; it waits no longer, and is credited to nobody."""
    stage.trouble()
    stage.waits("unattributed").get_by_role("button", name="Not ours").click()
    stage.decide("Not ours")
    expect(stage.waits("unattributed")).to_have_count(0)
    (item,) = stage.server.books("/suspense?decided=true")
    assert (item["state"], item["account_id"]) == ("dismissed", None)
    assert stage.figures() == stage.audited()


def test_a_person_pauses_and_resumes_an_account_with_the_keyboard_alone(stage: Stage) -> None:
    """From the page's first link to the account and its dialogs; the focus comes back to where it was."""
    page, keyboard = stage.page, stage.page.keyboard
    assert stage.server.create() == 201
    expect(page.locator("[data-account=alice]")).to_be_visible()

    def tab_to(selector: str) -> None:
        for _ in range(40):
            keyboard.press("Tab")
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
        raise AssertionError(f"Tab never came to {selector}")

    def focused() -> str:
        return str(page.evaluate("document.activeElement.textContent || document.activeElement.name"))

    tab_to("[data-account=alice] a")
    keyboard.press("Enter")
    expect(page.get_by_role("heading", name="alice")).to_be_visible()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    assert page.evaluate("document.activeElement.id") == "main", "a new view begins at its beginning"
    tab_to("button:nth-of-type(2)")
    assert focused() == "Pause"
    keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Pause alice")).to_be_visible()
    keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert focused() == "Pause", "the focus comes back"
    keyboard.press("Enter")
    keyboard.type("their ledger forks")
    keyboard.press("Tab")
    keyboard.type("ann")
    keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.locator("h1 .tag")).to_have_text("paused")
    expect(page.get_by_text("their ledger forks", exact=False)).to_be_visible()
    assert stage.server.books("/accounts/alice")[0]["pausing"]["by"] == "ann"
    assert stage.server.settle("5", "k") == 201
    expect(page.locator("[data-sum='outgoing.queued']")).to_have_text("5")
    page.get_by_role("button", name="Resume").focus()
    keyboard.press("Enter")
    keyboard.type("it is over")
    keyboard.press("Tab")
    keyboard.press("Enter")
    expect(page.locator("[data-sum='outgoing.settled']")).to_have_text("5")
    assert stage.sum("outgoing", "settled") == 5


def test_what_is_tried_again_says_when_and_can_be_hurried(stage: Stage) -> None:
    """A connector that is away: failures, reason, the next time; 'settle now' tries at once."""
    stage.connector.answers += [503] * 4
    assert stage.server.create() == 201
    assert stage.server.tell({"credit": "3", "id": "c"})[0] == 201
    row = stage.page.locator("section.retries li")
    expect(row).to_contain_text("503 Service Unavailable")
    expect(row).to_contain_text("next try in")
    while stage.connector.answers:
        left = len(stage.connector.answers)
        if row.count():
            row.get_by_role("button", name="Settle now").click()
            stage.page.get_by_role("dialog").get_by_role("button", name="Settle now").click()
        until(lambda left=left: len(stage.connector.answers) < left, "for another try")  # type: ignore[misc]
    expect(stage.page.locator("[data-sum='incoming.settled']")).to_have_text("3")
    expect(row).to_have_count(0)
    assert stage.connector.total("alice") == 3


def test_an_account_that_halted_is_the_first_thing_seen(stage: Stage) -> None:
    """Above everything else, in words that say what to do."""
    stage.trouble()
    assert stage.server.settle("29", "k") == 201
    expect(stage.page.locator(".verdict")).to_have_attribute("data-grade", "wrong")
    expect(stage.page.locator(".sentence")).to_have_text(
        "something is wrong: account alice halted; also 13 in doubt, 3 held, 7 unattributed"
    )
    first = stage.page.locator("section.waiting li").first
    expect(first).to_contain_text("outgoing halted")
    expect(first).to_contain_text("settled 30, more than the 29 it may")
    first.get_by_role("button", name="Resume").click()
    stage.decide("Resume")
    expect(stage.page.locator(".verdict")).to_have_attribute("data-grade", "waits")
    expect(stage.waits("in doubt")).to_have_count(2)


def test_what_strangers_write_stays_text(stage: Stage) -> None:
    """An engine's reason, a settlement's details and a person's word, full of markup, are shown and run nothing."""
    stage.trouble()
    assert stage.server.settle("23", "hostile") == 201
    assert stage.server.tell({"report": "1", "id": f"tx {HOSTILE}".replace("\u202e", "")})[0] == 201
    expect(stage.page.locator("section.waiting")).to_contain_text(f"ConnectionError: {HOSTILE}")
    expect(stage.page.locator("section.waiting")).to_contain_text("tx <img src=x")
    stage.open("/#/account/alice")
    stage.page.get_by_role("button", name="Pause").click()
    stage.decide("Pause", reason=HOSTILE, by="<b>ann</b>")
    expect(stage.page.locator("main")).to_contain_text("Paused by <b>ann</b>")
    for name in ("%3Cimg%20src=x%20onerror=alert(1)%3E", "..%2F..%2Faudit"):
        stage.open(f"/#/account/{name}")
        expect(stage.page.get_by_text("No account has this id.")).to_be_visible()
        stage.page.wait_for_function("document.querySelector('main').dataset.fresh === 'true'")
        expect(stage.page.locator("#live")).to_have_text("live")
    stage.open("/#/account/%")
    expect(stage.page.get_by_text("← All accounts")).to_have_count(0)
    stage.open("/")
    stage.page.wait_for_function("document.querySelector('main').dataset.fresh === 'true'")
    assert stage.page.locator("main img, main script, b").count() == 0
    assert stage.page.evaluate("window.pwned") is None
    # which is what the browser says of accounts that cannot be
    stage.complaints[:] = [said for said in stage.complaints if "404" not in said]


def test_a_phone_shows_all_of_it_without_scrolling_sideways(open_stage: Callable[..., Stage]) -> None:
    """375 pixels, with the longest id and amounts of forty digits; and every control is big enough for a thumb."""
    stage = open_stage(**PHONE)
    longest = "a" * 128
    assert stage.server.create(longest) == 201
    assert stage.server.settle("1" * 40, "k", longest) == 201
    stage.trouble()
    stage.open()
    expect(stage.page.locator(f"[data-account={longest}] [data-label=Settled]")).to_have_text("1" * 40)

    def fits() -> bool:
        return bool(stage.page.evaluate("document.documentElement.scrollWidth <= innerWidth && innerWidth === 375"))

    assert fits()
    stage.waits("in doubt").get_by_role("button", name="Resolve").click()
    box = stage.page.get_by_role("dialog").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 375
    stage.page.get_by_role("button", name="Cancel").click()
    for button in stage.page.get_by_role("button").all():
        size = button.bounding_box()
        assert size is None or size["height"] >= 33
    stage.open(f"/#/account/{longest}")
    expect(stage.page.locator(".timeline li")).to_have_count(1)
    assert fits()
    assert stage.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_either_scheme(open_stage: Callable[..., Stage], scheme: str) -> None:
    """Every text has at least the contrast that WCAG asks for, 4.5; and dark is dark."""
    stage = open_stage(color_scheme=scheme, viewport={"width": 1280, "height": 900})
    stage.trouble()
    stage.open()
    expect(stage.waits("in doubt")).to_be_visible()
    brightness = stage.page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (sum(brightness) < 150) is (scheme == "dark")
    poor = stage.page.evaluate((Path(__file__).parent / "contrast.js").read_text())
    assert poor == []
    assert stage.complaints == []


def test_a_page_without_a_token_shows_nothing_and_asks(open_stage: Callable[..., Stage], tmp_path: Path) -> None:
    """No window of the browser's own; a wrong one is told; the right one stays in its tab, and can be forgotten."""
    tokens = tmp_path / "tokens"
    tokens.write_text(hash_line("ann", "a-token-made-by-hand"))
    stage = open_stage("--admin-tokens", str(tokens))
    assert stage.server.create() == 201
    page = stage.page
    page.goto(stage.server.admin_url)
    field = page.get_by_label("Token")
    expect(field).to_be_focused()
    assert "alice" not in page.content()
    field.fill("a-guess")
    field.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("The server does not know this token.")
    assert "alice" not in page.content()
    page.get_by_label("Token").fill("a-token-made-by-hand")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("[data-account=alice]")).to_be_visible()
    expect(page.locator("#live")).to_have_text("live")
    assert stage.server.settle("5", "k") == 201
    expect(page.locator("[data-account=alice] [data-label=Settled]")).to_have_text("5")
    assert "a-token" not in page.url
    other = page.context.new_page()
    other.goto(stage.server.admin_url)
    expect(other.get_by_label("Token")).to_be_visible()
    page.reload()
    expect(page.locator("[data-account=alice]")).to_be_visible()
    page.get_by_role("button", name="Forget token").click()
    expect(page.get_by_label("Token")).to_be_visible()
    assert "alice" not in page.content()
    assert all("401" in complaint for complaint in stage.complaints)


def test_open_pages_do_not_keep_the_server_from_ending_and_say_that_it_has(open_stage: Callable[..., Stage]) -> None:
    """Three pages that listen; SIGTERM; the process is gone within its deadline, with exit code 0."""
    stage = open_stage()
    stage.trouble()
    stage.open()
    for _ in range(2):
        other = stage.page.context.new_page()
        other.goto(stage.server.admin_url)
        expect(other.locator("#live")).to_have_text("live")
    stage.server.signal(signal.SIGTERM)
    assert stage.server.wait() == 0
    expect(stage.page.locator("#live")).to_contain_text("not live: figures are of")
    expect(stage.page.locator(".sentence")).to_have_text(
        "Not known: whether your money is all right cannot be told now."
    )
    assert stage.page.locator("[data-sum='outgoing.settled']").inner_text() == "5", "what is old is still there"
