"""The operator's API: it shows every figure, decides only what a person says in full, and refuses the rest."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from settlement_core.abc import Refused
from settlement_core.http.admin import create_admin_app
from tests.core.worlds import D, FakeConnector, MinimalEngine, World, until
from tests.http.asgi import JSON, Answer, Client, books

pytestmark = pytest.mark.anyio


async def _lose_sight(_amount: Decimal) -> Decimal:
    raise ConnectionError("no answer from the ledger")


def world_in_trouble() -> World:
    """Return a world whose first payment is in doubt and whose first credit is refused."""
    return World(MinimalEngine(script=[_lose_sight]), connector=FakeConnector([Refused("409 what is this?")]))


async def _into_trouble(world: World, client: Client) -> tuple[str, str]:
    """Put 5 in doubt, have 3 held and 7 without an owner; return both attempts' ids."""
    await client.core.create_account("alice")
    await client.core.request_settlement("alice", D(5), "a")
    await world.services[0].credit_settlement("alice", D(3), "b")
    await world.services[0].report_unattributed("tx 7", D(7), {"memo": "?"})
    await until(lambda: world.account().outgoing.parked == 5 and world.account().incoming.parked == 3)
    doubt = (await client.request("GET", "/attempts?state=in_doubt")).json()
    held = (await client.request("GET", "/attempts?state=held")).json()
    assert [(a["amount"], a["direction"]) for a in doubt + held] == [("5", "outgoing"), ("3", "incoming")]
    return doubt[0]["id"], held[0]["id"]


async def _post(client: Client, target: str, content: Any) -> Answer:
    return await client.request("POST", target, JSON, body=json.dumps(content).encode())


async def test_what_a_person_says_is_carried_out_once() -> None:
    """Nothing of the payment moved: paid again. The credit is released, the owner named: both are credited once."""
    world = world_in_trouble()
    async with world.core() as core:
        client = Client(create_admin_app(core), core)
        doubt, held = await _into_trouble(world, client)
        report = (await client.request("GET", "/audit")).json()
        assert report["ok"]
        assert [len(report[kind]) for kind in ("in_doubt", "held", "unattributed")] == [1, 1, 1]
        told = {"reason": "looked", "by": "ann"}
        for _ in range(2):
            answer = await _post(client, f"/accounts/alice/attempts/{doubt}/resolve", {"settled": "0", **told})
            assert (answer.status, answer.json()) == (200, {"waits_for": ""})
            answer = await _post(client, f"/accounts/alice/attempts/{held}/release", told)
            assert answer.status == 200
            answer = await _post(client, "/suspense/assign", {"settlement_id": "tx 7", "account_id": "alice", **told})
            assert answer.status == 200
        await until(lambda: world.account().outgoing.settled == 5 and world.account().incoming.settled == 10)
        report = (await client.request("GET", "/audit")).json()
        assert report["ok"]
        assert not report["in_doubt"] + report["held"] + report["unattributed"]
    assert world.engine.paid == [D(5)]
    assert world.connector.total() == 10


BAD_DECISIONS = [
    ({"settled": "6", "reason": "r", "by": "b"}, 409, "cannot resolve attempt"),
    ({"settled": "-1", "reason": "r", "by": "b"}, 400, "-1 is negative"),
    ({"settled": "NaN", "reason": "r", "by": "b"}, 400, "is not a finite number"),
    ({"settled": "lots", "reason": "r", "by": "b"}, 400, "'lots' is not a number"),
    ({"settled": 5, "reason": "r", "by": "b"}, 400, "the text of settled is missing"),
    ({"settled": "5", "reason": " ", "by": "b"}, 400, "the text of reason is missing"),
    ({"settled": "5", "reason": "r"}, 400, "the text of by is missing"),
    ({}, 400, "the text of settled, reason, by is missing"),
    ([], 400, "the body must be a JSON object"),
]


@pytest.mark.parametrize(("content", "status", "sentence"), BAD_DECISIONS)
async def test_half_a_decision_is_refused_and_changes_nothing(content: Any, status: int, sentence: str) -> None:
    """A person's word moves money, so it must be whole: how much, why, and who says so."""
    world = world_in_trouble()
    async with world.core() as core:
        client = Client(create_admin_app(core), core)
        doubt, _ = await _into_trouble(world, client)
        kept = books(world.store)
        answer = await _post(client, f"/accounts/alice/attempts/{doubt}/resolve", content)
        assert answer.status == status
        assert sentence in answer.detail()
        assert "nothing was recorded" in answer.detail()
        assert books(world.store) == kept


async def test_a_web_page_cannot_decide() -> None:
    """A form, or text, which a browser sends without asking, is refused; so is an attempt or owner nobody knows."""
    world = world_in_trouble()
    async with world.core() as core:
        client = Client(create_admin_app(core), core)
        doubt, held = await _into_trouble(world, client)
        kept = books(world.store)
        body = json.dumps({"settled": "5", "reason": "r", "by": "b"}).encode()
        for kind in ("text/plain", "application/x-www-form-urlencoded"):
            target = f"/accounts/alice/attempts/{doubt}/resolve"
            answer = await client.request("POST", target, ("content-type", kind), body=body)
            assert answer.status == 400
            assert "Content-Type must be application/json" in answer.detail()
        assert (await client.request("POST", "/accounts/bob/attempts/x/resolve", JSON, body=body)).status == 404
        told = {"reason": "r", "by": "b"}
        assert (await _post(client, f"/accounts/alice/attempts/{doubt}/release", told)).status == 409
        answer = await _post(client, "/suspense/assign", {"settlement_id": "tx 8", "account_id": "alice", **told})
        assert answer.status == 404
        answer = await _post(client, "/suspense/assign", {"settlement_id": "tx 7", "account_id": "bob", **told})
        assert answer.status == 404
        assert books(world.store) == kept
        assert held


