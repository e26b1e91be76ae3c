"""The requests that connectors really send (WIRE, section 1), and the answers each of them can live with.

interledger-rs, the Java connector and both Rafikis differ from RFC 38 and from each other; an answer that one of them
does not understand is a settlement paid twice or refunded.
"""

from __future__ import annotations

import re

import anyio
import pytest

from settlement_core.http.requests import Dialect
from tests.core.worlds import D, MinimalEngine, World, until
from tests.http.asgi import JSON, OCTETS, Client, books, serving

pytestmark = pytest.mark.anyio

UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
RS_ID = "58f9c44b-8d2b-4e73-9c5d-2f1b6a7c8d90"
RS_KEY = ("idempotency-key", "0f2d6a4e-1111-4222-8333-444455556666")
OKHTTP_JSON = ("content-type", "application/json; charset=utf-8")


async def settled(client: Client, world: World, account_id: str, amount: str) -> None:
    """Wait until so much is settled, and check that it was paid once."""
    await until(lambda: world.account(account_id).outgoing.settled == D(amount))
    assert sum(world.engine.paid, D(0)) == D(amount)


async def test_interledger_rs_creates_settles_and_sends_messages() -> None:
    """Its bodies, its UUIDs, no Accept header; any 2xx is enough for it."""

    class Talking(MinimalEngine):
        async def handle_message(self, account_id: str, message: object) -> object:
            return {"heard": message}

    world = World(Talking())
    async with serving(world) as client:
        body = b'{"id":"%s"}' % RS_ID.encode()
        answer = await client.request("POST", "/accounts", JSON, ("accept", "*/*"), body=body)
        assert (answer.status, answer.json()) == (201, {"id": RS_ID})
        body = b'{"amount":"1000","scale":9}'
        answer = await client.request("POST", f"/accounts/{RS_ID}/settlements", JSON, RS_KEY, body=body)
        assert (answer.status, answer.json()) == (201, {"amount": "1000", "scale": 9})
        key = ("idempotency-key", "fresh-for-each-message")
        answer = await client.request("POST", f"/accounts/{RS_ID}/messages", OCTETS, key, body=b"[0]")
        assert (answer.status, answer.body) == (201, b'{"heard":[0]}')
        await settled(client, world, RS_ID, "0.000001000")


async def test_the_java_connector_creates_without_an_id_and_reads_ours_from_the_answer() -> None:
    """It sends a null id and needs a JSON body with an `id` it has not seen; every call makes another account."""
    world = World(MinimalEngine())
    async with serving(world) as client:
        given = []
        for _ in range(3):
            answer = await client.request(
                "POST", "/accounts", OKHTTP_JSON, ("accept", "application/json"), body=b'{"id":null}'
            )
            assert answer.status == 201
            assert answer.header("content-type") == "application/json"
            assert UUID4.fullmatch(answer.json()["id"])
            given.append(answer.json()["id"])
        assert len(set(given)) == 3
        body = b'{"scale":9,"amount":"123"}'
        answer = await client.request("POST", f"/accounts/{given[0]}/settlements", OKHTTP_JSON, RS_KEY, body=body)
        assert (answer.status, answer.json()) == (201, {"amount": "123", "scale": 9})
        await settled(client, world, given[0], "0.000000123")


@pytest.mark.parametrize("body", [b"{}", b'{"id":""}', b'{"id":null}', b'{"accountId":null}', b' {"other":1} '])
async def test_an_account_without_an_id_gets_a_fresh_one(body: bytes) -> None:
    """The id is a UUID of version 4, short enough for the Java connector's database."""
    world = World(MinimalEngine())
    async with serving(world) as client:
        answer = await client.request("POST", "/accounts", JSON, body=body)
        assert answer.status == 201
        account_id = answer.json()["id"]
        assert UUID4.fullmatch(account_id)
        assert world.account(account_id).account_id == account_id


@pytest.mark.parametrize("body", [b'{"id":"harry"}', b'{"accountId":"harry"}', b'{"id":"harry","accountId":"other"}'])
async def test_both_rafikis_name_the_account(body: bytes) -> None:
    """2019's sends `id`, the later one `accountId`; the RFC's name wins."""
    world = World(MinimalEngine())
    async with serving(world) as client:
        answer = await client.request("POST", "/accounts", JSON, body=body)
        assert (answer.status, answer.json()) == (201, {"id": "harry"})


async def test_rafiki_settles_on_the_singular_path_without_a_key_only_if_told_so() -> None:
    """Every such request is a settlement of its own; the answer is the quantity, in its scale, which it books."""
    world = World(MinimalEngine())
    body = b'{"amount":"123456789","scale":9}'
    async with serving(world, dialect=Dialect(rafiki=True)) as client:
        await client.create("harry")
        for _ in range(2):
            answer = await client.request("POST", "/accounts/harry/settlement", JSON, body=body)
            assert (answer.status, answer.json()) == (201, {"amount": "123456789", "scale": 9})
        answer = await client.request("POST", "/accounts/harry/settlement", JSON, RS_KEY, body=body)
        again = await client.request("POST", "/accounts/harry/settlements", JSON, RS_KEY, body=body)
        assert (answer.status, again.status) == (201, 201), "a key that is given counts, on either path"
        await settled(client, world, "harry", "0.370370367")
        kept = books(world.store)
    async with serving(world) as client:
        strict = await client.request("POST", "/accounts/harry/settlement", JSON, body=body)
        keyless = await client.request("POST", "/accounts/harry/settlements", JSON, body=body)
        assert strict.status == 404
        assert keyless.status == 400
        assert "exactly one Idempotency-Key header is needed, found 0" in keyless.detail()
        assert books(world.store) == kept


