"""The commands that read books, and those by which a person decides what no program can."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial, wraps
from typing import Any

import click

from settlement_core.cli.deciding import by_option, reason_option
from settlement_core.cli.printing import add_row, count, make_table, print_table, say
from settlement_core.cli.source import Source, open_source
from settlement_core.cli.target import Target, target_options
from settlement_core.cli.types import AMOUNT
from settlement_core.cli.verdicts import exit_code_of, reason_lines
from settlement_core.values.errors import LocalError
from settlement_core.values.records import AttemptState

__all__ = [
    "accounts",
    "attempts",
    "audit",
    "every",
    "on_books",
    "release",
    "resolve",
    "suspense",
]

LISTED = 50
"""Attempts and settlements of each kind that an audit prints; its JSON has all."""

_UNCLOSED = tuple(state.value for state in AttemptState if state is not AttemptState.CLOSED)


def on_books(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say whose books, and the opened books as its first argument."""

    @target_options
    @click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")
    @wraps(command)
    def with_books(*, target: Target, as_json: bool, **rest: Any) -> None:
        books: AbstractContextManager[Source] = open_source(target)
        with books as source:
            command(source, as_json=as_json, **rest)

    return with_books


@click.command()
@on_books
def accounts(source: Source, *, as_json: bool) -> None:
    """List accounts: what each owes its peer and has settled, what its peer paid and is credited.

    \b
        entered = queued + open + settled + in doubt     (outgoing, to the peer)
        received = queued + open + credited + held       (incoming, from the peer)
    """
    found = list(every(source.accounts, lambda account: account["id"]))
    if as_json:
        say(json.dumps(found))
        return
    names = ("entered", "queued", "open", "settled", "in doubt / held")
    table = make_table("account", "state", "direction", *names)
    for account in found:
        state = account["state"] + (f", {account['step']}".replace("_", " ") if account["step"] else "")
        state += ", paused" if account["paused"] else ""
        state += ", halted" if account["halted"] else ""
        for direction, parked in (("outgoing", "in_doubt"), ("incoming", "held")):
            sums = account[direction]
            if direction == "outgoing" or Decimal(sums["entered"]):
                first = (account["id"], state) if direction == "outgoing" else ("", "")
                figures = [sums[name] for name in ("entered", "queued", "open", "settled", parked)]
                add_row(table, *first, direction, *figures)
    print_table(table, count(len(found), "account"), asset=source.asset())
    for account in found:
        for direction, reason in account["halted"].items():
            say(f"account {account['id']} is halted, {direction}: {reason}")
            say(f"    compare the ledger with the books, then settlement-core resume {account['id']} --reason …")


@click.command()
@click.option("--account", help="Only those of this account.")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([state.value for state in AttemptState]),
    help="Only these; may be repeated.",
)
@click.option("--limit", default=1000, show_default=True, type=click.IntRange(1), help="At most so many.")
@on_books
def attempts(source: Source, *, as_json: bool, account: str | None, states: tuple[str, ...], limit: int) -> None:
    """List attempts, oldest first: each is one payment to the peer, or one credit at the connector.

    What waits for you: settlement-core attempts --state in_doubt --state held
    """
    found = []
    for attempt in _attempts(source, account, states):
        found.append(attempt)
        if len(found) == limit:
            break
    if as_json:
        say(json.dumps(found))
        return
    names = ("attempt", "account", "direction", "amount", "settled", "state", "since", "why")
    table = make_table(*names, drops=("since", "settled", "why"))
    for a in found:
        when = datetime.fromtimestamp(a["closed_at"] or a["claimed_at"], UTC).isoformat(" ", "seconds")
        state = a["state"].replace("_", " ") + (", halted" if a["halted"] else "")
        figures, why = (a["amount"], a["settled"] or ""), a["halted"] or a["reason"]
        add_row(table, a["id"], a["account"], a["direction"], *figures, state, when, why)
    print_table(table, count(len(found), "attempt"), asset=source.asset())


