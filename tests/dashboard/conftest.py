"""A real server and a real Chromium, without a screen; what the browser complains of fails the test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from tests.cli.processes import Connector, open_connector, serving, write_engine
from tests.dashboard.stage import ENGINE, PATIENCE_MS, Stage

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
"""As `make browser` installs it from the system's packages; nothing is ever downloaded here."""

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    # names for tests that need some, all of this machine
    "--host-resolver-rules=MAP *.test 127.0.0.1, MAP *.example 127.0.0.1",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start one browser for a module; no longer, for its event loop is in the way of other folders' tests."""
    assert Path(CHROMIUM).exists(), f"{CHROMIUM} is missing: make browser, or say where it is as CHROMIUM"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def connector() -> Iterator[Connector]:
    """Serve a connector with books."""
    with open_connector() as connector:
        yield connector


@pytest.fixture
def open_stage(browser: Browser, connector: Connector, tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    """Return what serves an engine with these options, and opens its page with these traits of a browser."""
    with ExitStack() as stack:

        def open_one(*options: str, **traits: Any) -> Stage:
            engine = str(write_engine(tmp_path, ENGINE))
            arguments = (engine, "--store", "memory:", "--connector-url", connector.url, *options)
            server = stack.enter_context(serving(*arguments, folder=tmp_path, PAID=str(tmp_path / "paid")))
            context: BrowserContext = browser.new_context(**({"reduced_motion": "reduce"} | traits))
            stack.callback(context.close)
            context.set_default_timeout(PATIENCE_MS)
            return Stage(server, connector, context.new_page())

        yield open_one


@pytest.fixture
def stage(open_stage: Callable[..., Stage]) -> Iterator[Stage]:
    """Serve the usual engine, with its page open on a desk's screen; nothing may be complained of."""
    stage = open_stage(viewport={"width": 1280, "height": 900})
    stage.open()
    yield stage
    assert stage.complaints == []
