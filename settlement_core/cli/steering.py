"""The commands that steer a server: pause an account, resume it, have it settle now."""

from __future__ import annotations

import getpass
import json

import click

from settlement_core.cli.books import on_books
from settlement_core.cli.source import Source

__all__ = ["pause", "resume", "settle"]


@click.command()
@click.argument("account")
@click.option("--reason", required=True, help="Why; kept with the account.")
@click.option("--by", default=getpass.getuser, show_default="your login", help="Who says so; kept with the account.")
@on_books
def pause(source: Source, *, as_json: bool, account: str, reason: str, by: str) -> None:
    """Begin nothing new with ACCOUNT: what it owes waits, and so does what its peer paid, until you resume it.

    A payment that is under way goes on to its end. Requests and payments are still taken, and nothing is lost.
    """
    _decide(source, account, paused=True, reason=reason, by=by, as_json=as_json)


@click.command()
@click.argument("account")
@click.option("--reason", required=True, help="Why; kept with the account.")
@click.option("--by", default=getpass.getuser, show_default="your login", help="Who says so; kept with the account.")
@on_books
def resume(source: Source, *, as_json: bool, account: str, reason: str, by: str) -> None:
    """Go on with a paused ACCOUNT, beginning with what has waited."""
    _decide(source, account, paused=False, reason=reason, by=by, as_json=as_json)


def _decide(source: Source, account: str, *, paused: bool, reason: str, by: str, as_json: bool) -> None:
    source.pause(account, paused=paused, reason=reason, by=by)
    if as_json:
        click.echo(json.dumps({"account": account, "paused": paused}))
    elif paused:
        click.echo(f"account {account} is paused: what is under way ends, and nothing new is begun")
    else:
        click.echo(f"account {account} goes on")


@click.command()
@click.argument("account")
@on_books
def settle(source: Source, *, as_json: bool, account: str) -> None:
    """Have ACCOUNT try again now, whatever it waits for: a back-off, a connector that was away, a ledger.

    Nothing is paid or credited that would not be sooner or later, and nothing twice.
    """
    source.settle(account)
    click.echo(json.dumps({"account": account}) if as_json else f"account {account} tries again now")
