"""Floor 4: the command line. Commands are imported when they are called, so that `--help` is quick."""

from __future__ import annotations

import importlib
from typing import Any

import click

from settlement_core.cli.terminal import accept_any_encoding
from settlement_core.values.errors import SettlementError
from settlement_core.values.texts import visible_text

__all__ = ["main"]

_COMMANDS = {
    "serve": ("settlement_core.cli.serve", "Serve a settlement engine to a connector."),
    "token": ("settlement_core.cli.tokens", "Make a bearer token for a connector or an operator."),
    "demo": ("settlement_core.cli.demo", "Two engines settle with each other while they are killed."),
    "accounts": ("settlement_core.cli.books", "List accounts with what they owe and were paid."),
    "watch": ("settlement_core.cli.watch", "Watch a running server: what waits, what is tried again, what happens."),
    "attempts": ("settlement_core.cli.books", "List attempts: payments and credits, done and under way."),
    "resolve": ("settlement_core.cli.books", "Say what became of an attempt in doubt or held."),
    "release": ("settlement_core.cli.books", "Offer held credits to the connector again, many by one decision."),
    "suspense": ("settlement_core.cli.books", "List, and assign, money whose owner is unknown."),
    "pause": ("settlement_core.cli.steering", "Begin nothing new with an account, until it is resumed."),
    "resume": ("settlement_core.cli.steering", "Go on with a paused account."),
    "settle": ("settlement_core.cli.steering", "Have an account try again now, whatever it waits for."),
    "engine": ("settlement_core.cli.engine", "Show what a running engine tells of its ledger."),
    "workers": ("settlement_core.cli.sharing", "Show who shares a store, and which part of it."),
    "backup": ("settlement_core.cli.restoring", "Make a consistent copy of a SQLite store, running or stopped."),
    "archive": (
        "settlement_core.cli.archive",
        "List what has left the store's history; check that all is there.",
    ),
    "migrate": ("settlement_core.cli.migrate", "Move books from one store to another, as from SQLite to Redis."),
    "conformance": ("settlement_core.cli.conformance", "Examine any engine, in any language, against RFC 38."),
    "audit": ("settlement_core.cli.books", "Prove that no money was lost or doubled."),
}


class _Commands(click.Group):
    """Commands by name, each imported only when it is needed; errors of ours are one sentence and exit code 2."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order a newcomer needs them."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(_COMMANDS[cmd_name][0])
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, sentence) for name, (_, sentence) in _COMMANDS.items()])

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command line."""
        accept_any_encoding()
        return super().main(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except SettlementError as problem:
            raise _Sentence(visible_text(problem)) from problem


class _Sentence(click.ClickException):
    exit_code = 2


@click.command(cls=_Commands, context_settings={"max_content_width": 100})
@click.version_option(package_name="settlement-core")
def main() -> None:
    """Settle for real: run, watch and audit Interledger settlement engines (RFC 0038).

    A connector tells a settlement engine what it owes a peer; the engine pays over its ledger, and tells the
    connector what peers have paid. Start here:

    \b
        settlement-core demo                      see two engines settle, and survive kills
        settlement-core serve my_engine.py        serve your engine on 127.0.0.1:3000
        settlement-core audit                     is my money all right?

    Options can also be given as environment variables, which the commands' help names: --connector-url is
    SETTLEMENT_CONNECTOR_URL. What the command line says goes before what the environment says.
    """
