"""Output that every terminal takes: where its encoding has no sign for a character, ASCII stands for it."""

from __future__ import annotations

import codecs
import sys

__all__ = ["accept_any_encoding", "representable"]

_ERRORS = "settlement_core.ascii"

_ASCII = "settlement_core_ascii"
"""ASCII under another name: click takes streams of the usual one for misconfigured, and writes UTF-8 to them."""

_IN_ASCII = {"…": "...", "→": "->", "·": "-"}
"""What we write ourselves; all else becomes its escape, of which nothing is lost."""


def _in_ascii(problem: UnicodeError) -> tuple[str, int]:
    assert isinstance(problem, UnicodeEncodeError)
    missing = problem.object[problem.start : problem.end]
    signs = (_IN_ASCII.get(sign) or sign.encode("ascii", "backslashreplace").decode() for sign in missing)
    return "".join(signs), problem.end


def _find_codec(name: str) -> codecs.CodecInfo | None:
    if name != _ASCII:
        return None
    known = codecs.lookup("ascii")
    return codecs.CodecInfo(
        name=_ASCII,
        encode=known.encode,
        decode=known.decode,
        incrementalencoder=known.incrementalencoder,
        incrementaldecoder=known.incrementaldecoder,
    )


codecs.register_error(_ERRORS, _in_ascii)
codecs.register(_find_codec)


def accept_any_encoding() -> None:
    """Have standard output and error take every character, whatever their encodings are."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            is_ascii = codecs.lookup(stream.encoding).name == "ascii"
            reconfigure(encoding=_ASCII if is_ascii else stream.encoding, errors=_ERRORS)


def representable(text: str) -> str:
    """Return text as standard output shows it, so that its width can be measured."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text if text.isascii() else text.encode(encoding, _ERRORS).decode(encoding)
