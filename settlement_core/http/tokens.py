"""Bearer tokens from a file that holds only their hashes, read again whenever it changes.

A line is `NAME:SHA256`, in hexadecimal, or `NAME:SHA256:read` for a token that may only read. Several may hold at once,
also under one name, so that a token is replaced without a moment in which neither works. One fast hash is enough:
tokens are 256 random bits, which nobody can search, slow or fast, and a slow hash would let strangers spend our time.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
import math
import re
import secrets
from hmac import compare_digest
from pathlib import Path
from typing import Final, NamedTuple

from settlement_core.values.errors import LocalError

__all__ = ["DECIDE", "NAME", "READ", "ROLES", "Token", "TokenFile", "hash_line", "new_token"]

logger = logging.getLogger("settlement_core.http")

TOKEN_BYTES = 32
"""As many random bytes as the hash has."""

LOOK_S = 1.0
"""How long a change of the file may go unnoticed; looking costs a few microseconds."""

NAME = re.compile(r"[A-Za-z0-9._~-]{1,64}")
"""What a token may be called: it stands in logs."""

READ: Final = "read"
"""May ask what there is, and change nothing."""

DECIDE: Final = "decide"
"""May do everything."""

ROLES: Final = (READ, DECIDE)

_LINE = re.compile(rf"({NAME.pattern}):([0-9a-f]{{64}})(?::({'|'.join(ROLES)}))?")


class Token(NamedTuple):
    """Whose a token is, and what it may do."""

    name: str
    role: str


def new_token() -> str:
    """Return a fresh token, which only its user should ever keep."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def hash_line(name: str, token: str, role: str = DECIDE) -> str:
    """Return the line by which a file knows a token."""
    line = f"{name}:{_digest(token.encode()).hex()}"
    return line if role == DECIDE else f"{line}:{role}"


class TokenFile:
    """The tokens of a file, as they are now.

    Raises `LocalError` if the file cannot be used at the start. Later it would lock everybody out: then the tokens
    that it held before go on to hold, and the log says so.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._content, self._tokens = self._read()
        if not self._tokens:
            raise LocalError(f"{path} holds no token, so nobody could ask; make one with settlement-core token")
        self._next_look = -math.inf
        self._complained = ""

    def __repr__(self) -> str:
        return f"<TokenFile {str(self._path)!r}, {len(self._tokens)} tokens>"

    def find(self, authorization: bytes, now: float) -> Token | None:
        """Return the token that an Authorization header shows, or None; `now` is the loop's time."""
        if now >= self._next_look:
            self._next_look = now + LOOK_S
            self._look()
        shown = _digest(_credentials(authorization))
        found = None
        for token, digest in self._tokens:
            # all of them, always, so that the time taken tells nothing
            if compare_digest(shown, digest):
                found = token
        return found

    def _look(self) -> None:
        try:
            content, tokens = self._read(self._content)
        except LocalError as problem:
            if str(problem) != self._complained:
                self._complained = str(problem)
                logger.error("%s; the tokens it held before go on to hold", problem)  # noqa: TRY400 - all is said
            return
        self._complained = ""
        if content != self._content:
            logger.info("%s has changed: %d tokens hold now", self._path, len(tokens))
        self._content, self._tokens = content, tokens

    def _read(self, known: bytes | None = None) -> tuple[bytes, list[tuple[Token, bytes]]]:
        try:
            content = self._path.read_bytes()
        except OSError as problem:
            raise LocalError(f"the tokens cannot be read: {problem}") from None
        return content, self._tokens if content == known else _parse(content, self._path)


def _parse(content: bytes, path: Path) -> list[tuple[Token, bytes]]:
    tokens = []
    for number, line in enumerate(content.decode(errors="replace").splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        found = _LINE.fullmatch(text)
        if found is None:
            # without the line: it may hold the token itself
            raise LocalError(f"line {number} of {path} is not NAME:SHA256, as settlement-core token makes them")
        tokens.append((Token(found[1], found[3] or DECIDE), bytes.fromhex(found[2])))
    return tokens


def _credentials(authorization: bytes) -> bytes:
    """Return the token: a bearer's (RFC 6750), or the password of a browser or of a URL (RFC 7617)."""
    scheme, _, rest = authorization.partition(b" ")
    match scheme.lower():
        case b"bearer":
            return rest.strip()
        case b"basic":
            try:
                return base64.b64decode(rest.strip(), validate=True).partition(b":")[2]
            except binascii.Error:
                return b""
        case _:
            return b""


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
