"""The commands that steer a server: pause an account, resume it, have it settle now."""

from __future__ import annotations

import json
from typing import Any

import click

from settlement_core.cli.books import every, on_books
from settlement_core.cli.deciding import by_option, reason_option
from settlement_core.cli.printing import count, say
from settlement_core.cli.source import Source
from settlement_core.restoring import RESTORED_BY

__all__ = ["pause", "resume", "settle"]


@click.command()
@click.argument("account")
@reason_option("Why; kept with the account.")
@by_option("the account")
@on_books
def pause(source: Source, *, as_json: bool, account: str, reason: str, by: str) -> None:
    """Begin nothing new with ACCOUNT: what it owes waits, and so does what its peer paid, until you resume it.

    A payment that is under way goes on to its end. Requests and payments are still taken, and nothing is lost.
    """
    _decide(source, account, paused=True, reason=reason, by=by, as_json=as_json)


@click.command()
@click.argument("account", required=False)
@click.option("--restored", is_flag=True, help="Instead of ACCOUNT: all accounts that were paused as restored books.")
@click.option(
    "--payments", is_flag=True, help="Instead of ACCOUNT: pay again after too many payments in a row were in doubt."
)
@reason_option("Why; kept with the account.")
@by_option("the account")
@on_books
def resume(
    source: Source, *, as_json: bool, account: str | None, restored: bool, payments: bool, reason: str, by: str
) -> None:
    """Go on with a paused ACCOUNT, or one that halted, beginning with what has waited.

    An account halts when its engine, the connector or the store broke a contract about money. Compare the ledger with
    the books first. An open payment is then looked up, or in doubt where the engine cannot look it up; if the cause is
    still there, the account halts again.

    --payments is for when the engine was stopped since several payments in a row are in doubt (serve
    --stop-after-doubts). Look at the ledger first: until its cause is mended the next ones will be in doubt, too.

    Restored books: compare each account with the ledger and the connector first, and resolve its attempts. What is
    queued in it is paid, and what arrived is credited, once you resume it.
    """
    if (account is not None) + restored + payments != 1:
        raise click.UsageError("say one of ACCOUNT, --restored and --payments")
    if payments:
        source.resume_payments(reason=reason, by=by)
        say(json.dumps({"payments": "resumed"}) if as_json else "payments go on")
        return
    if account is not None:
        _decide(source, account, paused=False, reason=reason, by=by, as_json=as_json)
        return
    chosen = [found["id"] for found in every(source.accounts, lambda found: found["id"]) if _was_restored(found)]
    for name in chosen:
        source.pause(name, paused=False, reason=reason, by=by)
    say(json.dumps({"resumed": chosen}) if as_json else f"{count(len(chosen), 'account')} go on")


def _was_restored(account: dict[str, Any]) -> bool:
    pausing = account["pausing"]
    return pausing is not None and pausing["paused"] and pausing["by"] == RESTORED_BY


def _decide(source: Source, account: str, *, paused: bool, reason: str, by: str, as_json: bool) -> None:
    before = source.pause(account, paused=paused, reason=reason, by=by)
    if as_json:
        say(json.dumps({"account": account, "paused": paused} | ({} if paused else before)))
    elif paused:
        say(f"account {account} is paused: what is under way ends, and nothing new is begun")
    elif before["was_halted"]:
        say(f"account {account} is looked at again, as at the next start: {' and '.join(before['was_halted'])}")
    elif before["was_paused"]:
        say(f"account {account} goes on")
    elif before["may_halt_elsewhere"]:
        say(f"account {account} was not paused, and not halted here: resume it at the worker that halted it")
    else:
        say(f"account {account} was neither paused nor halted; nothing changed")
    if not as_json and before.get("waits_for"):
        say(f"but not yet: {before['waits_for']}")


@click.command()
@click.argument("account")
@on_books
def settle(source: Source, *, as_json: bool, account: str) -> None:
    """Have ACCOUNT try again now, whatever it waits for: a back-off, a connector that was away, a ledger.

    Nothing is paid or credited that would not be sooner or later, and nothing twice.
    """
    source.settle(account)
    say(json.dumps({"account": account}) if as_json else f"account {account} tries again now")
