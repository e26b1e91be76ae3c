r"""Text from outside, as every store, JSON reader and page can take it.

A string may hold half a character (a lone UTF-16 surrogate): JSON escapes, file names and errors about them bring it.
UTF-8 has no bytes for it, so an answer or a row with it could not be written. There is one rule: in text that is for
people, and within JSON values, half a character becomes its escape, such as `\ud800`, in visible letters. Identifiers
that hold one are refused instead (`check_key`), since two must not become one.
"""

from __future__ import annotations

from typing import Any

__all__ = ["visible_text", "whole_text", "whole_value"]


def whole_text(text: object) -> str:
    """Return text for people, with half characters and NUL, at which SQLite's own functions end text, as escapes."""
    written = str(text)
    if written.isascii() and "\0" not in written:
        return written
    return _escaped(written).replace("\0", r"\x00")


def visible_text(text: object) -> str:
    """Return text as one line that no character hides or reorders: what is not printable becomes a space."""
    written = str(text)
    return written if written.isprintable() else "".join(char if char.isprintable() else " " for char in written)


def whole_value(value: Any) -> Any:
    """Return a copy of a JSON value with half characters as escapes, in strings and in the names of members."""
    if isinstance(value, str):
        return value if value.isascii() else _escaped(value)
    if isinstance(value, dict):
        whole: dict[Any, Any] = {}
        for name, part in value.items():
            written = whole_value(name)
            while written in whole:
                written = f"\\{written}"  # two members must not become one
            whole[written] = whole_value(part)
        return whole
    if isinstance(value, list | tuple):
        return [whole_value(part) for part in value]
    return value


def _escaped(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
