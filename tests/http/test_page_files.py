"""The page's files: served under their own names only, with a policy under which nothing but they can run."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from settlement_core.http.admin import create_admin_app
from settlement_core.http.dashboard import PAGE_PATHS
from settlement_core.http.gate import AccessRules, Gate
from settlement_core.http.tokens import hash_line
from tests.core.worlds import MinimalEngine, World
from tests.http.asgi import Client

pytestmark = pytest.mark.anyio

FOLDER = Path(__file__).parents[2] / "settlement_core" / "http" / "page"


async def test_each_file_comes_with_a_strict_policy_and_once_only() -> None:
    """No other origin, no inline script, no frame; a browser that has it is told so with 304, of the same headers."""
    async with World(MinimalEngine()).core() as core:
        client = Client(create_admin_app(core), core)
        assert {"/", "/page/app.js", "/page/style.css", "/page/uplot/uPlot.esm.js"} <= PAGE_PATHS
        for path in sorted(PAGE_PATHS):
            answer = await client.request("GET", path)
            assert answer.status == 200
            policy = str(answer.header("content-security-policy"))
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "require-trusted-types-for 'script'" in policy
            assert not re.search(r"unsafe|\*|https?:|data:", policy)
            assert (answer.header("x-content-type-options"), answer.header("x-frame-options")) == ("nosniff", "DENY")
            again = await client.request("GET", path, ("if-none-match", str(answer.header("etag"))))
            assert (again.status, again.body) == (304, b"")
            assert again.header("content-security-policy") == policy
            assert (await client.request("GET", path, ("if-none-match", '"another"'))).status == 200
            assert (await client.request("POST", path)).status == 405


async def test_no_trick_reaches_another_file() -> None:
    """What is not named exactly is 404, and holds nothing of ours."""
    async with World(MinimalEngine()).core() as core:
        client = Client(create_admin_app(core), core)
        for path in (
            *(
                "/page",
                "/page/",
                "/page/index.html",
                "/page/../dashboard.py",
                "/page/%2e%2e/dashboard.py",
                "/page//app.js",
            ),
            *(
                "/page/uplot/LICENSE",
                "/page/uplot/..%2f..%2fgate.py",
                "/static/app.js",
                "/page/app.js/",
                "/page/app.js%00",
            ),
        ):
            answer = await client.request("GET", path)
            assert answer.status in {308, 404}, path
            assert b"from __future__" not in answer.body


def test_nothing_in_the_page_makes_markup_or_code_of_text() -> None:
    """The policy forbids it; here we do not even try. The chart library neither."""
    forbidden = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|javascript:")
    for file in FOLDER.rglob("*.js"):
        assert not forbidden.search(file.read_text()), file
    html = (FOLDER / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\ssrc=)|\son[a-z]+=|\sstyle=|https?://", html)
    licence = (FOLDER / "uplot" / "LICENSE").read_text()
    assert licence.startswith("The MIT License")


def test_the_wheel_holds_the_page_and_the_charts_licence(tmp_path: Path) -> None:
    """A package whose page is missing would only be noticed by whoever needs to look at their money."""
    built = next(WheelBuilder(str(FOLDER.parents[2])).build(directory=str(tmp_path), versions=["standard"]))
    with zipfile.ZipFile(built) as wheel:
        for file in FOLDER.rglob("*.*"):
            name = f"settlement_core/http/page/{file.relative_to(FOLDER).as_posix()}"
            assert wheel.read(name) == file.read_bytes()
        assert any(name.endswith("licenses/settlement_core/http/page/uplot/LICENSE") for name in wheel.namelist())


async def test_a_script_is_not_asked_for_a_password_by_its_browser(tmp_path: Path) -> None:
    """It says that it is one, and gets a 401 without Basic, of which a browser would make a window of its own."""
    tokens = tmp_path / "tokens"
    tokens.write_text(hash_line("alice", "a-good-token"))
    gate = Gate(AccessRules(tokens=str(tokens)), name="the API", tokenless=PAGE_PATHS)

    def challenges(path: str, *headers: tuple[bytes, bytes]) -> list[bytes]:
        scope = {"path": path, "method": "GET", "headers": list(headers), "client": ("127.0.0.1", 1)}
        refusal = gate.refusal(scope)
        return [] if refusal is None else [v.split()[0] for name, v in refusal.headers if name == b"www-authenticate"]

    assert challenges("/summary") == [b"Bearer", b"Basic"]
    assert challenges("/summary", (b"x-requested-with", b"XMLHttpRequest")) == [b"Bearer"]
    assert challenges("/") == []
    assert challenges("/page/app.js") == []