@pytest.mark.parametrize(
    "target",
    [
        "/accounts?limit=0",
        "/accounts?limit=1001",
        "/accounts?limit=x",
        "/accounts?limit=%D9%A3",
        "/attempts?state=lost",
        "/attempts?limit=-1",
    ],
)
async def test_a_bad_query_is_a_400_with_a_sentence(target: str) -> None:
    """It names what is possible."""
    world = World(MinimalEngine())
    async with world.core() as core:
        answer = await Client(create_admin_app(core), core).request("GET", target)
        assert answer.status == 400
        assert " is " in answer.detail()


async def test_accounts_come_in_pages_and_statistics_say_what_is_going_on() -> None:
    """2,500 accounts in order, none twice."""
    world = World(MinimalEngine(takes_s=1e6))
    async with world.core() as core:
        client = Client(create_admin_app(core), core)
        from settlement_core.values.commands import OpenAccount

        world.store.apply([OpenAccount(account_id=f"a{number:04}", at=0.0) for number in range(2500)])
        found: list[str] = []
        while page := (await client.request("GET", f"/accounts?limit=1000&after={found[-1] if found else ''}")).json():
            found += [account["id"] for account in page]
        assert found == [f"a{number:04}" for number in range(2500)]
        await core.request_settlement("a0007", D("1.50"), "k")
        await until(lambda: world.engine.calls != [])
        said = (await client.request("GET", "/statistics")).json()
        assert said["active_lanes"] == 1
        assert said["halted"] == {}
        (lane,) = said["lanes"]
        assert (lane["account_id"], lane["direction"], lane["doing"]) == ("a0007", "outgoing", "settling")
        (account,) = (await client.request("GET", "/accounts/a0007")).json()
        assert Decimal(account["outgoing"]["open"]) == Decimal("1.5")


async def test_money_that_is_not_ours_is_dismissed_one_by_one_and_in_bulk() -> None:
    """It leaves what waits, stays on record with who said so and why, and the books stay right."""
    world = World(MinimalEngine())
    told = {"reason": "spam", "by": "ann"}
    async with world.core() as core:
        client = Client(create_admin_app(core), core)
        await core.create_account("alice")
        for number, amount in enumerate(("7", "0.5", "0.001", "0.002")):
            await world.services[0].report_unattributed(f"tx {number}", D(amount), None)
        for _ in range(2):
            answer = await _post(client, "/suspense/dismiss", {"settlement_id": "tx 1", **told})
            assert (answer.status, answer.json()) == (200, {"dismissed": 1, "after": None})
        for count in (2, 0):
            answer = await _post(client, "/suspense/dismiss", {"below": "0.5", **told})
            assert (answer.status, answer.json()) == (200, {"dismissed": count, "after": None})
        waiting = (await client.request("GET", "/suspense")).json()
        assert [(item["settlement_id"], item["state"]) for item in waiting] == [("tx 0", "waiting")]
        answer = await _post(client, "/suspense/assign", {"settlement_id": "tx 3", "account_id": "alice", **told})
        assert answer.status == 200
        decided = (await client.request("GET", "/suspense?decided=true")).json()
        assert [item["state"] for item in decided] == ["waiting", "dismissed", "dismissed", "assigned"]
        assert [(decided[2][fact]) for fact in ("account_id", "reason", "assigned_by")] == [None, "spam", "ann"]
        report = (await client.request("GET", "/audit")).json()
        assert report["ok"]
        assert [item["settlement_id"] for item in report["unattributed"]] == ["tx 0"]
        assert report["dismissed"] == {"count": 2, "amount": "0.501"}
        summary = (await client.request("GET", "/summary")).json()
        assert summary["waiting"]["unattributed"]["count"] == 1
        await until(lambda: world.connector.total() == D("0.002"))


BAD_DISMISSALS: list[tuple[Any, int, str]] = [
    ({"reason": "r", "by": "b"}, 400, "say exactly one of settlement_id and below"),
    ({"settlement_id": "tx 7", "below": "1", "reason": "r", "by": "b"}, 400, "say exactly one of"),
    ({"settlement_id": "tx 9", "reason": "r", "by": "b"}, 404, "no unattributed settlement 'tx 9'"),
    ({"settlement_id": "tx 7", "by": "b"}, 400, "the text of reason is missing"),
    ({"settlement_id": "", "reason": "r", "by": "b"}, 400, "the text of settlement_id is missing"),
    ({"below": "lots", "reason": "r", "by": "b"}, 400, "'lots' is not a number"),
    ({"below": "-1", "reason": "r", "by": "b"}, 400, "-1 is negative"),
    ({"below": 1, "reason": "r", "by": "b"}, 400, "the text of below is missing"),
    ({"below": "1e9", "reason": "r", "by": "b"}, 400, "is not digits with at most one point"),
    ({"below": "9", "after": 1, "reason": "r", "by": "b"}, 400, "the text of after is missing"),
]


@pytest.mark.parametrize(("content", "status", "sentence"), BAD_DISMISSALS)
async def test_half_a_dismissal_is_refused_and_changes_nothing(content: Any, status: int, sentence: str) -> None:
    """What is not said in full dismisses nothing."""
    world = World(MinimalEngine())
    async with world.core() as core:
        client = Client(create_admin_app(core), core)
        await world.services[0].report_unattributed("tx 7", D(7), None)
        kept = books(world.store)
        answer = await _post(client, "/suspense/dismiss", content)
        assert answer.status == status
        assert sentence in answer.detail()
        assert "nothing was recorded" in answer.detail()
        assert books(world.store) == kept
