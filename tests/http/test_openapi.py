"""The documents we serve are valid, take their bounds from the code, and deceive nobody who believes them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import openapi_spec_validator
import pytest

from settlement_core.http.admin import create_admin_app
from settlement_core.http.answering import MAX_PAGE
from settlement_core.http.dashboard import PAGE_PATHS
from settlement_core.http.openapi import AT_THE_GATE, describe_engine_api
from settlement_core.http.openapi_admin import describe_admin_api
from settlement_core.http.problems import STATUSES
from settlement_core.http.requests import Dialect
from settlement_core.values.amounts import MAX_DIGITS, MAX_SCALE
from settlement_core.values.identifiers import MAX_ACCOUNT_ID, MAX_KEY
from tests.cli.processes import Server, open_connector, serving, until, write_engine
from tests.core.worlds import MinimalEngine, World
from tests.http.asgi import JSON, Client
from tests.http.asgi import serving as serving_in_process

EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "14"))
"""Requests per operation and phase; `make soak` asks for more."""

ENGINE = '''
"""Settles, but for 13, of which it loses sight; answers messages with themselves, and has been paid twice."""

from decimal import Decimal


class Engine:
    def __init__(self, services):
        self.services = services

    async def settle(self, account_id, amount):
        if amount == 13:
            raise ConnectionError("no answer from the ledger")
        return amount

    async def handle_message(self, account_id, message):
        if message == "two payments":
            await self.services.credit_settlement(account_id, Decimal(3), "one")
            await self.services.report_unattributed("two", Decimal(7), {"memo": "whose?"})
        return message


async def connect_engine(services):
    return Engine(services)
'''

DOCUMENTS = {
    "engine": describe_engine_api(Dialect()),
    "engine with base path": describe_engine_api(Dialect(base_path="/a/secret")),
    "engine for rafiki": describe_engine_api(Dialect(rafiki=True)),
    "admin": describe_admin_api(max_page=1000, max_body=1000),
}


def _operations(document: dict[str, Any]) -> dict[str, Any]:
    """Return every operation by its id."""
    methods = ("get", "put", "post", "delete")
    found = [path[method] for path in document["paths"].values() for method in methods if method in path]
    by_id = {operation["operationId"]: operation for operation in found}
    assert len(by_id) == len(found), "an operation id names one operation"
    return by_id


@pytest.mark.parametrize("name", DOCUMENTS)
def test_each_document_is_valid(name: str) -> None:
    """As OpenAPI 3.1, links and references included; and it holds no base path, which may be a secret."""
    document = DOCUMENTS[name]
    openapi_spec_validator.validate(document)
    operations = _operations(document)
    for operation in operations.values():
        for response in operation["responses"].values():
            for link in response.get("links", {}).values():
                assert link["operationId"] in operations
    assert "secret" not in json.dumps(document).replace("may be a secret", "")


def test_the_four_endpoints_of_rfc_38_are_described_and_no_more() -> None:
    """With Rafiki's dialect also its alias, and a key that may be missing."""
    assert set(_operations(DOCUMENTS["engine"])) == {"createAccount", "deleteAccount", "settle", "handleMessage"}
    rafiki = _operations(DOCUMENTS["engine for rafiki"])
    assert set(rafiki) == {"createAccount", "deleteAccount", "settle", "handleMessage", "settleAsRafiki"}
    (needed,) = _operations(DOCUMENTS["engine"])["settle"]["parameters"]
    (optional,) = rafiki["settle"]["parameters"]
    assert (needed["name"], needed["required"], optional["required"]) == ("Idempotency-Key", True, False)


def test_every_status_an_error_may_have_is_described_and_every_503_says_when_to_come_back() -> None:
    """But for 405, which is the answer to what is not described; health is one bit, with a body of its own."""
    for document in DOCUMENTS.values():
        for name, operation in _operations(document).items():
            if name in {"live", "ready"}:
                continue
            refusals = {int(status) for status in operation["responses"] if int(status) >= 400}
            assert set(AT_THE_GATE) <= refusals <= {*STATUSES, *AT_THE_GATE}
            for status in refusals:
                assert set(operation["responses"][str(status)]["content"]) == {"application/problem+json"}
            assert operation["responses"]["503"]["headers"]["Retry-After"]["required"]
    described = {status for operation in _operations(DOCUMENTS["engine"]).values() for status in operation["responses"]}
    assert {int(status) for status in described if int(status) >= 400} == {*STATUSES, *AT_THE_GATE} - {405}


