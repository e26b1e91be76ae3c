"""Operators with roles, and decisions that need two: in the books stands who decided, as the tokens prove it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from settlement_core.abc import Refused
from settlement_core.core.core import Core
from settlement_core.http.access import Access
from settlement_core.http.admin import create_admin_app
from settlement_core.http.backups import BACKUP_PATHS
from settlement_core.http.gate import AccessRules, Gate
from settlement_core.http.tokens import hash_line
from settlement_core.values.errors import StoreUnavailable
from settlement_core.values.events import DecisionProposed, DecisionTaken
from tests.cli.processes import MINIMAL, run, write_engine
from tests.core.worlds import D, FakeConnector, MinimalEngine, World, until
from tests.http.asgi import JSON, Answer, Client

pytestmark = pytest.mark.anyio

DAY_S = 24 * 3600


class Desk:
    """A server with three operators: ann and bob decide, rae reads; ann has a second token of the same name."""

    def __init__(self, world: World, core: Core, tokens: Path, limit: str | None) -> None:
        lines = [hash_line("ann", "ann's"), hash_line("ann", "ann's other"), hash_line("bob", "bob's")]
        tokens.write_text("\n".join([*lines, hash_line("rae", "rae's", "read")]))
        rules = AccessRules(tokens=str(tokens), allowed_hosts=("engine",))
        app = create_admin_app(core, four_eyes_above=None if limit is None else D(limit))
        self.world = world
        self.client = Client(Access(app, Gate(rules, name="x", whole=BACKUP_PATHS)), core)  # type: ignore[arg-type]

    async def get(self, token: str, target: str) -> Answer:
        """Ask with a token."""
        return await self.client.request("GET", target, ("authorization", f"Bearer {token}"))

    async def post(self, token: str, target: str, *, reason: str = "looked", by: str = "", **content: str) -> Answer:
        """Decide with a token."""
        body = json.dumps({"reason": reason, "by": by or token.title(), **content}).encode()
        return await self.client.request("POST", target, JSON, ("authorization", f"Bearer {token}"), body=body)

    async def parked(self) -> tuple[str, str]:
        """Put 5 in doubt, have 3 held and 7 unattributed; return where both attempts are decided about."""
        core = self.client.core
        await core.create_account("alice")
        await core.request_settlement("alice", D(5), "a")
        await self.world.services[0].credit_settlement("alice", D(3), "b")
        await self.world.services[0].report_unattributed("tx 7", D(7), {"memo": "?"})
        account = self.world.account
        await until(lambda: account().outgoing.parked == 5 and account().incoming.parked == 3)
        by_direction = {attempt.direction.value: attempt.attempt_id for attempt in self.world.attempts()}
        path = "/accounts/alice/attempts"
        return f"{path}/{by_direction['outgoing']}/resolve", f"{path}/{by_direction['incoming']}/release"

    def proposed(self) -> list[str]:
        """Return what the log says was proposed."""
        return [str(event) for event in self.world.ears.of(DecisionProposed)]

    def taken(self) -> list[tuple[str, str, str]]:
        """Return what the log says was decided."""
        return [(event.decision, event.by, event.reason) for event in self.world.ears.of(DecisionTaken)]


@asynccontextmanager
async def desk(tmp_path: Path, limit: str | None = "4", refusals: int = 1) -> AsyncIterator[Desk]:
    """Run a desk in a world whose first payment is lost sight of, and whose first credits are refused."""

    async def lose_sight(_amount: object) -> Any:
        raise ConnectionError("no answer")

    connector = FakeConnector([Refused("409 what is this?")] * refusals)
    world = World(MinimalEngine(script=[lose_sight]), connector=connector)
    async with world.core() as core:
        yield Desk(world, core, tmp_path / "tokens", limit)


# who decided


async def test_a_token_s_name_is_kept_with_a_decision_and_cannot_be_written_by_another(tmp_path: Path) -> None:
    """What a person writes comes after what is proved, in the books and in the log."""
    async with desk(tmp_path, limit=None) as it:
        resolve, release = await it.parked()
        assert (await it.post("ann's", resolve, settled="5", by="Ann")).status == 200
        forged = "Ann) and token bob (Bob"
        assert (await it.post("bob's", release, by=forged)).status == 200
        assert it.taken() == [
            ("resolve", "token ann (Ann)", "looked"),
            ("release", f"token bob ({forged})", "looked"),
        ]
        assert [attempt.resolved_by for attempt in it.world.attempts()] == [by for _, by, _ in it.taken()]
        assert (await it.post("ann's", resolve, settled="5", by="Ann")).status == 200, "the same again"


async def test_a_token_that_may_only_read_reads_and_changes_nothing(tmp_path: Path) -> None:
    """Everything is shown to it but backups, which also have what an engine keeps for itself."""
    async with desk(tmp_path, limit=None) as it:
        resolve, release = await it.parked()
        before = it.world.account()
        for path in ("/summary", "/accounts", "/attempts", "/suspense", "/audit", "/statistics", "/proposals"):
            assert (await it.get("rae's", path)).status == 200
        assert (await it.get("rae's", "/caller")).json() == {"token": "rae", "role": "read", "four_eyes_above": None}
        assert (await it.get("ann's", "/caller")).json()["role"] == "decide"
        asked = [(resolve, {"settled": "5"}), (release, {}), ("/suspense/assign", {"settlement_id": "tx 7"})]
        asked += [(f"/accounts/alice/{name}", {}) for name in ("pause", "resume", "settle")]
        for path, content in asked:
            answer = await it.post("rae's", path, **content)
            assert answer.status == 403
            assert answer.detail() == (
                "this token may only read; a decision needs one that settlement-core token made with --role decide; "
                "nothing was recorded"
            )
        assert (await it.get("rae's", "/backup")).status == 403
        assert (await it.get("ann's", "/backup")).status != 403
        assert it.world.account() == before
        assert it.taken() == []


# four eyes


async def test_a_decision_above_the_limit_is_carried_out_by_the_second_token(tmp_path: Path) -> None:
    """The first one proposes; both are in the books and in the log, with both reasons."""
    async with desk(tmp_path) as it:
        resolve, _ = await it.parked()
        for token in ("ann's", "ann's", "ann's other"):
            answer = await it.post(token, resolve, settled="0.50", by="Ann")
            assert answer.status == 409
            assert answer.detail().startswith("proposed by token ann, and not decided: resolve of ")
            assert (
                " is about 5, and above 4 a second token has to send the same decision within 24 h" in answer.detail()
            )
        assert (await it.post("rae's", resolve, settled="0.5")).status == 403
        assert it.world.account().outgoing.parked == 5
        assert it.taken() == []
        assert len(it.proposed()) == 1
        assert "token ann (Ann) proposed to resolve: looked" in it.proposed()[0]
        (proposal,) = (await it.get("rae's", "/proposals")).json()
        assert (proposal["token"], proposal["amount"], proposal["reason"]) == ("ann", "5", "looked")
        answer = await it.post("bob's", f"/{proposal['path']}", reason="agreed", by="Bob", **proposal["content"])
        assert (answer.status, answer.json()) == (200, {"waits_for": ""})
        assert it.taken() == [("resolve", "tokens ann and bob (Ann; Bob)", "looked; agreed")]
        assert it.world.attempts()[0].resolved_by == "tokens ann and bob (Ann; Bob)"
        assert (await it.get("rae's", "/proposals")).json() == []
        await until(lambda: it.world.account().outgoing.settled == 5)
    assert it.world.engine.paid == [D("4.5")]


async def test_another_decision_confirms_nothing(tmp_path: Path) -> None:
    """It is a proposal of its own, and the answer tells of the other one, in case either is a slip."""
    async with desk(tmp_path) as it:
        resolve, _ = await it.parked()
        assert (await it.post("ann's", resolve, settled="0")).status == 409
        answer = await it.post("bob's", resolve, settled="5")
        assert answer.status == 409
        assert answer.detail().endswith("within 24 h; other proposals: token ann: resolve settled=0")
        assert it.world.account().outgoing.parked == 5
        assert len((await it.get("ann's", "/proposals")).json()) == 2
        assert (await it.post("ann's", resolve, settled="5")).status == 200
        await until(lambda: it.world.account().outgoing.settled == 5)
        assert (await it.post("bob's", resolve, settled="0")).status == 409, "it is decided"
    assert it.world.engine.paid == []


@pytest.mark.parametrize(("limit", "alone"), [("5", True), ("4.99", False), ("0", False)])
async def test_only_what_is_above_the_limit_needs_two(limit: str, *, alone: bool, tmp_path: Path) -> None:
    """An amount is the whole attempt's, whatever is said to have moved of it. Pausing needs no second token."""
    async with desk(tmp_path, limit) as it:
        resolve, _ = await it.parked()
        assert (await it.post("ann's", "/accounts/alice/pause")).status == 200
        assert (await it.post("ann's", resolve, settled="0")).status == (200 if alone else 409)
        assert (it.world.account().outgoing.parked == 0) is alone


