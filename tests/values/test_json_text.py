"""JSON is strict in both directions: what is accepted can always be written again."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from settlement_core.values.json_text import MAX_DEPTH, decode_json, encode_json, is_too_deep

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(values)
def test_a_value_comes_back_as_it_was(value: object) -> None:
    """NUL and huge integers included."""
    written = encode_json(value)
    assert written.isascii()
    assert decode_json(written) == value
    assert decode_json(written.encode()) == value


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "it is not JSON: Expecting value at character 0"),
        ("{", "it is not JSON: Expecting property name enclosed in double quotes at character 1"),
        ("[1] 2", "it is not JSON: Extra data at character 4"),
        ("[NaN]", "it holds NaN, which is not JSON"),
        ("-Infinity", "it holds -Infinity, which is not JSON"),
        ("1e999", "it holds a number too large"),
        (b"\xff\xfe\xfd", "it is not UTF-8"),
        ("[" * 200_000, "it is nested too deeply"),
    ],
)
def test_what_is_not_json_is_refused_in_one_sentence(text: str | bytes, sentence: str) -> None:
    """Never by an error that only the parser's author understands."""
    with pytest.raises(ValueError) as caught:
        decode_json(text)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("value", [float("nan"), float("inf"), Decimal(1), {1, 2}, b"x", {(1, 2): 3}])
def test_what_json_cannot_hold_is_refused_in_one_sentence(value: object) -> None:
    """Nothing is turned into something else on the way."""
    with pytest.raises(ValueError, match="^it cannot be written as JSON: "):
        encode_json(value)


BOMBS = ["[" * 50_000, '{"a":' * 20_000, "[" * 50_000 + "]" * 50_000, '{"b":"\\"[",' + '"a":[' * 20_000]


@pytest.mark.parametrize("bomb", BOMBS, ids=["open", "objects", "closed", "mixed"])
@pytest.mark.parametrize("limit", [1000, 100_000])
def test_nesting_is_bounded_by_us_and_not_by_the_interpreter(limit: int, bomb: str) -> None:
    """Libraries raise its recursion limit, and a parser that goes on until the stack ends takes the process with it."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(limit)
    try:
        with pytest.raises(ValueError, match="nested too deeply"):
            decode_json(bomb)
    finally:
        sys.setrecursionlimit(before)


def test_what_nests_as_deep_as_allowed_is_taken() -> None:
    """To the level."""
    deepest = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert decode_json(deepest) is not None
    with pytest.raises(ValueError, match="nested too deeply"):
        decode_json(f"[{deepest}]")


def test_a_bracket_that_ends_gives_back_one_level_only() -> None:
    """Deep in a value, as at its surface."""
    rises = "[" * (MAX_DEPTH - 50) + "[]," + "[" * 50
    assert not is_too_deep(rises)
    assert is_too_deep(f"{rises}[")


def test_half_a_character_becomes_its_escape_in_bytes_and_escapes() -> None:
    """Other languages write half a character in either way; no JSON reader, store or page has to take it from us."""
    assert decode_json(b'"\xed\xa0\x80"') == decode_json(r'"\ud800"') == decode_json(r'"\uD800"') == r"\ud800"
    assert encode_json("\ud800") == r'"\\ud800"'
    assert decode_json(r'"\ud83d\ude00"') == "\U0001f600"
    assert decode_json(encode_json("\U0001f600")) == "\U0001f600"


def test_members_stay_apart_whose_names_hold_half_a_character() -> None:
    """A member that already has the name of another one's escape is not overwritten."""
    taken = decode_json(r'{"\ud800":1,"\\ud800":2,"\ud801":3}')
    assert list(taken.values()) == [1, 2, 3]
    assert decode_json(encode_json(taken)) == taken


any_text = st.text(st.characters(codec=None))
any_values = st.recursive(
    st.none() | st.integers() | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
)


@given(any_values)
def test_json_from_outside_comes_out_as_whole_characters(value: object) -> None:
    """Whatever strings hold: written by us or by others, it is UTF-8, of the same shape, and does not change again."""
    taken = decode_json(json.dumps(value))
    assert taken == decode_json(encode_json(value)) == decode_json(json.dumps(value, ensure_ascii=False))
    json.dumps(taken, ensure_ascii=False).encode()
    assert decode_json(encode_json(taken)) == taken


def _depth(text: str) -> int:
    """Return how deep JSON nests, one character after the other."""
    deepest = depth = 0
    quoted = escaped = False
    for char in text:
        if quoted:
            quoted, escaped = escaped or char != '"', not escaped and char == "\\"
        elif char == '"':
            quoted = True
        else:
            depth += (char in "[{") - (char in "]}")
            deepest = max(deepest, depth)
    return deepest


@given(st.text('[]{}"\\a', max_size=60), st.integers(MAX_DEPTH - 5, MAX_DEPTH), any_values)
def test_depth_is_counted_outside_of_strings(noise: str, outside: int, value: object) -> None:
    """Brackets, quotes and backslashes in strings, in any order, nest nothing and hide nothing."""
    text = "[" * outside + json.dumps([noise, value]) + json.dumps({noise: noise})
    assert is_too_deep(text) == (_depth(text) > MAX_DEPTH)


def test_brackets_in_strings_nest_nothing() -> None:
    """However many, and whatever is escaped; nor do many arrays side by side. A string without an end is no JSON."""
    text = json.dumps(["[{" * 1000, 'a "quoted" \\ [' * 1000, [[]] * 1000])
    assert decode_json(text) == json.loads(text)
    with pytest.raises(ValueError, match="it is not JSON"):
        decode_json('["' + '\\"[' * 50_000)


def test_a_value_that_holds_itself_cannot_be_written() -> None:
    """In an array, an object, or one within the other."""
    endless: list[object] = []
    endless.append({"again": (endless,)})
    for value in (endless, {"deep": endless}):
        with pytest.raises(ValueError) as caught:
            encode_json(value)
        assert str(caught.value) == "it cannot be written as JSON: it is nested too deeply"


@pytest.mark.parametrize("shape", [list, tuple, lambda inside: {"a": inside[0]}], ids=["array", "tuple", "object"])
def test_a_value_is_written_as_deep_as_it_is_read(shape: Callable[[list[object]], object]) -> None:
    """To the level, whatever it is made of."""
    value: object = 1
    for _ in range(MAX_DEPTH):
        value = shape([value])
    assert decode_json(encode_json(value)) is not None
    with pytest.raises(ValueError, match="^it cannot be written as JSON: it is nested too deeply$"):
        encode_json([value])
