"""What peers say to prove their addresses: the Rust engine's bytes, and our own signatures, down to each field."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from settlement_core.engines.ethereum.config import SigningKey
from settlement_core.engines.ethereum.handshake import (
    Asset,
    Challenge,
    Introduction,
    Proof,
    Side,
    refusal,
    refused_because,
    step_of,
)
from settlement_core.engines.ethereum.rust_handshake import (
    MAX_CHALLENGE,
    RustAnswer,
    new_challenge,
    read_challenge,
    rust_request,
    sign_challenge,
)
from settlement_core.engines.ethereum.signatures import Signature
from settlement_core.values.json_text import decode_json, encode_json

# The vector of the Rust engine's handshake (WIRE 6.3), made without any of the libraries used here.
CHALLENGE = b"8c3a1f4e-2f0b-4d0a-9d2e-5f6c7b8a9d01"
REQUEST = (
    '{"challenge":[56,99,51,97,49,102,52,101,45,50,102,48,98,45,52,100,48,97,45,57,100,50,101,45,53,102,54,99,55,98,56,'
    "97,57,100,48,49]}"
)
ALICE = SigningKey("0x380eb0f3d505f087e438eca80bc4df9a7faa24f868e69fc0440261a0fc0567dc")
BOB = SigningKey("0xcc96601bc52293b53c4736a12af9130abf347669b3813f9ec4cafdf6991b087e")
SIGNATURES = {
    ALICE: Signature(
        28,
        0x725C99C5A9398C91EA96496BBDE04D6D4424EACB2C122BBF13DE70F910C326FA,
        0x7D8B56FDA7A7767F1674733C7692A77D2424338961D41DC8F27F4AD9C35B33B6,
    ),
    BOB: Signature(
        27,
        0x88A0688FAFC11157769F7BB1B9B9E66CA61E475A7DDBEE2B7C31401B3EA8A99A,
        0x334E390E6CD3486DC670B66F915D60831F5F8ED7B0698D447952F5BEF7AED9DA,
    ),
}
BOBS_ANSWER = (
    '{"to":{"own_address":"0x9b925641c5ef3fd86f63bff2da55a0deeafd1263","token_address":null},'
    '"signature":{"v":[27],"r":[136,160,104,143,175,193,17,87,118,159,123,177,185,185,230,108,166,30,71,90,125,219,238,'
    '43,124,49,64,27,62,168,169,154],"s":[51,78,57,14,108,211,72,109,198,112,182,111,145,93,96,131,31,95,142,215,176,'
    '105,141,68,121,82,245,190,247,174,217,218]},"challenge":null}'
)
TOKEN = "0x" + "ab" * 20

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""Of the curve: r and s are below it."""


# the Rust engine's


def test_our_request_and_answer_are_the_rust_engines_to_the_byte() -> None:
    """As the service sends them: the text of the published vector."""
    assert encode_json(rust_request(CHALLENGE)) == REQUEST
    assert encode_json(sign_challenge(BOB, None, CHALLENGE, ask=None)) == BOBS_ANSWER


def test_the_rust_engines_request_and_answer_are_understood() -> None:
    """And its signature is found to be its address's."""
    assert read_challenge(decode_json(REQUEST)) == CHALLENGE
    answer = RustAnswer.read(decode_json(BOBS_ANSWER))
    assert answer == RustAnswer(BOB.address, None, SIGNATURES[BOB], None)
    answer.check(CHALLENGE)


@pytest.mark.parametrize("key", [ALICE, BOB], ids=["v=28", "v=27"])
def test_signatures_are_those_of_another_implementation(key: SigningKey) -> None:
    """Made and recovered, with both values of v."""
    answer = RustAnswer.read(sign_challenge(key, None, CHALLENGE, ask=b"x"))
    assert (answer.signature, answer.challenge) == (SIGNATURES[key], b"x")
    answer.check(CHALLENGE)


def test_a_signature_is_of_one_challenge_by_one_address() -> None:
    """For another challenge, or in another name, it is refused."""
    answer = RustAnswer.read(decode_json(BOBS_ANSWER))
    with pytest.raises(ValueError, match="was signed by 0x"):
        answer.check(CHALLENGE + b"x")
    with pytest.raises(ValueError, match="not by the 0x3cdb3d9e1b74692bb1e3bb5fc81938151ca64b02"):
        replace(answer, address=ALICE.address).check(CHALLENGE)


@pytest.mark.parametrize(("name", "number"), [("r", 267), ("s", 0)])
def test_leading_zeros_are_left_out_and_may_be_there(name: str, number: int) -> None:
    """About one signature in 128 has a short r or s: 31 bytes are sent, and 31 are taken as well as 32."""
    challenge = b"%036d" % number
    message = sign_challenge(ALICE, None, challenge, ask=None)
    short = message["signature"][name]
    assert (len(short), short[0] == 0) == (31, False)
    RustAnswer.read(message).check(challenge)
    padded = {**message["signature"], name: [0, *short], "v": [0, *message["signature"]["v"]]}
    RustAnswer.read(message | {"signature": padded}).check(challenge)


