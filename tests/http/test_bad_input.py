"""Bad input (DESIGN, section 6): one clear sentence, nothing recorded, and the engine never hears of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from settlement_core.values.commands import Overview
from tests.core.worlds import D, MinimalEngine, World, until
from tests.http.asgi import JSON, OCTETS, Client, Header, books, serving

pytestmark = pytest.mark.anyio

KEY = ("idempotency-key", "a key")
GOOD = b'{"amount":"1","scale":0}'
SETTLE = "/accounts/alice/settlements"
MESSAGES = "/accounts/alice/messages"


@dataclass(frozen=True)
class Bad:
    """A request that is wrong in one way, and what it is answered."""

    why: str
    status: int
    detail: str
    method: str = "POST"
    target: str | bytes = SETTLE
    headers: tuple[Header | tuple[bytes, bytes], ...] = (JSON, KEY)
    body: bytes = GOOD

    def __str__(self) -> str:
        return self.why.replace(" ", "_")


IDS = "invalid account id: only letters, digits and . _ ~ - are allowed"
LONG = "invalid account id: it is longer than 128 characters"


def _bad_id(why: str, encoded: str, detail: str = IDS) -> list[Bad]:
    """Return the requests of all three endpoints with an id in their path."""
    return [
        Bad(f"{why} settling", 400, detail, target=f"/accounts/{encoded}/settlements"),
        Bad(f"{why} sending", 400, detail, target=f"/accounts/{encoded}/messages", headers=(OCTETS,)),
        Bad(f"{why} deleting", 400, detail, "DELETE", f"/accounts/{encoded}", ()),
    ]


def _body(why: str, body: bytes, detail: str) -> Bad:
    return Bad(why, 400, detail, body=body)


def _creation(why: str, body: bytes, detail: str) -> Bad:
    return Bad(why, 400, detail, target="/accounts", headers=(JSON,), body=body)


PATHS = [
    *_bad_id("a space in the id", "a%20b"),
    *_bad_id("a colon in the id", "a:b"),
    *_bad_id("an encoded slash in the id", "a%2Fb"),
    *_bad_id("an at sign in the id", "a@b"),
    *_bad_id("a letter beyond ASCII in the id", "%C3%A4"),
    *_bad_id("bytes that are no text in the id", "%FF%FE"),
    *_bad_id("a NUL in the id", "a%00"),
    *_bad_id("a newline after the id", "alice%0A"),
    *_bad_id("a percent sign alone in the id", "a%"),
    *_bad_id("a double encoding in the id", "%2561"),
    *_bad_id("a pattern for the id", "*"),
    *_bad_id("129 characters of id", "a" * 129, LONG),
    *_bad_id("two dots for the id", "..", "invalid account id: a dot segment cannot stand in a URL path"),
    *_bad_id("an encoded dot for the id", "%2E", "invalid account id: a dot segment cannot stand in a URL path"),
]

QUANTITIES = [
    _body("a number for amount", b'{"amount":1,"scale":0}', "amount must be a string of digits, got a number"),
    _body("no amount", b'{"scale":0}', "amount must be a string of digits, got nothing"),
    _body("an empty amount", b'{"amount":"","scale":0}', "amount must hold digits only"),
    _body("a negative amount", b'{"amount":"-1","scale":0}', "amount must hold digits only"),
    _body("a plus sign", b'{"amount":"+1","scale":0}', "amount must hold digits only"),
    _body("a decimal point", b'{"amount":"1.0","scale":0}', "amount must hold digits only"),
    _body("an exponent", b'{"amount":"1e3","scale":0}', "amount must hold digits only"),
    _body("a hexadecimal amount", b'{"amount":"0x1","scale":0}', "amount must hold digits only"),
    _body("an underscore", b'{"amount":"1_0","scale":0}', "amount must hold digits only"),
    _body("a space in the amount", b'{"amount":" 1","scale":0}', "amount must hold digits only"),
    _body("other digits", b'{"amount":"\\u0661","scale":0}', "amount must hold digits only"),
    _body("the word NaN", b'{"amount":"NaN","scale":0}', "amount must hold digits only"),
    _body("1,001 digits", b'{"amount":"%s","scale":0}' % (b"1" * 1001), "amount has 1001 digits, more than 1000"),
    _body("no scale", b'{"amount":"1"}', "scale must be an integer, got nothing"),
    _body("a scale of text", b'{"amount":"1","scale":"0"}', "scale must be an integer, got a string"),
    _body("a negative scale", b'{"amount":"1","scale":-1}', "scale must be 0 to 255, got -1"),
    _body("a scale of 256", b'{"amount":"1","scale":256}', "scale must be 0 to 255, got 256"),
    _body("a fraction for scale", b'{"amount":"1","scale":1.5}', "scale must be an integer, got a number"),
    _body("true for scale", b'{"amount":"1","scale":true}', "scale must be an integer, got a boolean"),
    _body("null for scale", b'{"amount":"1","scale":null}', "scale must be an integer, got nothing"),
    _body("an array", b'["1",0]', "expected a JSON object with amount and scale, got an array"),
    _body("a text", b'"1"', "expected a JSON object with amount and scale, got a string"),
    _body("null", b"null", "expected a JSON object with amount and scale, got nothing"),
    _body("a number", b"1", "expected a JSON object with amount and scale, got a number"),
    _body("a zero amount", b'{"amount":"0","scale":0}', "invalid amount to settle: it is zero; nothing was recorded"),
    _body("a long zero", b'{"amount":"0000","scale":255}', "it is zero; nothing was recorded"),
]

NO_JSON = [
    _body("an empty body", b"", "the body is not JSON: "),
    _body("half a body", b'{"amount":"1"', "the body is not JSON: "),
    _body("two values", GOOD + GOOD, "the body is not JSON: "),
    _body("a comment", b'{"amount":"1","scale":0}//', "the body is not JSON: "),
    _body("single quotes", b"{'amount':'1','scale':0}", "the body is not JSON: "),
    _body("a bare NaN", b'{"amount":"1","scale":NaN}', "the body is not JSON: "),
    _body("a bare Infinity", b'{"amount":"1","scale":-Infinity}', "the body is not JSON: "),
    _body("a byte order mark", b"\xef\xbb\xbf" + GOOD, "the body is not JSON: "),
    _body("UTF-16", GOOD.decode().encode("utf-16"), "the body is not JSON: "),
    _body("bytes that are no text", b'{"amount":"\xff","scale":0}', "the body is not JSON: "),
    _body("a lone surrogate", b'{"amount":"\\ud800","scale":0}', "amount must hold digits only"),
    _body("a number beyond floats", b'{"amount":"1","scale":1e999}', "scale must be an integer, got a number"),
    _body("a scale of 5,000 digits", b'{"amount":"1","scale":1%s}' % (b"0" * 5000), "a number of thousands of digits"),
    _body("a nested bomb of arrays", b"[" * 8000, "nested too deeply"),
    _body("a nested bomb of objects", b'{"amount":' * 1500, "nested too deeply"),
    _body("a closed bomb", b"[" * 8000 + b"]" * 8000, "nested too deeply"),
    _body("a bomb beside a quantity", GOOD[:-1] + b',"x":' + b"[" * 6000 + b"]" * 6000 + b"}", "nested too deeply"),
    _body("an amount given twice", b'{"amount":"1","amount":"2","scale":0}', "the body is not JSON: "),
    _body("a scale given twice", b'{"amount":"1","scale":0,"scale":0}', "the body is not JSON: "),
]

CREATIONS = [
    _creation("a number for id", b'{"id":1}', "invalid account id: it must be a string"),
    _creation("a list for id", b'{"id":["alice"]}', "invalid account id: it must be a string"),
    _creation("false for id", b'{"id":false}', "invalid account id: it must be a string"),
    _creation("a colon", b'{"id":"a:b"}', IDS),
    _creation("a slash", b'{"id":"a/b"}', IDS),
    _creation("a newline", b'{"id":"bob\\n"}', IDS),
    _creation("a bad accountId", b'{"accountId":"a b"}', IDS),
    _creation("a long id", b'{"id":"%s"}' % (b"a" * 129), LONG),
    _creation("dots", b'{"id":".."}', "invalid account id: a dot segment cannot stand in a URL path"),
    _creation("an array for the account", b'["bob"]', 'expected a JSON object such as {"id":"alice"}'),
    _creation("a text for the account", b'"bob"', 'expected a JSON object such as {"id":"alice"}'),
    _creation("nothing for the account", b"", "the body is not JSON: "),
    _creation("an id given twice", b'{"id":"bob","id":"carol"}', "the body is not JSON: "),
]


def _key(why: str, detail: str, *keys: str | bytes) -> Bad:
    return Bad(why, 400, detail, headers=(JSON, *((b"idempotency-key", _latin(key)) for key in keys)))


def _latin(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")


KEYS = [
    _key("no key", "exactly one Idempotency-Key header is needed, found 0; nothing was recorded"),
    _key("two keys", "exactly one Idempotency-Key header is needed, found 2; nothing was recorded", "a", "b"),
    _key("the same key twice", "exactly one Idempotency-Key header is needed, found 2", "a", "a"),
    _key("an empty key", "invalid Idempotency-Key: it is empty", ""),
    _key("a blank key", "invalid Idempotency-Key: it is empty", "  "),
    _key("a key of 256 bytes", "invalid Idempotency-Key: it is longer than 255 bytes", "k" * 256),
    _key("a NUL in the key", "invalid Idempotency-Key: it holds control characters", b"a\x00b"),
    _key("a tab in the key", "invalid Idempotency-Key: it holds control characters", b"a\tb"),
    _key("a C1 control in the key", "invalid Idempotency-Key: it holds control characters", b"a\x85b"),
]


def _typed(why: str, *types: str, target: str = SETTLE, expected: str = "application/json") -> Bad:
    detail = f"Content-Type must be {expected}; nothing was recorded"
    headers = (KEY, *(("content-type", value) for value in types))
    return Bad(why, 415, detail, target=target, headers=headers)


OCTET_STREAM = "application/octet-stream"
TYPES = [
    _typed("no content type"),
    _typed("a form", "application/x-www-form-urlencoded"),
    _typed("text, as a web page may send unasked", "text/plain"),
    _typed("another JSON", "application/problem+json"),
    _typed("two content types", "application/json", "application/json"),
    _typed("two in one", "text/plain, application/json"),
    _typed("an empty content type", ""),
    _typed("a creation as a form", "multipart/form-data; boundary=x", target="/accounts"),
    _typed("a message as JSON", "application/json", target=MESSAGES, expected=OCTET_STREAM),
    _typed("a message without a type", target=MESSAGES, expected=OCTET_STREAM),
]

SETTLING = f"this path takes POST, not {'{}'}"
METHODS = [
    Bad(f"{method} {target}", 405, SETTLING.format(method), method, target, (), b"")
    for method in ("GET", "PUT", "PATCH", "OPTIONS", "DELETE", "BREW")
    for target in ("/accounts", SETTLE, MESSAGES)
] + [
    Bad(f"{method} an account", 405, f"this path takes DELETE, not {method}", method, "/accounts/alice", (), b"")
    for method in ("GET", "HEAD", "POST", "PUT")
]

UNKNOWN = [
    Bad("settling of nobody", 404, "account 'nobody' does not exist", target="/accounts/nobody/settlements"),
    Bad("a message of nobody", 404, "account 'nobody'", target="/accounts/nobody/messages", headers=(OCTETS,)),
    Bad("deleting nobody", 404, "account 'nobody' does not exist", "DELETE", "/accounts/nobody", ()),
    Bad("settling of a deleted account", 404, "account 'gone' does not exist", target="/accounts/gone/settlements"),
    Bad("an id of 128 characters", 404, "does not exist", target=f"/accounts/{'a' * 128}/settlements"),
]


@dataclass
class Listening(MinimalEngine):
    """Counts every call."""

    heard: list[object] = field(default_factory=list)

    async def handle_message(self, account_id: str, message: object) -> object:
        """Take note."""
        self.heard.append(message)
        return message


async def _with_money(client: Client, world: World) -> None:
    """Give the books something to lose."""
    for name in ("alice", "gone"):
        await client.create(name)
        await client.settle("5", 0, "before", name)
        await until(lambda name=name: world.account(name).outgoing.settled == 5)  # type: ignore[misc]
    await client.request("DELETE", "/accounts/gone")


@pytest.mark.parametrize("bad", PATHS + QUANTITIES + NO_JSON + CREATIONS + KEYS + TYPES + METHODS + UNKNOWN, ids=str)
async def test_bad_input_is_answered_with_a_sentence_and_changes_nothing(bad: Bad) -> None:
    """The books are the same row by row before and after, the engine is not called, and a good request still works."""
    world = World(Listening())
    async with serving(world) as client:
        await _with_money(client, world)
        kept, calls = books(world.store), len(world.engine.calls)
        answer = await client.request(bad.method, bad.target, *bad.headers, body=bad.body)
        assert answer.status == bad.status
        assert bad.detail in answer.detail()
        assert books(world.store) == kept
        assert (len(world.engine.calls), world.engine.heard) == (calls, [])
        assert (await client.settle("1", 0, "afterwards")).status == 201
        await until(lambda: world.account().outgoing.settled == 6)
    assert sum(world.engine.paid, D(0)) == 11


@pytest.mark.parametrize("bad", METHODS, ids=str)
async def test_a_wrong_method_is_told_the_right_one(bad: Bad) -> None:
    """`Allow` names it."""
    async with serving(World(MinimalEngine())) as client:
        answer = await client.request(bad.method, bad.target)
        assert answer.header("allow") == ("DELETE" if bad.target == "/accounts/alice" else "POST")


@pytest.mark.parametrize(
    ("amount", "scale", "key"),
    [
        ("9" * 1000, 0, "k"),
        ("9" * 1000, 255, "k"),
        ("1", 255, "k"),
        ("0" * 999 + "1", 0, "k"),
        ("1", 0, "k" * 255),
        ("1", 0, "spaces, colons: and \xe9 are fine"),
        ("1", 0, "0x" + "ab" * 32),
    ],
)
async def test_what_is_just_within_the_bounds_is_taken_to_the_last_digit(amount: str, scale: int, key: str) -> None:
    """The limits belong to the good side."""
    world = World(MinimalEngine())
    async with serving(world) as client:
        await client.create("a" * 128)
        answer = await client.settle(amount, scale, key, "a" * 128)
        assert answer.status == 201
        assert answer.json() == {"amount": amount.lstrip("0"), "scale": scale}
        await until(lambda: world.engine.paid != [])
        (account,) = await client.core.ask(Overview())
    (paid,) = world.engine.paid
    assert paid == account.outgoing.entered == D((0, tuple(map(int, amount)), -scale))


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/account",
        "/ACCOUNTS",
        "/accounts/alice/settlement",
        "/accounts/alice/settlements/1",
        "/accounts/alice/",
        "/accounts/alice/Settlements",
        "/accounts/alice/settlements%2F",
        "/v1/accounts",
        "*",
        "http://engine/nothing",
        b"/\xff\xfe",
        b"/accounts/../accounts",
        "/%00",
    ],
)
@pytest.mark.parametrize("method", ["POST", "GET", "DELETE", "OPTIONS"])
async def test_what_is_no_path_of_ours_is_none(method: str, target: str | bytes) -> None:
    """404 or 405 from the app behind, never a 5xx, and nothing changes."""
    world = World(Listening())
    async with serving(world) as client:
        await _with_money(client, world)
        kept = books(world.store)
        answer = await client.request(method, target, JSON, KEY, body=GOOD)
        if (method, target) != ("DELETE", "/accounts/alice/"):
            assert answer.status in {400, 404, 405}
            assert books(world.store) == kept
