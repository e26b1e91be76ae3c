"""The page behind a real nginx: a person's decisions arrive, and those of other sites do not."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme
from playwright.sync_api import Error, expect

from settlement_core.http.tokens import hash_line
from tests.cli.processes import ask, run_json, until
from tests.dashboard.stage import Stage
from tests.http.nginx import free_port, open_nginx

pytestmark = pytest.mark.timeout(600)

DOCUMENTED = Path(__file__).parents[2] / "examples/operations/nginx.conf"
BUFFERED = "proxy_ignore_headers X-Accel-Buffering; proxy_buffering on;"
TOKEN = "a-token-of-43-characters-made-by-hand-000000"

Nginx = Callable[..., int]


@pytest.fixture
def nginx(tmp_path: Path) -> Any:
    """Return what runs nginx in front of a stage with this location, and gives its port."""
    with ExitStack() as stack:

        def open_one(stage: Stage, location: str = "", *, prefix: str = "/") -> int:
            port = free_port()
            where = f"location {prefix} {{ proxy_pass {stage.server.admin_url}/; {location} }}"
            stack.enter_context(
                open_nginx(f"server {{ listen 127.0.0.1:{port}; {where} }}", ports=[port], folder=tmp_path)
            )
            return port

        yield open_one


def release_held(stage: Stage, url: str) -> None:
    """Have a held credit of 3, open the page at a URL, and release it there."""
    stage.trouble()
    stage.page.goto(url)
    expect(stage.page.locator("#live")).to_have_attribute("data-state", re.compile("live|lost"))
    stage.waits("held").get_by_role("button", name="Release").click()
    stage.decide("Release")
    until(lambda: stage.sum("incoming", "settled") == 3, "for the credit")
    expect(stage.waits("held")).to_have_count(0)


@pytest.mark.parametrize(
    ("location", "name"),
    [
        ("", "127.0.0.1"),
        ("", "localhost"),
        ("proxy_set_header Host $host;", "127.0.0.1"),
        ("proxy_set_header Host $http_host;", "localhost"),
    ],
)
def test_decisions_arrive_whatever_host_nginx_passes_on(
    location: str, name: str, open_stage: Callable[..., Stage], nginx: Nginx
) -> None:
    """The browser says that the page is of the same origin, whatever the Host header became on the way."""
    stage = open_stage()
    release_held(stage, f"http://{name}:{nginx(stage, location)}/")
    assert stage.complaints == []


def test_decisions_arrive_under_a_path_prefix(open_stage: Callable[..., Stage], nginx: Nginx) -> None:
    """The page and the command line reach everything below the prefix."""
    stage = open_stage()
    url = f"http://127.0.0.1:{nginx(stage, prefix='/settlement/')}/settlement"
    release_held(stage, url)
    stage.page.goto(f"{url}/#/account/alice")
    expect(stage.page.locator(".timeline")).to_contain_text("3 was credited")
    assert [account["id"] for account in run_json("accounts", "--admin-url", url)] == ["alice"]
    assert stage.complaints == []


def test_decisions_arrive_where_nginx_keeps_events_back(open_stage: Callable[..., Stage], nginx: Nginx) -> None:
    """Without a single event, the page asks every few seconds, and shows what was decided."""
    stage = open_stage()
    release_held(stage, f"http://127.0.0.1:{nginx(stage, BUFFERED)}/")
    assert stage.complaints == []


@pytest.mark.parametrize("location", ["", "proxy_set_header Host $host;"])
def test_a_name_without_tls_decides_once_it_is_allowed(
    location: str, open_stage: Callable[..., Stage], nginx: Nginx
) -> None:
    """Over plain HTTP a browser sends no Fetch Metadata: then the Origin's name is compared with --allowed-host."""
    stage = open_stage("--allowed-host", "engine.test")
    release_held(stage, f"http://engine.test:{nginx(stage, location)}/")
    # of plain HTTP a browser complains, of nothing else
    assert [told for told in stage.complaints if "origin was untrustworthy" not in told] == []


def test_a_name_that_is_not_allowed_is_refused_by_what_was_compared(
    open_stage: Callable[..., Stage], nginx: Nginx
) -> None:
    """The dialog shows both names and the option, and nothing is decided."""
    stage = open_stage()
    stage.trouble()
    port = nginx(stage)
    stage.page.goto(f"http://engine.test:{port}/")
    stage.waits("held").get_by_role("button", name="Release").click()
    dialog = stage.page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill("it was not credited")
    dialog.get_by_label("Your name").fill("ann")
    dialog.get_by_role("button", name="Release", exact=True).click()
    told = dialog.get_by_role("alert")
    expect(told).to_contain_text(f"its Origin is 'http://engine.test:{port}', the Host header is '127.0.0.1:")
    expect(told).to_contain_text("--allowed-host")
    assert stage.sum("incoming", "held") == 3


