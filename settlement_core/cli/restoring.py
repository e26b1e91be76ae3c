"""What the command line does about restored books, and how it makes backups."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any

import click

from settlement_core.abc import RestorableStore, Store
from settlement_core.cli.books import on_books
from settlement_core.cli.printing import count, say
from settlement_core.cli.source import Source
from settlement_core.restoring import set_aside_restored
from settlement_core.store_urls import open_store

__all__ = ["backup", "set_aside_before_workers", "set_aside_if_restored"]


def set_aside_if_restored(store: Store, settings: dict[str, Any]) -> None:
    """Set the books aside if they may be older than the ledger, and tell what that means."""
    why = store.maybe_older if isinstance(store, RestorableStore) else ""
    if not why and not settings["restored"]:
        return
    done = set_aside_restored(store, why or "they were restored, as --restored says")
    say(
        f"these books may be older than the ledger ({why or '--restored'}): {count(done.attempts, 'attempt')} parked, "
        f"{count(done.accounts, 'account')} paused; compare them with the ledger and the connector, resolve the "
        "attempts, then settlement-core resume --restored",
        err=True,
    )


def set_aside_before_workers(settings: dict[str, Any]) -> None:
    """Do that once, before several workers serve the store."""
    if settings["restored"]:
        with closing(open_store(settings["store"], create=False)) as store:
            set_aside_if_restored(store, settings)


@click.command()
@click.argument("file", type=click.Path(exists=False, dir_okay=False, writable=True))
@on_books
def backup(source: Source, *, as_json: bool, file: str) -> None:
    """Make a consistent copy of a SQLite store in a new FILE, of a running server's or a stopped one's.

    Never copy the files of a store by hand: its latest money is in a second file while it is in use. A backup is older
    than the ledger as soon as it is made: a server that is started with it parks what is unsettled in it, pauses its
    accounts, and pays nothing of it until you have compared it with the ledger and decided.

    A store in Redis is backed up by Redis itself; serve a restored one with --restored.
    """
    size = source.back_up(file)
    if as_json:
        say(json.dumps({"file": file, "bytes": size}))
    else:
        say(f"{file}: {size:,} bytes, a copy of the books as they were just now")