@click.command()
@click.argument("attempt_id")
@click.option("--settled", type=AMOUNT, help="This much of it moved; the rest is queued again.")
@click.option("--all", "everything", is_flag=True, help="All of it moved.")
@click.option("--nothing", is_flag=True, help="None of it moved: all of it is queued again.")
@click.option("--release", is_flag=True, help="Only a held credit: offer it to the connector again under the same key.")
@reason_option("How you know; kept with the attempt.")
@by_option("the attempt")
@on_books
def resolve(source: Source, *, as_json: bool, attempt_id: str, reason: str, by: str, **said: Any) -> None:
    """Say what became of an attempt in doubt (did the payment happen?) or held (did the connector credit it?).

    Look at the ledger, or at the connector, first: what you say here moves real money. Exactly one of --settled,
    --all, --nothing and --release says it. Repeating the same command is harmless.
    """
    if sum([said["settled"] is not None, said["everything"], said["nothing"], said["release"]]) != 1:
        raise click.UsageError("say exactly one of --settled AMOUNT, --all, --nothing and --release")
    attempt = _find(source, attempt_id)
    if said["release"]:
        waits = source.release(attempt, reason=reason, by=by)
        told = "is to be offered to the connector again"
    else:
        amount = Decimal(attempt["amount"]) if said["everything"] else said["settled"] or Decimal(0)
        waits = source.resolve(attempt, settled=amount, reason=reason, by=by)
        waits = waits if amount < Decimal(attempt["amount"]) else ""
        told = f"is closed with {amount:f} of {attempt['amount']} settled"
    if as_json:
        say(json.dumps(_find(source, attempt_id)))
    else:
        say(f"attempt {attempt_id} of account {attempt['account']} {told}")
        _print_waits(waits)


@click.command()
@click.option("--account", help="All that are held of this account.")
@click.option("--all-held", is_flag=True, help="All that are held.")
@reason_option("What was wrong, and is not any more; kept with each attempt.")
@by_option("each attempt")
@on_books
def release(source: Source, *, as_json: bool, account: str | None, all_held: bool, reason: str, by: str) -> None:
    """Offer held credits to the connector again, each under its own key: all of them, or those of one account.

    For when what held them is mended, such as a connector that did not know the accounts. Look at the reasons first: a
    connector that took a credit and forgot its key (--connector-memory) would credit it again. Repeating the same
    command is harmless. For a single one: settlement-core resolve ATTEMPT_ID --release.
    """
    if (account is not None) is all_held:
        raise click.UsageError("say exactly one of --account ACCOUNT and --all-held")
    held = list(_attempts(source, account, (AttemptState.HELD.value,)))
    waits = {attempt["account"]: source.release(attempt, reason=reason, by=by) for attempt in held}
    if as_json:
        say(json.dumps([attempt["id"] for attempt in held]))
        return
    for attempt in held:
        say(f"attempt {attempt['id']} of account {attempt['account']}, {attempt['amount']}")
    say(f"{count(len(held), 'credit')} to be offered to the connector again")
    _print_waits(*waits.values())


def _print_waits(*waits: str) -> None:
    """Print what has to end before anything follows from a decision."""
    for sentence in dict.fromkeys(filter(None, waits)):
        say(f"but not yet: {sentence}")


@click.command()
@click.option("--assign", nargs=2, metavar="SETTLEMENT_ID ACCOUNT", help="Credit this money to this account.")
@click.option(
    "--not-ours", multiple=True, metavar="SETTLEMENT_ID", help="This money is nobody's of ours; may be repeated."
)
@click.option("--not-ours-below", type=AMOUNT, help="All of less than this amount that waits is nobody's of ours.")
@click.option("--decided", is_flag=True, help="List also what was assigned, or is not ours.")
@reason_option("How you know whose it is, or that it is not ours; kept.", required=False)
@by_option()
@on_books
def suspense(source: Source, *, as_json: bool, decided: bool, reason: str, by: str, **said: Any) -> None:
    """List money that arrived and whose owner the engine cannot tell; --assign says whose it is.

    It is kept, counted by nobody's account, until you decide. Assigned, it is credited like any other payment. What
    strangers sent is --not-ours, in bulk --not-ours-below: it waits no longer and no engine credits it, but it stays on
    record (--decided) and can still be assigned. Repeating the same command is harmless.
    """
    assign, ours = said["assign"], said["not_ours"]
    chosen = (assign is not None) + bool(ours) + (said["not_ours_below"] is not None)
    if chosen > 1:
        raise click.UsageError("say at most one of --assign, --not-ours and --not-ours-below")
    if chosen and not reason.strip():
        raise click.UsageError("a decision needs a --reason")
    done = _decide_on_suspense(source, reason=reason, by=by, **said) if chosen else ""
    found = list(every(partial(source.suspense, decided=decided), lambda item: item["settlement_id"]))
    if as_json:
        say(json.dumps(found))
        return
    if done:
        say(done)
    table = make_table("settlement", "amount", "state", "arrived", "details", drops=("arrived", "details"))
    for item in found:
        when = datetime.fromtimestamp(item["reported_at"], UTC).isoformat(" ", "seconds")
        add_row(table, item["settlement_id"], item["amount"], _fate(item), when, json.dumps(item["details"]))
    waiting = sum(item["state"] == "waiting" for item in found)
    print_table(table, f"{count(waiting, 'settlement')} without an owner", asset=source.asset())