def test_whatever_asks_is_a_request() -> None:
    """An answer that asks back is one too: the Rust engine looks for a challenge first."""
    message = sign_challenge(BOB, TOKEN, CHALLENGE, ask=b"back")
    assert read_challenge(message) == b"back"
    assert RustAnswer.read(message).token == TOKEN
    silent: list[Any] = [{}, {"challenge": None}, [], "RECEIVED", None, 7]
    for quiet in silent:
        assert read_challenge(quiet) is None


def test_a_missing_token_is_ether_and_addresses_are_taken_in_any_case() -> None:
    """As the Rust engine writes or omits them."""
    message = decode_json(BOBS_ANSWER)
    message["to"] = {"own_address": "0x9B925641C5EF3FD86F63BFF2DA55A0DEEAFD1263"}
    answer = RustAnswer.read(message)
    assert (answer.address, answer.token) == (BOB.address, None)
    answer.check(CHALLENGE)


def test_every_challenge_is_another() -> None:
    """36 bytes, the text of a UUID."""
    made = {new_challenge() for _ in range(100)}
    assert len(made) == 100
    assert {len(challenge) for challenge in made} == {36}


def spoil(path: str, value: Any) -> Callable[[], Any]:
    """Return bob's answer with one place changed; `...` removes it."""

    def spoiled() -> Any:
        message = decode_json(BOBS_ANSWER)
        *parents, name = path.split(".")
        place = message
        for parent in parents:
            place = place[parent]
        if value is ...:
            del place[name]
        else:
            place[name] = value
        return message

    return spoiled


NOTHING: list[Any] = ["x", 7, [], True]
NOT_BYTES: list[Any] = [None, [], [256], [-1], [True], [1.0], ["1"], "1", [1] * 33]


@pytest.mark.parametrize(
    "spoiled",
    [
        *(spoil(path, ...) for path in ("to", "signature", "to.own_address", "signature.v", "signature.r")),
        *(spoil(path, wrong) for path in ("to", "signature", "challenge") for wrong in NOTHING),
        *(spoil("signature.s", wrong) for wrong in NOT_BYTES),
        *(
            spoil("to.own_address", wrong)
            for wrong in (None, 7, "", BOB.address[2:], BOB.address + "0", "0x" + "g" * 40)
        ),
        *(spoil("to.token_address", wrong) for wrong in NOTHING),
        spoil("challenge", [1] * (MAX_CHALLENGE + 1)),
    ],
)
def test_a_malformed_answer_is_refused_with_a_sentence(spoiled: Callable[[], Any]) -> None:
    """Whatever is wrong, reading it raises ValueError and nothing else."""
    with pytest.raises(ValueError, match=r"^[a-z].*[a-z0-9]$"):
        RustAnswer.read(spoiled())


# our own

INTRODUCTION = Introduction(
    "welcome",
    Asset(31_337, TOKEN),
    Side(BOB.address, "account-with-alice"),
    Challenge("0x" + "0b" * 32, 1_790_000_600),
    SIGNATURES[BOB],
)
PROOF = Proof(
    asset=Asset(31_337, None),
    step="proof",
    signer=Side(ALICE.address, "account-with-bob"),
    signer_nonce="0x" + "0a" * 32,
    verifier=Side(BOB.address, "account-with-alice"),
    challenge=Challenge("0x" + "0b" * 32, 1_790_000_600),
)


def test_what_is_written_is_read() -> None:
    """Of every step."""
    for step in ("hello", "welcome", "proof"):
        said = replace(INTRODUCTION, step=step, signature=None if step == "hello" else INTRODUCTION.signature)
        text = encode_json(said.to_json())
        assert Introduction.read(decode_json(text)) == said
        assert step_of(decode_json(text)) == step


def test_the_signature_of_a_proof_never_changes() -> None:
    """Engines of different versions meet: these bytes are what the first version signed."""
    assert PROOF.sign(ALICE).to_hex() == (
        "0x0518eb0f20e8850c0874011659df5138e4cab7d228ad462d7bc442401461238b"
        "5810e7804a0c9206ed11ca217c400552e48c1b9982fdc04f67bcd73596142455"
        "1c"
    )


OTHERS: list[Proof] = [
    replace(PROOF, asset=Asset(1, None)),
    replace(PROOF, asset=Asset(31_337, TOKEN)),
    replace(PROOF, step="welcome"),
    replace(PROOF, signer=Side(ALICE.address, "another")),
    replace(PROOF, signer_nonce="0x" + "0c" * 32),
    replace(PROOF, verifier=Side(BOB.address, "another")),
    replace(PROOF, verifier=Side("0x" + "cc" * 20, PROOF.verifier.account_id)),
    replace(PROOF, challenge=replace(PROOF.challenge, nonce="0x" + "0c" * 32)),
    replace(PROOF, challenge=replace(PROOF.challenge, expires=1_790_000_601)),
    replace(PROOF, signer=Side(BOB.address, PROOF.signer.account_id)),
    # the border between two texts is part of what is signed
    replace(PROOF, signer=Side(ALICE.address, "account-with-boba"), verifier=Side(BOB.address, "ccount-with-alice")),
]