async def test_rafiki_deletes_on_shutdown_and_creates_again_on_start_and_loses_nothing() -> None:
    """What was queued when the account went goes on draining, and the keys of before still count afterwards."""
    world = World(MinimalEngine(takes_s=5))
    async with serving(world) as client:
        await client.create("harry")
        assert (await client.settle("7", 0, "before", "harry")).status == 201
        assert (await client.request("DELETE", "/accounts/harry")).status == 204
        assert (await client.settle("1", 0, "between", "harry")).status == 404
        assert (await client.create("harry")).status == 201
        assert (await client.settle("7", 0, "before", "harry")).status == 201
        await anyio.sleep(60)
        await settled(client, world, "harry", "7")


async def test_a_repeated_creation_is_a_2xx_and_resets_nothing() -> None:
    """Each connector repeats it at some time, and takes anything but a 2xx for a failure."""
    world = World(MinimalEngine())
    async with serving(world) as client:
        for _ in range(3):
            answer = await client.create("alice")
            assert (answer.status, answer.json()) == (201, {"id": "alice"})
            await client.settle("5", 0, "one key", "alice")
        await settled(client, world, "alice", "5")
        assert world.account().outgoing.entered == 5


async def test_delete_answers_204_every_time_and_404_for_an_account_that_never_was() -> None:
    """Without a body or a content type, with or without a request body."""
    world = World(MinimalEngine())
    async with serving(world) as client:
        await client.create("alice")
        for body in (b"", b"{}"):
            answer = await client.request("DELETE", "/accounts/alice", body=body)
            assert (answer.status, answer.body, answer.header("content-type")) == (204, b"", None)
        answer = await client.request("DELETE", "/accounts/nobody")
        assert answer.status == 404
        assert answer.detail() == "account 'nobody' does not exist; nothing was recorded"


@pytest.mark.parametrize(
    "target",
    ["/accounts", "/accounts/", "//accounts", "/accounts//", "///accounts///", "/accounts?x=1", "/accounts/?"],
)
async def test_slashes_too_many_do_no_harm_when_creating(target: str) -> None:
    """A base URL with a trailing slash gives `//accounts` in Rafiki and interledger-rs."""
    world = World(MinimalEngine())
    async with serving(world) as client:
        answer = await client.request("POST", target, JSON, body=b'{"id":"alice"}')
        assert (answer.status, answer.json()) == (201, {"id": "alice"})


@pytest.mark.parametrize(
    "target",
    [
        "/accounts/a.b~c_d-E1/settlements",
        "//accounts//a.b~c_d-E1//settlements//",
        "/accounts/a.b~c_d-E1/settlements/",
        "/accounts/a%2Eb%7Ec%5Fd%2DE1/settlements",
        "/accounts/%61.b%7ec_d-E1/settlements?",
    ],
)
async def test_an_id_may_be_percent_encoded_and_slashes_doubled_when_settling(target: str) -> None:
    """It is the same account, settled once per key."""
    world = World(MinimalEngine())
    async with serving(world) as client:
        await client.create("a.b~c_d-E1")
        body = b'{"amount":"1","scale":0}'
        first = await client.request("POST", target, JSON, RS_KEY, body=body)
        second = await client.request("POST", "/accounts/a.b~c_d-E1/settlements", JSON, RS_KEY, body=body)
        assert (first.status, second.status) == (201, 201)
        await settled(client, world, "a.b~c_d-E1", "1")


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/json; charset=utf-8", "application/json;charset=UTF-8", "APPLICATION/JSON"],
)
@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "text/html", "application/vnd.unheard+cbor"])
async def test_a_charset_and_any_accept_header_are_taken(content_type: str, accept: str | None) -> None:
    """The answer is exactly `application/json`: some clients compare strings."""
    world = World(MinimalEngine())
    headers = [("content-type", content_type)] + ([("accept", accept)] if accept else [])
    async with serving(world) as client:
        created = await client.request("POST", "/accounts", *headers, body=b'{"id":"alice"}')
        body = b'{"amount":"1","scale":0}'
        answer = await client.request("POST", "/accounts/alice/settlements", *headers, RS_KEY, body=body)
        assert (created.status, answer.status) == (201, 201)
        assert created.header("content-type") == answer.header("content-type") == "application/json"


