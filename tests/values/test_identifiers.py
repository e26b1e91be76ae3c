"""Identifiers are checked once, at the edge (RFC 38, "Accounts and identifiers")."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from settlement_core.values.errors import InvalidIdentifier
from settlement_core.values.identifiers import check_account_id, check_key, check_value_key


@pytest.mark.parametrize("account_id", ["a", "AZaz09._~-", "...", "-", "x" * 128, "f2e3-44"])
def test_ids_of_unreserved_characters_are_account_ids(account_id: str) -> None:
    """Everything that stands in a URL as it is may name an account."""
    assert check_account_id(account_id) == account_id


@pytest.mark.parametrize(
    ("account_id", "problem"),
    [
        (None, "it must be a string"),
        (5, "it must be a string"),
        ("", "it is empty"),
        ("x" * 129, "it is longer than 128 characters"),
        (".", "a dot segment cannot stand in a URL path"),
        ("..", "a dot segment cannot stand in a URL path"),
        *(
            (account_id, "only letters, digits and . _ ~ - are allowed")
            for account_id in ("a/b", "a b", "a\n", "é", "a%20b", "{a}", "a:b", "a?b", "a\x00", "\u0661", "a\u200b")
        ),
    ],
)
def test_other_account_ids_are_refused_in_one_sentence(account_id: object, problem: str) -> None:
    """Nothing that could escape from a URL path, a key of a database or a log line gets in."""
    with pytest.raises(InvalidIdentifier) as caught:
        check_account_id(account_id)
    assert str(caught.value) == f"invalid account id: {problem}"
    assert (caught.value.what, caught.value.problem) == ("account id", problem)


@given(st.text(max_size=6))
def test_an_account_id_stands_in_a_url_as_it_is(text: str) -> None:
    """Whatever passes needs no quoting."""
    try:
        account_id = check_account_id(text)
    except InvalidIdentifier:
        return
    assert quote(account_id, safe="") == account_id


@pytest.mark.parametrize("key", ["1", "0xabc:12", "k" * 255, "é" * 127, "a b", " a", "{}", "🙂"])
def test_any_visible_text_of_255_bytes_is_a_key(key: str) -> None:
    """Connectors choose their idempotency keys."""
    assert check_key(key, "idempotency key") == key


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        (None, "it must be a string"),
        (b"k", "it must be a string"),
        ("", "it is empty"),
        ("  ", "it is empty"),
        ("a\nb", "it holds control characters"),
        ("a\x00", "it holds control characters"),
        ("a\x85", "it holds control characters"),
        ("a\u2028", "it holds control characters"),
        ("a\ud800", "it holds control characters"),
        ("k" * 256, "it is longer than 255 bytes"),
        ("é" * 128, "it is longer than 255 bytes"),
    ],
)
def test_other_keys_are_refused_in_one_sentence(key: object, problem: str) -> None:
    """Nothing that breaks a line of a log or cannot be written as UTF-8."""
    with pytest.raises(InvalidIdentifier) as caught:
        check_key(key, "settlement id")
    assert str(caught.value) == f"invalid settlement id: {problem}"


def test_key_of_an_engine_value_is_any_whole_text() -> None:
    """Of any length; only what no store can keep is refused, since its escape could be another key."""
    for key in ("", "cursor", "k" * 1000, "address 0x1\n", "\0", "\U0001f600", r"\ud800"):
        assert check_value_key(key) == key
    refused: list[tuple[object, str]] = [(None, "it must be a string"), ("a\ud800", "it holds half a character")]
    for bad, problem in refused:
        with pytest.raises(InvalidIdentifier) as caught:
            check_value_key(bad)
        assert str(caught.value) == f"invalid key of an engine value: {problem}"
