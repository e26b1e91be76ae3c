"""`settlement-core conformance`: what RFC 38 asks of a settlement engine, tried out on one."""

from __future__ import annotations

import json
import sys
from decimal import Decimal
from typing import Any

import anyio
import click
from rich.console import Console
from rich.status import Status
from rich.table import Table

from settlement_core.cli.printing import add_row, as_text, console, say
from settlement_core.cli.types import SECONDS
from settlement_core.conformance import CHECKS, Check, Finding, Options, Report, Verdict, choose, examine
from settlement_core.values.amounts import floor, plain

__all__ = ["conformance"]

_COLOURS = {Verdict.HELD: "green", Verdict.BROKEN: "bold red", Verdict.ADVICE: "yellow", Verdict.NOT_OBSERVED: "dim"}


def _parse_address(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, int]:
    host, colon, port = value.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise click.BadParameter(f"{value!r} is not HOST:PORT", ctx, param)
    return host.strip("[]"), int(port)


def _check_url(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise click.BadParameter(f"{value!r} begins neither with http:// nor with https://", ctx, param)
    return value


def _list(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:  # noqa: FBT001  click calls it so
    if not wanted:
        return
    table = _table("check", "level", "section of RFC 38", "promise")
    for check in CHECKS:
        add_row(table, check.name, check.level, check.section, check.promise)
    console().print(table)
    ctx.exit()


@click.command()
@click.argument("url", callback=_check_url)
@click.option(
    "--list", is_flag=True, is_eager=True, expose_value=False, callback=_list, help="List all checks, and exit."
)
@click.option(
    "--listen",
    default="127.0.0.1:7771",
    show_default=True,
    metavar="HOST:PORT",
    callback=_parse_address,
    help="Where the engine finds its connector: what its connector URL must point to.",
)
@click.option("--only", multiple=True, metavar="NAME", help="Only this check, or this group; may be repeated.")
@click.option(
    "--restart-command",
    metavar="COMMAND",
    help="A shell command that kills the engine and starts it again, and ends: what must be persisted is then seen.",
)
@click.option(
    "--pays-itself",
    is_flag=True,
    help="What the engine settles comes back as an incoming settlement of the same account: sums are then compared.",
)
@click.option("--message", metavar="TEXT", help="A message the engine understands, in place of a guess.")
@click.option(
    "--asset-scale",
    default=9,
    show_default=True,
    type=click.IntRange(0, 254),
    help="The finest scale the ledger settles; most amounts are one unit of it.",
)
@click.option(
    "--patience",
    "patience_s",
    default=10.0,
    show_default=True,
    type=SECONDS,
    help="How long to wait for what an engine does in its own time.",
)
@click.option("--ca", type=click.Path(exists=True, dir_okay=False), help="A PEM file of the authorities to trust.")
@click.option("--yes", is_flag=True, help="Do not ask whether the engine may be made to settle.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def conformance(url: str, *, only: tuple[str, ...], yes: bool, as_json: bool, **settings: Any) -> None:
    """Examine any settlement engine, in any language, against RFC 38.

    URL is where its /accounts are. The suite plays the connector: it asks what connectors ask, also what they should
    not, and listens on --listen for what the engine tells them. Run the engine on a test ledger: it is asked for some
    200 settlements of at most 5 units of --asset-scale each, and for one of 1 whole unit, which is the coarsest scale.

    \b
        settlement-core conformance http://127.0.0.1:3000
        settlement-core conformance http://127.0.0.1:3000 --only idempotency --restart-command ./restart.sh

    Each check names its section of RFC 38 and how strongly it is asked: MUST and SHOULD in the RFC's words; "defined"
    if its API is described so, without a key word; "expected" if the RFC is silent and existing connectors rely on it.
    A deviation from a MUST or a definition is "broken", any other is "advice"; "not observed" says what would show it.

    More is seen of an engine whose payments come back to it (--pays-itself), say on a ledger with one address: then
    credits are lost and failed on purpose, and in the end nothing may be missing or have come twice.

    The exit code is 0 if nothing is broken, 1 if something is, and 2 if there is no engine to examine. The accounts
    it opened are deleted; their ids begin with "conformance-", but for those the engine chose.
    """
    checks = choose(only)
    if not yes:
        _ask(url)
    message = settings["message"]
    options = Options(
        asset_scale=settings["asset_scale"],
        patience_s=settings["patience_s"],
        pays_itself=settings["pays_itself"],
        message=None if message is None else message.encode(),
        ca_file=settings["ca"],
    )
    report = _watch(url, checks, options, listen=settings["listen"], restart_command=settings["restart_command"])
    if as_json:
        say(json.dumps(report.to_json()))
    else:
        _print(report)
    sys.exit(0 if report.ok else 1)


def _ask(url: str) -> None:
    question = (
        f"The engine at {url} will be asked to settle small amounts, and one whole unit. Is its ledger a test one?"
    )
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} If so, say --yes.")
    click.confirm(question, abort=True, err=True)


def _watch(url: str, checks: list[Check], options: Options, **rest: Any) -> Report:
    """Examine the engine, and show on a terminal how far we are."""
    done: list[Finding] = []
    with Status("reaching the engine", console=Console(stderr=True)) as status:

        def on_check(check: Check) -> None:
            broken = sum(finding.is_breach for finding in done)
            told = f", {broken} broken" if broken else ""
            status.update(f"{len(done) + 1} of {len(checks)}{told}: {check.name}: {check.promise}")

        async def run() -> Report:
            return await examine(url, options=options, checks=checks, on_check=on_check, on_finding=done.append, **rest)

        return anyio.run(run, backend="trio")


def _print(report: Report) -> None:
    table = _table("check", "level", "section of RFC 38", "verdict", "promise, and what was seen")
    for finding in report.findings:
        check, colour = finding.check, _COLOURS[finding.verdict]
        told = map(as_text, (check.name, check.level, check.section))
        table.add_row(*told, as_text(finding.verdict, colour), as_text(f"{check.promise}: {finding.seen}"))
    console().print(table)
    counts = ", ".join(f"{report.count(verdict)} {verdict}" for verdict in Verdict)
    say(f"{len(report.findings)} checks: {counts}; it was made to settle {_rounded(report.settled)} in all")


def _rounded(amount: Decimal) -> str:
    """Return an amount with at most 20 places; what is finer is next to nothing."""
    return f"{plain(floor(amount, 20)):f}"


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in {"check", "level", "verdict"})
    return table