async def test_every_answer_tells_its_content_type_without_parameters_and_its_length() -> None:
    """JSON for accounts and settlements, raw bytes for messages, nothing for a deletion."""

    class Talking(MinimalEngine):
        async def handle_message(self, account_id: str, message: object) -> object:
            return None

    world = World(Talking())
    async with serving(world) as client:
        created = await client.create()
        settling = await client.settle("1", 0, "a")
        told = await client.request("POST", "/accounts/alice/messages", OCTETS, body=b'"hi"')
        deleted = await client.request("DELETE", "/accounts/alice")
    assert created.headers == [("content-type", "application/json"), ("content-length", "14")]
    assert created.body == b'{"id":"alice"}'
    assert settling.headers == [("content-type", "application/json"), ("content-length", "24")]
    assert settling.body == b'{"amount":"1","scale":0}'
    assert told.headers == [("content-type", "application/octet-stream"), ("content-length", "4")]
    assert told.body == b"null"
    assert deleted.headers == []


async def test_the_whole_amount_is_committed_in_the_scale_of_the_request() -> None:
    """Whatever the ledger can take: Rafiki refuses a finer scale than it asked in and books the answer."""

    class Coarse(MinimalEngine):
        asset_scale = 2

    world = World(Coarse())
    async with serving(world) as client:
        await client.create()
        answer = await client.settle("1230000", 6, "a")
        assert answer.json() == {"amount": "1230000", "scale": 6}
        answer = await client.settle("000129999", 6, "b")
        assert (answer.status, answer.json()) == (201, {"amount": "129999", "scale": 6})
        await until(lambda: world.account().outgoing.settled == D("1.35"))
        assert world.account().outgoing.queued == D("0.009999")


async def test_a_replay_gets_the_answer_of_the_first_request() -> None:
    """In the first one's scale, even where the same amount comes written otherwise."""
    world = World(MinimalEngine())
    async with serving(world) as client:
        await client.create()
        first = await client.settle("100", 2, "a")
        again = await client.settle("100", 2, "a")
        otherwise = await client.settle("1", 0, "a")
        assert (first.status, first.json()) == (201, {"amount": "100", "scale": 2})
        assert (again.status, again.body) == (first.status, first.body)
        assert (otherwise.status, otherwise.body) == (first.status, first.body)
        await settled(client, world, "alice", "1")


async def test_an_answer_does_not_wait_for_the_set_up_nor_for_the_ledger() -> None:
    """Connectors repeat after 5 s under a new key: both are answered at once, and a failing set-up fails nothing."""

    class Slow(MinimalEngine):
        async def setup_account(self, account_id: str) -> None:
            await anyio.sleep(30)
            if anyio.current_time() < 60:
                raise ConnectionError("the peer is away")

    world = World(Slow(takes_s=100))
    async with serving(world) as client:
        assert (await client.create()).status == 201
        assert (await client.settle("1", 0, "a")).status == 201
        assert anyio.current_time() == 0.0
        await settled(client, world, "alice", "1")


@pytest.mark.parametrize("last", ["settlements", "messages"])
async def test_an_unknown_account_is_404_or_opened_if_told_so(last: str) -> None:
    """interledger-rs never repeats a failed creation; by default its settlement is refused, and it refunds."""
    from settlement_core.core.config import CoreConfig

    class Talking(MinimalEngine):
        async def handle_message(self, account_id: str, message: object) -> object:
            return message

    headers = [JSON, RS_KEY] if last == "settlements" else [OCTETS]
    body = b'{"amount":"1","scale":0}'
    world = World(Talking())
    async with serving(world) as client:
        answer = await client.request("POST", f"/accounts/alice/{last}", *headers, body=body)
        assert answer.status == 404
        assert answer.detail() == "account 'alice' does not exist; nothing was recorded"
        assert books(world.store) == [[], [], [], []]
    world.config = CoreConfig(create_unknown_accounts=True)
    async with serving(world) as client:
        answer = await client.request("POST", f"/accounts/alice/{last}", *headers, body=body)
        assert (answer.status, answer.body) == (201, body)
        assert world.account().account_id == "alice"
        await until(lambda: world.account().outgoing.settled == (1 if last == "settlements" else 0))


@pytest.mark.parametrize("base_path", ["secret", "/secret", "/secret/", "//secret", "/a/b/c"])
async def test_a_base_path_is_needed_once_it_is_set(base_path: str) -> None:
    """It may be a capability: without it, or with another, everything is 404, and nothing says which it was."""
    world = World(MinimalEngine())
    right = "/" + base_path.strip("/")
    async with serving(world, dialect=Dialect(base_path=base_path)) as client:
        for wrong in ("", "/secre", "/secrets", "/SECRET", "/a/b", "/a/b/c/d", "/accounts", right + "%2F"):
            answer = await client.request("POST", f"{wrong}/accounts", JSON, body=b'{"id":"alice"}')
            assert answer.status == 404
            answer = await client.request("DELETE", f"{wrong}/accounts/a:b")
            assert answer.status == 404, "not 400: who does not know the path learns nothing"
        assert books(world.store)[0] == []
        for target in (f"{right}/accounts", f"//{right}//accounts/"):
            answer = await client.request("POST", target, JSON, body=b'{"id":"alice"}')
            assert (answer.status, answer.json()) == (201, {"id": "alice"})
