"""Settings that may hold a secret: read from a file if one is named, and warned about where others can see them.

A command line is shown to every user of the machine by its list of processes. `@FILE` in place of a URL has it read
from the file; an environment variable is seen by the same user and root only.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from settlement_core.cli.printing import say

__all__ = ["URL", "read_setting", "warn_of_exposed", "without_secrets"]

_SECRETS = re.compile(
    # what stands before the host, or a member of the query by its name; not an @ in the path of a socket
    r"(?<=://)(?!/)[^@]*@|(?<=[?&])[^=&]*(?:password|passwd|token|secret|api_?key)[^=&]*=[^&]+",
    re.IGNORECASE,
)


def read_setting(text: str) -> str:
    """Return a setting, or what stands in the file that it names with `@`; raises ValueError with one sentence."""
    if not text.startswith("@"):
        return text
    path = Path(text[1:])
    try:
        content = path.read_text(encoding="utf-8").strip()
    except OSError as problem:
        raise ValueError(f"{path} cannot be read: {problem.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8") from None
    if not content:
        raise ValueError(f"{path} is empty")
    return content


def without_secrets(url: str) -> str:
    """Return a URL as it may be shown: without user name and password, and without secrets in its query."""
    return _SECRETS.sub("", url)


def warn_of_exposed(ctx: click.Context, param: click.Parameter, remedy: str) -> None:
    """Warn that everybody on this machine sees a secret, if it was given on the command line."""
    if param.name is not None and ctx.get_parameter_source(param.name) is ParameterSource.COMMANDLINE:
        name = param.human_readable_name if isinstance(param, click.Argument) else param.opts[0]
        say(
            f"Warning: every user of this machine can see the secret in {name} as long as this runs: {remedy}", err=True
        )


class _Url(click.ParamType[str]):
    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the URL, or that in the file that is named."""
        try:
            url = read_setting(value)
        except ValueError as problem:
            self.fail(str(problem), param, ctx)
        if param is not None and ctx is not None and url == value and without_secrets(url) != url:
            warn_of_exposed(ctx, param, "write it into a file and say @FILE instead")
        return url


URL = _Url()
"""A URL, or `@FILE` for one that a file holds."""
