"""One check of every URL that we ask, and what of a URL may be shown.

A path or a query may be a password: providers put the customer's key there. Only scheme, host and port are shown.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from settlement_core.values.answers import MAX_EXCERPT, one_line
from settlement_core.values.errors import LocalError

__all__ = ["CheckedUrl", "check_proxy", "check_url", "make_excerpter"]

SHORTEST_SECRET: Final = 6
"""Characters of a part of a URL that may be a key; shorter ones are words such as "v3"."""


@dataclass(frozen=True, slots=True)
class CheckedUrl:
    """A URL that was checked.

    Attributes:
        name: what it is called in errors, such as "webhook URL".
        origin: scheme, host and port, which may be shown.
        url: the whole, without user name, password and fragment.
        path: its path.
        authorization: the header that shows its user name and password; None if it has neither.
        secrets: what must not be shown of it.
    """

    name: str
    origin: str
    url: str = field(repr=False)
    path: str = field(repr=False)
    authorization: str | None = field(repr=False)
    secrets: frozenset[str] = field(repr=False)

    @property
    def over_tls(self) -> bool:
        """Return whether it is https://."""
        return self.origin.startswith("https:")


def check_url(url: str, name: str, *, example: str, instead: str | None = None, base: bool = False) -> CheckedUrl:
    """Return a usable URL, or raise `LocalError` with a sentence that repeats no secret.

    Args:
        url: as it was given.
        name: what it is called.
        example: a URL of its kind, for the sentence.
        instead: what to use instead of a user name and a password, which are refused then.
        base: paths are added to it, so it may have no query, fragment or dot segments.
    """

    def refuse(why: str) -> LocalError:
        return LocalError(f"cannot use the {name}: {why}")

    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise refuse("it holds spaces, backslashes or characters outside ASCII")
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError:
        raise refuse("its host or port is malformed") from None
    if parts.scheme not in {"http", "https"}:
        raise refuse(f"it must begin with http:// or https://, such as {example}")
    if instead is not None and "@" in parts.netloc:
        raise refuse(f"it carries a user name or password; {instead}")
    if not host:
        raise refuse("it names no host")
    if base and ("?" in url or "#" in url):
        raise refuse("a base URL has neither query nor fragment")
    if base and {".", ".."} & set(parts.path.split("/")):
        raise refuse("its path holds dot segments")
    origin = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    whole = origin + parts.path + (f"?{parts.query}" if parts.query else "")
    import httpx2  # noqa: PLC0415  only who asks others pays for it

    try:
        httpx2.URL(whole)
    except httpx2.InvalidURL as error:
        raise refuse(str(error)) from None
    return CheckedUrl(name, origin, whole, parts.path, _authorization(parts), _secrets_of(parts))


def check_proxy(url: str | None, name: str) -> CheckedUrl | None:
    """Return the usable URL of a proxy, or None for none; raise `LocalError` as `check_url` does."""
    return None if not url else check_url(url, name, example="http://proxy.example:3128")


def _authorization(parts: SplitResult) -> str | None:
    if parts.username is None and parts.password is None:
        return None
    user = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return "Basic " + base64.b64encode(user.encode()).decode()


def _secrets_of(parts: SplitResult) -> frozenset[str]:
    """Return every part that may be a secret, as it is written in the URL and as it is meant."""
    fields = [one.partition("=") for one in parts.query.split("&")]
    single = [*parts.path.split("/"), *(name for name, _, _ in fields), *(value for _, _, value in fields)]
    path = parts.path.strip("/")
    whole = [path if len(path) >= SHORTEST_SECRET or not path else f"/{path}", parts.query]
    # however short: a name and a password are never words of an error
    user = [parts.username, parts.password, parts.netloc.rpartition("@")[0]]
    shown = (_authorization(parts) or "").removeprefix("Basic ")
    found = {text for text in (*user, *whole, shown) if text}
    found |= {text for text in single if len(text) >= SHORTEST_SECRET}
    return frozenset(found | {unquote(text) for text in found})


def make_excerpter(secrets: Iterable[str]) -> Callable[[str], str]:
    """Return what makes foreign words one short line that can be shown, without these secrets."""
    longest_first = sorted(filter(None, secrets), key=len, reverse=True)
    # without any, it finds nothing
    pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def excerpt(text: str) -> str:
        line = pattern.sub("[secret]", one_line(text))
        return line if len(line) <= MAX_EXCERPT else line[: MAX_EXCERPT - 1] + "…"

    return excerpt