@pytest.mark.parametrize("other", OTHERS)
def test_a_proof_is_of_exactly_what_it_says(other: Proof) -> None:
    """With chain, token, step, an address, an account, a nonce or the time changed, the signature is not for it."""
    signature = PROOF.sign(ALICE)
    PROOF.check(signature)
    with pytest.raises(ValueError, match="not that of its address"):
        other.check(signature)


@pytest.mark.parametrize(
    ("v", "r", "s"),
    [
        *((v, 5, 5) for v in (0, 1, 26, 29, 37, 255)),
        *((27, r, 5) for r in (0, ORDER, ORDER + 1, 2**256 - 1)),
        *((28, 5, s) for s in (0, ORDER, ORDER + 1, 2**256 - 1)),
    ],
)
def test_numbers_that_are_no_signature_are_refused(v: int, r: int, s: int) -> None:
    """Out of range, in each of the three."""
    with pytest.raises(ValueError, match="the signature"):
        Signature(v, r, s).signer(b"\x01" * 32)


def test_a_signature_is_written_in_65_bytes() -> None:
    """And anything else is not read."""
    written = SIGNATURES[BOB].to_hex()
    assert Signature.from_hex(written) == SIGNATURES[BOB]
    for wrong in (None, 7, "", written[2:], written + "00", written[:-2], written.upper(), "0x" + "g" * 130):
        with pytest.raises(ValueError, match="65 bytes"):
            Signature.from_hex(wrong)


WRONG: dict[str, list[Any]] = {
    "version": [None, 0, 2, "1"],
    "chain_id": [None, -1, 1.0, "1", True, 2**63],
    "token": ["", "0x", 7, TOKEN[:-1]],
    "address": [None, "", 7, [], BOB.address[2:]],
    "account": [None, "", "a b", "x" * 129, "a/b", 7],
    "nonce": [None, "", "0x" + "0B" * 32, "0x" + "0b" * 31, 7],
    "expires": [None, -1, 1.5, "1", 2**63],
    "signature": [None, "", "0x", 7],
    "step": [None, "bound", "", 7, "Hello", ["hello"]],
    "type": [None, "", "paymentDetails", 7],
}


@pytest.mark.parametrize(("name", "wrong"), [(name, wrong) for name, wrongs in WRONG.items() for wrong in wrongs])
def test_a_malformed_introduction_is_refused_with_a_sentence(name: str, wrong: Any) -> None:
    """Whatever is wrong, reading it raises ValueError and nothing else."""
    with pytest.raises(ValueError, match=r"[a-z]"):
        Introduction.read(INTRODUCTION.to_json() | {name: wrong})


def test_a_refusal_carries_its_reason_and_no_more() -> None:
    """However long or strange it is; nothing else is a refusal."""
    assert refused_because(refusal("no")) == "no"
    assert len(refused_because(refusal("x" * 10_000)) or "") == 300
    assert refused_because(refusal("no\n\x1b[31mINFO all is well")) == "no??[31mINFO all is well"
    assert refused_because({"type": "ethereumPeer", "step": "refused"}) == "None"
    for other in (INTRODUCTION.to_json(), "refused", None, {"step": "refused", "reason": "no"}):
        assert refused_because(other) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)
BYTES = st.lists(st.integers(-1, 256), max_size=34)
ANSWERS = st.fixed_dictionaries(
    {},
    optional={
        "to": st.fixed_dictionaries({}, optional={"own_address": st.just(BOB.address) | JSON, "token_address": JSON}),
        "signature": st.fixed_dictionaries({}, optional={"v": BYTES | JSON, "r": BYTES | JSON, "s": BYTES | JSON}),
        "challenge": BYTES | JSON,
    },
)
INTRODUCTIONS = st.fixed_dictionaries({}, optional=dict.fromkeys(INTRODUCTION.to_json(), JSON)).map(
    lambda changes: INTRODUCTION.to_json() | changes
)


@settings(max_examples=300, deadline=None)
@given(JSON | ANSWERS | INTRODUCTIONS)
def test_nothing_that_is_json_breaks_the_reading(message: Any) -> None:
    """It is understood, or ValueError is raised; and what is understood as a proof is not one of anybody's."""
    for read in (read_challenge, RustAnswer.read, Introduction.read):
        with suppress(ValueError):
            read(message)
    try:
        answer = RustAnswer.read(message)
    except ValueError:
        return
    with pytest.raises(ValueError, match=r"signature|signed"):
        answer.check(CHALLENGE)
