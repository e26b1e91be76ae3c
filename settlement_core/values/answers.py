"""What an HTTP answer says to a person: one short line that cannot move a cursor, hide text or fill a screen."""

from __future__ import annotations

import codecs
import re
import unicodedata
from http import HTTPStatus
from typing import Final

from settlement_core.values.json_text import decode_json

__all__ = ["MAX_EXCERPT", "named", "one_line", "words_of"]

MAX_EXCERPT: Final = 200
"""Characters of an answer that are quoted to a person."""


def words_of(content_type: str, body: bytes) -> str:
    """Return what an answer says to a person: a problem's detail or title, else its text."""
    if "json" in content_type.lower():
        try:
            value = decode_json(body)
        except ValueError:
            value = None
        if isinstance(value, dict):
            told = (value.get(name) for name in ("detail", "title", "message", "error"))
            found = next((text for text in told if isinstance(text, str) and text.strip()), None)
            if found is not None:
                return found
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(body)  # its end may be cut off
    except UnicodeDecodeError:
        return f"{len(body)} bytes that are not text"


def one_line(text: str) -> str:
    """Replace everything that moves a cursor, hides or reorders text, and collapse white space."""
    visible = (" " if unicodedata.category(char)[0] in "CZ" else char for char in text[: 50 * MAX_EXCERPT])
    return re.sub(r" +", " ", "".join(visible)).strip()


def named(status: int) -> str:
    """Return the status with its own name, not the one the server gives it."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"status {status}"