def test_a_token_stays_with_its_engine_where_one_site_has_several(
    open_stage: Callable[..., Stage], tmp_path: Path
) -> None:
    """Below another prefix there may be another engine: it is not shown the token."""
    tokens = tmp_path / "tokens"
    tokens.write_text(hash_line("ann", TOKEN))
    stage = open_stage("--admin-tokens", str(tokens))
    port, page = free_port(), stage.page
    locations = "".join(f"location /{name}/ {{ proxy_pass {stage.server.admin_url}/; }}" for name in ("one", "two"))
    with open_nginx(f"server {{ listen 127.0.0.1:{port}; {locations} }}", ports=[port], folder=tmp_path):
        page.goto(f"http://127.0.0.1:{port}/one/")
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Show").click()
        expect(page.locator("#live")).to_have_text("live")
        page.goto(f"http://127.0.0.1:{port}/two/")
        expect(page.locator("#live")).to_have_text("waiting for a token")
        page.goto(f"http://127.0.0.1:{port}/one/")
        expect(page.locator("#live")).to_have_text("live")


@pytest.mark.parametrize("location", ["", "proxy_set_header Host $host;"])
@pytest.mark.parametrize("site", ["http://localhost", "http://127.0.0.1", "http://evil.test"])
def test_pages_of_other_sites_are_refused_behind_nginx(
    site: str, location: str, open_stage: Callable[..., Stage], nginx: Nginx
) -> None:
    """A page of another name, or of another port, posts a decision that no form can: nothing is decided."""
    stage = open_stage("--allowed-host", "engine.test")
    stage.trouble()
    (held,) = stage.server.books("/attempts?state=held")
    engine, other = nginx(stage, location), nginx(stage, "default_type text/html; return 200 '<p>';")
    stage.page.goto(f"{site}:{other}/")
    url = f"http://127.0.0.1:{engine}/accounts/alice/attempts/{held['id']}/release"
    content = '{"reason": "x", "by": "x"}'
    with stage.page.expect_response(url) as answered:
        stage.page.evaluate(f"url => fetch(url, {{method: 'POST', mode: 'no-cors', body: '{content}'}})", url)
    assert answered.value.status == 403
    status, body = ask(
        f"http://127.0.0.1:{engine}",
        "POST",
        url.partition(str(engine))[2],
        content.encode(),
        **{"content-type": "application/json", "origin": f"{site}:{other}"},
    )
    assert status == 403
    assert f"{site}:{other}".encode() in body
    assert stage.server.books("/attempts?state=held") == [held]


def test_the_documented_block_serves_operators_and_nobody_else(
    open_stage: Callable[..., Stage], tmp_path: Path
) -> None:
    """The file as it is shipped, but for ports and paths: TLS, a prefix, tokens, events as they happen."""
    tokens = tmp_path / "tokens"
    tokens.write_text(hash_line("ann", TOKEN))
    options = ("--allowed-host", "engine.example", "--admin-tokens", str(tokens))
    stage = open_stage(*options, ignore_https_errors=True)
    port = free_port()
    certificate = trustme.CA().issue_cert("engine.example")
    pem = tmp_path / "engine.pem"
    certificate.private_key_and_cert_chain_pem.write_to_path(str(pem))
    block = DOCUMENTED.read_text()
    for given, taken in {
        "listen 443": f"listen 127.0.0.1:{port}",
        "/etc/ssl/engine.example.pem": str(pem),
        "/etc/ssl/engine.example.key": str(pem),
        "http://127.0.0.1:3001": stage.server.admin_url,
    }.items():
        assert given in block
        block = block.replace(given, taken)
    assert stage.server.create() == 201
    with open_nginx(block, ports=[port], folder=tmp_path):
        page = stage.page
        page.goto(f"https://engine.example:{port}/settlement/")
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Show").click()
        expect(page.locator("#live")).to_have_text("live")
        page.locator("tr[data-account=alice]").get_by_role("link", name="alice").click()
        page.get_by_role("button", name="Pause").click()
        stage.decide("Pause")
        until(lambda: _paused(stage), "for the pause")
        with pytest.raises(Error, match="ERR_SSL"):
            page.goto(f"https://other.example:{port}/")


def _paused(stage: Stage) -> bool:
    status, body = ask(stage.server.admin_url, "GET", "/accounts/alice", authorization=f"Bearer {TOKEN}")
    assert status == 200
    paused: bool = json.loads(body)[0]["paused"]
    return paused
