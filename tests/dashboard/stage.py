"""One server, one page, and what tests do with them again and again."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.cli.processes import MINIMAL, PATIENCE_S, Connector, Server, until

PATIENCE_MS = 4 * PATIENCE_S * 1000
"""A browser is the first to starve where other tests have the processors."""

expect.set_options(timeout=PATIENCE_MS)

HOSTILE = '<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>\'"\u202e&amp;'
"""What strangers may well write where they can."""

ENGINE = MINIMAL.replace(
    "        if amount == 17:",
    f"""        if amount == 23:
            raise ConnectionError({HOSTILE!r})
        if amount == 29:
            return amount + 1
        if amount == 17:""",
)
"""Loses sight of payments of 13, and of those of 23 with a hostile reason; breaks its contract for 29."""


@dataclass
class Stage:
    """A server that runs, its connector, and a page of a browser, which is told of what it should not have met."""

    server: Server
    connector: Connector
    page: Page
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._hear)
        self.page.on("dialog", self._refuse)

    def _hear(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)

    def _refuse(self, dialog: Any) -> None:
        self.complaints.append(f"a window: {dialog.message}")
        dialog.dismiss()

    def open(self, path: str = "/") -> None:
        """Open a view, and wait until it is live."""
        self.page.goto(self.server.admin_url + path)
        expect(self.page.locator("#live")).to_have_text("live")

    def trouble(self) -> None:
        """Have 13 in doubt, 3 held and 7 without an owner, and 5 settled."""
        assert self.server.create() == 201
        assert self.server.settle("13", "a") == 201
        until(lambda: self.sum("outgoing", "in_doubt") == 13, "for money in doubt")
        assert self.server.settle("5", "b") == 201
        self.connector.answers.append(409)
        assert self.server.tell({"credit": "3", "id": "c"})[0] == 201
        assert self.server.tell({"report": "7", "id": "d"})[0] == 201
        until(lambda: self.sum("incoming", "held") == 3, "for a held credit")
        until(lambda: self.sum("outgoing", "settled") == 5, "for a settlement")

    def sum(self, direction: str, name: str, account: str = "alice") -> Decimal:
        """Return a figure of the books."""
        return Decimal(self.server.books(f"/accounts/{account}")[0][direction][name])

    def waits(self, kind: str) -> Locator:
        """Return the row of what waits for a person."""
        return self.page.locator("section.waiting li", has_text=kind)

    def decide(self, confirm: str, reason: str = "looked at the ledger", by: str = "ann") -> None:
        """Fill the open dialog in, confirm it, and wait until it is done."""
        dialog = self.page.get_by_role("dialog")
        dialog.get_by_label("Reason").fill(reason)
        dialog.get_by_label("Your name").fill(by)
        dialog.get_by_role("button", name=confirm, exact=True).click()
        expect(dialog).to_have_count(0)

    def figures(self) -> dict[str, Decimal]:
        """Return every sum that the view shows, by direction and name."""
        found = self.page.locator("[data-sum]").evaluate_all("all => all.map(e => [e.dataset.sum, e.textContent])")
        return {name: Decimal(text) for name, text in found}

    def audited(self) -> dict[str, Decimal]:
        """Return the same figures as the audit has them."""
        report = self.server.books("/audit")
        assert report["ok"]
        names = ("entered", "queued", "open", "settled", "parked")
        return {f"{way}.{name}": Decimal(report[way][name]) for way in ("outgoing", "incoming") for name in names}