async def test_every_kind_of_decision_needs_two_above_the_limit(tmp_path: Path) -> None:
    """Also one about all below an amount, whose sum nobody knows."""
    async with desk(tmp_path, "1") as it:
        _, release = await it.parked()
        await it.world.services[0].report_unattributed("tx 8", D(8), {})
        for number in range(600):
            await it.world.services[0].report_unattributed(f"dust {number:03}", D("0.1"), {})
        for path, content in (
            (release, {}),
            ("/suspense/assign", {"settlement_id": "tx 7", "account_id": "alice"}),
            ("/suspense/dismiss", {"settlement_id": "tx 8"}),
            ("/suspense/dismiss", {"below": "1"}),
        ):
            assert (await it.post("ann's", path, **content)).status == 409
            answer = await it.post("bob's", path, **content)
            assert answer.status == 200
        more = {"below": "1", "after": answer.json()["after"]}
        assert answer.json()["dismissed"] == 500
        assert (await it.post("ann's", "/suspense/dismiss", **more)).status == 409, "it goes on by the same token"
        answer = await it.post("bob's", "/suspense/dismiss", **more)
        assert (answer.status, answer.json()) == (200, {"dismissed": 100, "after": None})
        await until(lambda: it.world.account().incoming.settled == 10)
        await it.world.services[0].report_unattributed("dust 9", D("0.1"), {})
        assert (await it.post("bob's", "/suspense/dismiss", below="1")).status == 200, "ann proposed it once more above"
        assert (await it.post("bob's", "/suspense/dismiss", below="1")).status == 409
    assert it.world.connector.total() == 10


