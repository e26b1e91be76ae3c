"""What an HTTP answer says to a person: a problem's own words if it has any, else its text, in one harmless line."""

from __future__ import annotations

import pytest

from settlement_core.values.answers import MAX_EXCERPT, named, one_line, words_of

PROBLEM = "application/problem+json"


@pytest.mark.parametrize(
    ("content_type", "body", "words"),
    [
        (PROBLEM, b'{"title": "Not Found", "detail": "no such account"}', "no such account"),
        (PROBLEM, b'{"title": "Not Found", "detail": " "}', "Not Found"),
        ("application/json", b'{"error": "busy", "detail": 7}', "busy"),
        ("application/json", b'{"code": 7}', '{"code": 7}'),
        ("application/json", b"[1]", "[1]"),
        ("application/json", b"{broken", "{broken"),
        ("text/plain", "no: é".encode(), "no: é"),
        # the excerpt that was read may end within a character
        ("text/plain", "no: é".encode()[:-1], "no: "),
        ("application/octet-stream", b"\xff\xfe\xfd", "3 bytes that are not text"),
    ],
)
def test_a_problem_says_what_is_wrong_in_its_own_words(content_type: str, body: bytes, words: str) -> None:
    """JSON without any is quoted as it is, and so is text; bytes are counted."""
    assert words_of(content_type, body) == words


def test_nothing_in_an_answer_moves_a_cursor_or_fills_a_screen() -> None:
    """Line breaks, terminal codes and text from right to left become spaces, and spaces one."""
    assert one_line("a\n\n b\x1b[2J\u202ec\t") == "a b [2J c"
    assert len(one_line("x" * 1_000_000)) <= 50 * MAX_EXCERPT


def test_a_status_has_its_own_name() -> None:
    """Whatever the server calls it; one that nobody defined has none."""
    assert named(404) == "404 Not Found"
    assert named(799) == "status 799"
