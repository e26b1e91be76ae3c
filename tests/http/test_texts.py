"""Text from outside may hold anything: every store keeps it alike, and no question about the books fails for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from settlement_core.abc import Pending, Refused, Rejected, Settled, Unanswered, Verdict
from settlement_core.core.core import Core
from settlement_core.http.admin import create_admin_app
from settlement_core.http.app import create_app
from settlement_core.observers.feed import EventFeed
from settlement_core.observers.several import SeveralObservers
from settlement_core.stores.memory import create_memory_store
from settlement_core.stores.sqlite import open_sqlite_store
from settlement_core.testing.clocks import virtual_backend
from settlement_core.values.commands import Pause, Suspense, Values
from settlement_core.values.errors import InvalidIdentifier
from settlement_core.values.json_text import decode_json
from settlement_core.values.records import EngineValue, Payment
from settlement_core.values.texts import whole_text
from tests.core.stores import LoneRedis, OnTheLoop
from tests.core.worlds import D, Ears, FakeConnector, World, until
from tests.http.asgi import JSON, KNOWN, OCTETS, Client
from tests.redis.servers import RedisServer

ODD = "\ud800\udfff\x00\x1b[2J\u202e\u2028\ufeff\uffff\U0001f600é\"\\'\r\n{0}%s"
"""Half characters in the wrong order, NUL, terminal codes, marks of direction, and what formats and quoting mean."""

texts = st.text(st.one_of(st.sampled_from(ODD), st.characters(codec=None)), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 1) | st.just(2**256) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)

QUESTIONS = ("accounts", "attempts", "suspense", "summary", "audit", "engine", "statistics", "workers", "openapi.json")


@dataclass
class TalkativeEngine:
    """A verifiable engine that fails once at everything, and says why in these words."""

    words: str
    value: Any
    told: int = 0

    async def setup_account(self, account_id: str) -> None:
        """Fail once."""
        await self._fail_once(1)

    async def prepare(self, account_id: str, amount: Decimal, attempt_id: str) -> Payment:
        """Fail once, then give a payment whose reference holds the value."""
        await self._fail_once(2)
        return Payment(amount, {"told": self.value, self.words: self.words})

    async def submit(self, payment: Payment) -> None:
        """Do nothing."""
        await anyio.lowlevel.checkpoint()

    async def verify(self, payment: Payment) -> Verdict:
        """Reject the first payment in our words; the second stays under way."""
        await self._fail_once(3)
        if self.told == 3:
            self.told = 4
            return Rejected(self.words)
        return Pending(3600.0) if payment.amount == 5 else Settled(payment.amount)

    async def handle_message(self, account_id: str, message: Any) -> Any:
        """Answer with the value, and what was sent."""
        await anyio.lowlevel.checkpoint()
        return [self.value, message]

    async def status(self) -> Any:
        """Tell the value."""
        await anyio.lowlevel.checkpoint()
        return {"told": self.value, self.words: self.words}

    async def _fail_once(self, number: int) -> None:
        await anyio.lowlevel.checkpoint()
        if self.told < number:
            self.told = number
            raise ExceptionGroup(self.words, [RuntimeError(self.words)])


@contextmanager
def _store(kind: str, directory: Path, server: RedisServer) -> Iterator[Any]:
    if kind == "memory":
        yield create_memory_store()
        return
    path = directory / "texts.db"
    made = LoneRedis(server.url()) if kind == "redis" else open_sqlite_store(path)
    try:
        yield made if isinstance(made, LoneRedis) else OnTheLoop(made)
    finally:
        made.close()
        for rest in directory.glob("texts.db*"):
            rest.unlink()


async def _live(store: Any, words: str, value: Any) -> list[Any]:
    """Bring the words in by every way there is, ask everything, and return what is kept of them."""
    feed = EventFeed(now=lambda: 0.0)
    ears = Ears()
    world = World(TalkativeEngine(words, value), store=store, ears=SeveralObservers(ears, feed))  # type: ignore[arg-type]
    world.connector = FakeConnector([Unanswered(words), Refused(words)], applies_before_failing=False)
    async with world.core() as core:
        client = Client(create_admin_app(core, feed=feed), core)
        services = world.services[0]
        await core.create_account("alice")
        await core.request_settlement("alice", D(5), "a")
        await services.credit_settlement("alice", D(3), "b")
        for settlement_id in ("tx 7", words):
            with suppress(InvalidIdentifier):
                await services.report_unattributed(settlement_id, D(7), {"memo": value, words: words})
        for key in ("cursor", words):
            with suppress(InvalidIdentifier):
                await services.save(key, value, "alice")
        loaded = await services.load("cursor", "alice")
        await core.create_account("bob")
        await core.decide(Pause(account_id="bob", paused=True, reason=words, by=words, at=0.0))
        echoed = await services.send_message("alice", {words: value})
        await until(lambda: world.account().incoming.parked == 3 and any(a.payment for a in world.attempts()))
        await _ask_everything(client)
        await _send_message(world, core, words, value)
        await anyio.sleep(30)
        answers = await _ask_everything(client)
    happened = feed.after(0, 10_000)
    assert happened
    for _, _, content in happened:
        assert msgspec.json.decode(content)
    for _, event in ears.heard:
        assert str(event).isprintable()
    attempts = sorted(((a.direction, a.state, a.reason, a.payment) for a in world.attempts()), key=repr)
    kept = store.apply([Suspense(limit=1000), Values(limit=1000)])
    kept[1] = [_without_ids(one) for one in kept[1] if one.account_id != "/"]
    pausing = world.account("bob").pausing
    return [attempts, kept, pausing, loaded, echoed, answers["suspense"], answers["engine"]]


def _without_ids(one: EngineValue) -> EngineValue:
    """Return a value without the id of an attempt, which is another one in each life."""
    told = isinstance(one.value, dict) and one.key == "answers"
    return replace(one, value={**one.value, "attempt": ""}) if told else one  # type: ignore[dict-item]


async def _ask_everything(client: Client) -> dict[str, Any]:
    """Ask every question of the admin API, and take each answer as strictly as other languages do."""
    told = {}
    for question in QUESTIONS:
        answer = await client.request("GET", f"/{question}")
        assert answer.status == 200, f"/{question}"
        told[question] = msgspec.json.decode(answer.body)
    return told


async def _send_message(world: World, core: Core, words: str, value: Any) -> None:
    """Send bodies with escapes of half characters to every endpoint that takes JSON."""
    client = Client(create_app(core, access=KNOWN), core)
    answer = await client.request("POST", "/accounts/alice/messages", OCTETS, body=json.dumps([words, value]).encode())
    assert answer.status == 201
    assert msgspec.json.decode(answer.body)[1] == decode_json(json.dumps([words, value]))
    contents: list[Any] = [{"id": words + "\ud800"}, {"id": "carol", words: 1}, {words: {words: value}}]
    for content in contents:
        assert (await client.request("POST", "/accounts", JSON, body=json.dumps(content).encode())).status in {201, 400}
    body = json.dumps({"amount": words, "scale": 0}).encode()
    answer = await client.request("POST", "/accounts/alice/settlements", JSON, ("idempotency-key", "k"), body=body)
    assert answer.status in {201, 400}
    admin = Client(create_admin_app(core), core)
    told = json.dumps({"reason": words, "by": words}).encode()
    assert (await admin.request("POST", "/accounts/carol/pause", JSON, body=told)).status in {200, 400, 404}


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(words=texts, value=values)
@example(words="a\ud800b", value={"\ud800": "\ud800", "\\ud800": 1})
@example(words="\udcff\x00", value=["\x00", True, 1, 0, False])
@example(words=ODD, value={ODD: ODD})
@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_any_text_from_outside_is_kept_alike_and_never_makes_a_question_fail(
    backend: str, words: str, value: Any, tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer
) -> None:
    """In exceptions, verdicts, answers of connectors, details, values, messages, bodies and decisions; on each store.

    Every question of the admin API is answered 200 with JSON that strict readers take, and no line of the log can
    move a cursor. What the stores keep is equal to the letter, and all of it is whole characters.
    """
    directory = tmp_path_factory.mktemp("texts")
    kept = []
    for kind in ("memory", "sqlite", "redis"):
        loop, options = virtual_backend(backend)  # each life begins at the same time
        with _store(kind, directory, redis_server) as store:
            kept.append(anyio.run(_live, store, words, value, backend=loop, backend_options=options))
    assert kept[0] == kept[1] == kept[2]
    assert repr(kept[0]) == repr(kept[1]) == repr(kept[2]), "1 is not true"
    json.dumps(kept[0], default=repr, ensure_ascii=False).encode()
    assert whole_text(kept[0][2].reason) == kept[0][2].reason