async def test_a_proposal_is_good_for_one_decision_and_a_day(tmp_path: Path) -> None:
    """A credit that was released and is held again needs two again; and so does what was proposed yesterday."""
    async with desk(tmp_path, "1", refusals=3) as it:
        _, release = await it.parked()
        assert (await it.post("ann's", release)).status == 409
        assert (await it.post("bob's", release)).status == 200
        await until(lambda: len(it.world.connector.offers) == 2 and it.world.account().incoming.parked == 3)
        assert (await it.post("bob's", release)).status == 409
        await anyio.sleep(DAY_S + 1)
        assert (await it.get("bob's", "/proposals")).json() == []
        assert (await it.post("ann's", release)).status == 409
        assert (await it.post("bob's", release)).status == 200
    assert [by for _, by, _ in it.taken()] == ["tokens ann and bob (Ann'S; Bob'S)"] * 2


async def test_a_confirmation_that_the_store_did_not_take_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second token's answer was 503, which may mean that nothing was recorded: its repetition is enough."""
    async with desk(tmp_path) as it:
        resolve, _ = await it.parked()
        assert (await it.post("ann's", resolve, settled="5")).status == 409

        async def fail(_command: object) -> None:
            raise StoreUnavailable("gone for a moment")

        with monkeypatch.context() as patch:
            patch.setattr(it.client.core, "decide", fail)
            assert (await it.post("bob's", resolve, settled="5")).status == 503
        assert (await it.post("bob's", resolve, settled="5")).status == 200


async def test_what_cannot_be_decided_is_not_proposed(tmp_path: Path) -> None:
    """Nothing of what is unknown, decided already, or more than there is."""
    async with desk(tmp_path) as it:
        resolve, _ = await it.parked()
        for path, content, status in (
            (resolve, {"settled": "6"}, 409),
            ("/accounts/alice/attempts/nothing/resolve", {"settled": "5"}, 409),
            ("/accounts/nobody/attempts/nothing/release", {}, 409),
            ("/suspense/assign", {"settlement_id": "tx 6", "account_id": "alice"}, 404),
            ("/suspense/dismiss", {"settlement_id": "tx 77"}, 404),
        ):
            assert (await it.post("ann's", path, **content)).status == status
        assert (await it.get("ann's", "/proposals")).json() == []
    assert it.proposed() == []


def test_four_eyes_without_tokens_are_refused_at_the_start(tmp_path: Path) -> None:
    """Exit code 2 and one sentence."""
    engine = str(write_engine(tmp_path, MINIMAL))
    arguments = ("serve", engine, "--store", "memory:", "--port", "0", "--admin-port", "0", "--four-eyes-above")
    refused = run(*arguments, "100", code=2)
    assert "a second token can only confirm where tokens are asked for: give --admin-tokens" in refused.stderr
    assert "-1 is negative" in run(*arguments, "-1", code=2).stderr