@pytest.mark.anyio
async def test_what_is_at_a_described_bound_is_taken_and_what_is_just_beyond_is_refused() -> None:
    """The bounds of the document are those of the server, to the character."""
    document = DOCUMENTS["engine"]
    quantity = document["components"]["schemas"]["Quantity"]["properties"]
    account_id = document["components"]["schemas"]["AccountId"]["maxLength"]
    key = _operations(document)["settle"]["parameters"][0]["schema"]["maxLength"]
    digits, scale = quantity["amount"]["maxLength"], quantity["scale"]["maximum"]
    assert (digits, scale, account_id, key) == (MAX_DIGITS, MAX_SCALE, MAX_ACCOUNT_ID, MAX_KEY)
    async with serving_in_process(World(MinimalEngine())) as client:
        for more, status in ((0, 201), (1, 400)):
            assert (await client.create("a" * (account_id + more))).status == status
            longest = ("9" * digits, scale, "k" * key, "a" * account_id)
            for changed in (
                ("9" * (digits + more), scale, "k", longest[3]),
                (*longest[:2], "k" * (key + more), longest[3]),
            ):
                assert (await client.settle(*changed)).status == status
            assert (await client.settle("9", scale + more, "scale", longest[3])).status == status


@pytest.mark.anyio
async def test_the_document_is_served_beside_what_it_describes() -> None:
    """Below the base path, if there is one, and nowhere else; with relative URLs; to be read only."""
    world = World(MinimalEngine())
    async with serving_in_process(world) as client:
        answer = await client.request("GET", "/openapi.json")
        assert (answer.status, answer.header("content-type")) == (200, "application/json")
        assert answer.json() == DOCUMENTS["engine"]
        assert answer.json()["servers"] == [{"url": "."}]
        answer = await client.request("POST", "/openapi.json", JSON, body=b"{}")
        assert (answer.status, answer.header("allow")) == (405, "GET")
    async with serving_in_process(World(MinimalEngine()), dialect=Dialect(base_path="/a/secret")) as client:
        assert (await client.request("GET", "/a/secret/openapi.json")).json() == DOCUMENTS["engine with base path"]
        assert (await client.request("GET", "/openapi.json")).status == 404
    async with world.core() as core:
        answer = await Client(create_admin_app(core), core).request("GET", "/openapi.json")
        assert answer.json()["paths"].keys() == DOCUMENTS["admin"]["paths"].keys()
        limit = answer.json()["components"]["parameters"]["Limit"]["schema"]
        assert limit["maximum"] == MAX_PAGE
        assert (await Client(create_admin_app(core), core).request("GET", f"/accounts?limit={MAX_PAGE}")).status == 200


@pytest.mark.anyio
async def test_every_route_of_the_operators_api_is_described() -> None:
    """With its methods: whoever adds one describes it."""
    async with World(MinimalEngine()).core() as core:
        rules = list(create_admin_app(core).url_map.iter_rules())
    served = {
        (rule.rule.replace("<", "{").replace(">", "}"), method.lower())
        for rule in rules
        # a page is for people
        if rule.endpoint != "static" and rule.rule != "/openapi.json" and rule.rule not in PAGE_PATHS
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    described = {
        (path, method)
        for path, operations in DOCUMENTS["admin"]["paths"].items()
        for method in operations
        if method != "parameters"
    }
    assert served == described


def _believe(url: str, folder: Path) -> None:
    """Have schemathesis test the API at `url` by its own document, with all checks it has."""
    hooks = Path(__file__).with_name("schemathesis_hooks.py")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json"),
            *("--checks", "all", "--max-examples", str(EXAMPLES), "--generation-deterministic", "--no-color"),
            *("--request-timeout", "20", "--continue-on-failure"),
            # which never ends
            *("--exclude-path", "/events"),
        ],
        cwd=folder,
        env=os.environ | {"SCHEMATHESIS_HOOKS": hooks.stem, "PYTHONPATH": str(hooks.parent)},
        capture_output=True,
        text=True,
        timeout=max(110, 3 * EXAMPLES),
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Stateful" in done.stdout


def _trouble(server: Server) -> None:
    """Have some of each: money in doubt, money held, money without an owner."""
    assert server.create() == 201
    assert server.settle("13", "in doubt") == 201
    assert server.tell("two payments") == (201, b'"two payments"')
    until(lambda: len(server.books("/attempts?state=in_doubt&state=held")) == 2, "for money to be set aside")
    assert len(server.books("/suspense")) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("api", "backend"), [("connector's", "trio"), ("operator's", "asyncio")])
def test_a_stranger_who_believes_the_document_is_not_deceived(backend: str, api: str, tmp_path: Path) -> None:
    """Schemathesis believes every word of the document of a real server.

    What is described as good is taken, what is not is refused in the form described, and nothing is ever a 5xx, on
    kept connections and in sequences of requests. Afterwards the server still settles, and its books add up.
    """
    engine = str(write_engine(tmp_path, ENGINE))
    with (
        open_connector() as connector,
        serving(
            *(engine, "--store", "memory:", "--backend", backend, "--connector-url", connector.url), folder=tmp_path
        ) as server,
    ):
        connector.answers.append(409)
        _trouble(server)
        _believe(server.url if api == "connector's" else server.admin_url, tmp_path)
        assert server.create("after-all") == 201
        assert server.settle("5", "after all", "after-all") == 201
        until(lambda: server.books("/accounts/after-all")[0]["outgoing"]["settled"] == "5", "for the last payment")
        assert server.books("/audit")["ok"]
        assert server.books("/statistics")["halted"] == {}
        assert server.stop() == 0
