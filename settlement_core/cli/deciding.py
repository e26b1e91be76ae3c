"""Options of every decision: who decided, and why."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable
from typing import Any

import click

__all__ = ["by_option", "login", "reason_option"]

_Decorator = Callable[[Callable[..., None]], Callable[..., None]]


def login() -> str:
    """Return the name of the user, or "uid N" where neither the environment nor the system has a name for it."""
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):
        # containers often run under a user id that no passwd entry names
        return f"uid {os.getuid()}"


def by_option(what: str = "") -> _Decorator:
    """Return the option for who decided; `what` is what the name is kept with."""
    kept = f"; kept with {what}" if what else "; kept"
    return click.option("--by", default=login, show_default="your login, or your user id", help=f"Who says so{kept}.")


class _Reason(click.ParamType[str]):
    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return text that says something."""
        text = str(value)
        if not text.strip():
            self.fail("it is empty; a decision needs a reason", param, ctx)
        return text


def reason_option(sentence: str, *, required: bool = True) -> _Decorator:
    """Return the option for why; `sentence` is its help."""
    if required:
        return click.option("--reason", required=True, type=_Reason(), help=sentence)
    return click.option("--reason", default="", help=sentence)
