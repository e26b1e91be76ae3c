"""Take the README's picture of the dashboard: a real server whose peers settle for some minutes, in a real browser.

`python -m tests.dashboard.picture docs/dashboard.png` writes it; `--seconds` says for how long they settle before.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

from tests.cli.processes import Server, ask, open_connector, serving, write_engine
from tests.dashboard.conftest import CHROMIUM, FLAGS

ENGINE = '''
"""Pays within seconds; loses sight of payments of 13.37; has been paid what messages say."""

import random
from decimal import Decimal

import anyio


class ExampleLedger:
    def __init__(self, services):
        self.services = services

    async def settle(self, account_id, amount):
        await anyio.sleep(random.lognormvariate(-0.6, 0.6))
        if amount == Decimal("13.37"):
            raise TimeoutError("the ledger did not answer within 30 s")
        return amount

    async def handle_message(self, account_id, message):
        amount = Decimal(message["amount"])
        if "memo" in message:
            await self.services.report_unattributed(message["id"], amount, {"memo": message["memo"]})
        else:
            await self.services.credit_settlement(account_id, amount, message["id"])


async def connect_engine(services):
    return ExampleLedger(services)
'''

PEERS = ("aurora", "basalt-exchange", "cedar", "delta.pay", "ember", "fjord-bank")


def settle(server: Server, account: str, hundredths: int, key: str) -> None:
    """Ask for a settlement."""
    body = json.dumps({"amount": str(hundredths), "scale": 2}).encode()
    headers = {"content-type": "application/json", "idempotency-key": key}
    assert ask(server.url, "POST", f"/accounts/{account}/settlements", body, **headers)[0] == 201


def live(server: Server, seconds: float) -> None:
    """Have every peer settle and be paid for so long."""
    chance = random.Random(6)
    until = time.monotonic() + seconds
    number = 0
    while time.monotonic() < until:
        number += 1
        swell = 1 + 0.8 * random.Random(int(time.monotonic() / 25)).random()
        settle(server, chance.choice(PEERS), int(chance.lognormvariate(6.5, 0.8) * swell), f"key {number}")
        if chance.random() < 0.6:
            amount = f"{chance.lognormvariate(1.8, 0.8):.2f}"
            server.tell({"amount": amount, "id": f"tx-{number}"}, chance.choice(PEERS))
        time.sleep(chance.random() * 1.2)


def main() -> None:
    """Take it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--seconds", type=float, default=280)
    parser.add_argument("--scheme", choices=("light", "dark"), default="light")
    parser.add_argument("--phone", action="store_true")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, open_connector() as connector, sync_playwright() as playwright:
        engine = str(write_engine(Path(folder), ENGINE))
        arguments = (engine, "--store", "memory:", "--connector-url", connector.url)
        with serving(*arguments, folder=Path(folder)) as server:
            for peer in PEERS:
                server.create(peer)
            live(server, wanted.seconds)
            settle(server, "cedar", 1337, "lost")
            connector.answers += [409, *[503] * 1000]
            server.tell({"amount": "42.50", "id": "tx-held"}, "ember")
            time.sleep(3)
            server.tell({"amount": "8.25", "id": "tx-away"}, "aurora")
            server.tell({"amount": "7.99", "id": "tx-9f31c2", "memo": "invoice 2291"}, "aurora")
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
            size = {"width": 375, "height": 812} if wanted.phone else {"width": 1180, "height": 1010}
            page = browser.new_page(viewport=size, color_scheme=wanted.scheme)  # type: ignore[arg-type]
            page.goto(server.admin_url)
            expect(page.locator(".sentence")).to_contain_text("3 items wait for you")
            expect(page.locator("section.retries li")).to_have_count(1)
            page.screenshot(path=wanted.path)
            browser.close()
            server.stop()


if __name__ == "__main__":
    main()
