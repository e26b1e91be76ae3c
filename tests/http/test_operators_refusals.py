"""The operator's API refuses what is not exactly what it takes, in one form: a slip of the hand moves no money."""

from __future__ import annotations

import json
from typing import Any

import pytest

from settlement_core.http.admin import create_admin_app
from settlement_core.values.records import AttemptState
from tests.core.worlds import World, until
from tests.http.asgi import JSON, Client, books
from tests.http.test_operators_api import world_in_trouble

pytestmark = pytest.mark.anyio


async def _in_doubt(world: World, client: Client) -> str:
    await client.core.create_account("alice")
    await client.core.request_settlement("alice", world.account().outgoing.entered + 5, "a")
    await until(lambda: world.account().outgoing.parked == 5)
    (attempt,) = world.attempts()
    assert attempt.state is AttemptState.IN_DOUBT
    return attempt.attempt_id


@pytest.mark.parametrize("settled", ["1_0", "1e0", "+1", " 1", "1\n", "\u0661", "1,0", "1.", ".5", "0x1"])
async def test_an_amount_is_digits_with_at_most_one_point(settled: str) -> None:
    """Python reads more than a person may have meant; none of it is recorded."""
    world = world_in_trouble()
    async with world.core() as core:
        client = Client(create_admin_app(core), core)
        target = f"/accounts/alice/attempts/{await _in_doubt(world, client)}/resolve"
        kept = books(world.store)
        body = {"settled": settled, "reason": "seen", "by": "ann"}
        answer = await client.request("POST", target, JSON, body=json.dumps(body).encode())
        assert answer.status == 400
        assert "nothing was recorded" in answer.detail()
        assert books(world.store) == kept
        answer = await client.request("POST", target, JSON, body=json.dumps(body | {"settled": "1.50"}).encode())
        assert answer.status == 200
        assert str(world.attempts()[0].settled) == "1.50"


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("/attempts?sate=held", "the query's 'sate' is none of account, state, after, after_account, limit, newest"),
        ("/accounts?limit=5&page=2", "the query's 'page' is none of after, limit, prefix, due"),
        ("/audit?quick", "the query's 'quick' is none of the parameters, for there are none"),
        ("/accounts?limit=" + "1" * 5000, "limit is a number from 1 to 1000"),
        ("/accounts?limit=00001", "limit is a number from 1 to 1000"),
    ],
)
async def test_a_slip_in_a_query_is_told_and_not_passed_over(target: str, sentence: str) -> None:
    """Or a person would be shown everything, and take it for what was asked for."""
    world = world_in_trouble()
    async with world.core() as core:
        answer = await Client(create_admin_app(core), core).request("GET", target)
        assert (answer.status, answer.detail()) == (400, sentence)


@pytest.mark.parametrize(
    ("method", "target", "status", "allow"),
    [
        ("GET", "/nothing", 404, None),
        ("PUT", "/suspense/assign", 405, {"POST", "OPTIONS"}),
        ("DELETE", "/accounts", 405, {"GET", "HEAD", "OPTIONS"}),
        ("POST", "/suspense/assign", 413, None),
    ],
)
async def test_every_refusal_has_the_same_form(method: str, target: str, status: int, allow: Any) -> None:
    """Also what the web framework refuses before anything of ours is asked."""
    world = world_in_trouble()
    body = b" " * 20_000 if status == 413 else b"{}"
    async with world.core() as core:
        client = Client(create_admin_app(core), core)
        answer = await client.request(method, target, JSON, ("content-length", str(len(body))), body=body)
        assert answer.status == status
        assert answer.detail()
        given = answer.header("allow")
        assert (None if given is None else set(given.split(", "))) == allow