def _decide_on_suspense(
    source: Source,
    *,
    assign: tuple[str, str] | None,
    not_ours: tuple[str, ...],
    not_ours_below: Decimal | None,
    reason: str,
    by: str,
) -> str:
    """Carry out the decision that was said; return what became of it."""
    if assign is not None:
        settlement_id, account_id = assign
        waits = source.assign(settlement_id, account_id, reason=reason, by=by)
        told = f"settlement {settlement_id} is now account {account_id}'s"
        return f"{told}; but it is not credited yet: {waits}" if waits else told
    if not_ours_below is not None:
        done = source.dismiss_below(not_ours_below, reason=reason, by=by)
        return f"{count(done, 'settlement')} of less than {not_ours_below:f} dismissed as not ours"
    for settlement_id in not_ours:
        source.dismiss(settlement_id, reason=reason, by=by)
    return f"{count(len(not_ours), 'settlement')} dismissed as not ours"


def _fate(item: dict[str, Any]) -> str:
    if item["state"] == "assigned":
        return f"account {item['account_id']}, said {item['assigned_by']}: {item['reason']}"
    return "waiting" if item["state"] == "waiting" else f"not ours, said {item['assigned_by']}: {item['reason']}"


@click.command()
@on_books
def audit(source: Source, *, as_json: bool) -> None:
    """Prove, from the store alone, that no money was lost or doubled, and give the verdict about the money.

    Every sum is recomputed from the rows it is made of, for every account and direction, and every row that breaks
    the proof is named. The last line is the verdict, the same that watch, the page and the metrics of a running server
    show.

    \b
    Exit code:  0  good: nothing is to be done
                1  wrong: the books do not add up, or a contract about money was broken
                2  nothing was audited: no server, no store
                3  waits for you: the books add up, and something needs your decision
                4  stuck: the books add up, and money does not move
    """
    report = source.audit()
    if as_json:
        say(json.dumps(report))
    else:
        _print_audit(report, source.asset())
    sys.exit(exit_code_of(report["verdict"]))


def _print_audit(report: dict[str, Any], asset: str) -> None:
    table = make_table("", "entered", "queued", "open", "settled", "in doubt / held")
    for direction in ("outgoing", "incoming"):
        add_row(table, direction, *(report[direction][n] for n in ("entered", "queued", "open", "settled", "parked")))
    entries = "1 entry" if report["entries"] == 1 else f"{report['entries']} entries"
    accounts, attempts = count(len(report["accounts"]), "account"), count(report["attempts"], "attempt")
    print_table(table, f"{accounts}, {entries}, {attempts}", asset=asset)
    for kind, what in (("in_doubt", "in doubt"), ("held", "held")):
        for a in report[kind][:LISTED]:
            say(f"{what}: {a['amount']} of account {a['account']}, attempt {a['attempt_id']}: {a['reason']}")
        _print_rest(len(report[kind]), f"settlement-core attempts --state {kind}")
    for item in report["unattributed"][:LISTED]:
        say(f"unattributed: {item['amount']}, settlement {item['settlement_id']}")
    _print_rest(len(report["unattributed"]), "settlement-core suspense")
    dismissed = report["dismissed"]
    if dismissed["count"]:
        say(f"dismissed as not ours: {dismissed['amount']} in all, {count(dismissed['count'], 'settlement')}")
    for problem in report["problems"]:
        say(f"PROBLEM: account {problem['account']!r}, {problem['row']}: {problem['problem']}")
    say(f"audited: {report['audited']}")
    for line, command in reason_lines(report["verdict"]):
        say(line)
        say(f"    {command}")
    say(report["verdict"]["sentence"])


def _print_rest(number: int, command: str) -> None:
    if number > LISTED:
        say(f"and {number - LISTED} more: {command}")


def _find(source: Source, attempt_id: str) -> dict[str, Any]:
    # what waits for a person is among the few that are not closed
    for states in (_UNCLOSED, ("closed",)):
        for attempt in _attempts(source, None, states):
            if attempt["id"] == attempt_id:
                return attempt
    raise LocalError(f"no attempt has the id {attempt_id!r}; nothing was recorded")


def _attempts(source: Source, account: str | None, states: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    after: dict[str, Any] | None = None
    while found := source.attempts(account, states, after):
        yield from found
        after = found[-1]


def every(
    page: Callable[[str], list[dict[str, Any]]], key: Callable[[dict[str, Any]], str]
) -> Iterator[dict[str, Any]]:
    """Yield the rows of all pages; `key` gives what the next page comes after."""
    after = ""
    while found := page(after):
        yield from found
        after = key(found[-1])
