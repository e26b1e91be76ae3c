"""Accounts by what their ids begin with, or by having something to do: pages that cost a store no more than others."""

from __future__ import annotations

from contextlib import suppress

from settlement_core.core.core import Core
from settlement_core.values.commands import Due, Overview
from settlement_core.values.errors import UnknownAccount
from settlement_core.values.records import AccountOverview

__all__ = ["find_accounts"]


async def find_accounts(core: Core, *, after: str, limit: int, prefix: str, due: bool) -> list[AccountOverview]:
    """Return the next accounts after an id, in order of ids.

    Only those whose ids begin with `prefix`; with `due` only those with a step to do, or money on its way or queued.
    """
    found: list[AccountOverview] = []
    if after < prefix:
        # every other one that begins like this comes after it
        with suppress(UnknownAccount):  # none can have this id, and those that begin so are looked for
            found = [account for account in await core.ask(Overview(account_id=prefix)) if not due or _is_due(account)]
        after = prefix
    if due:
        ids = await core.ask(Due(after=after, limit=limit))
        answers = await core.ask_together([Overview(account_id=account_id) for account_id in ids])
        # what was due a moment ago may be at rest by now
        found += [account for answer in answers for account in answer]
    else:
        found += await core.ask(Overview(after=after, limit=limit))
    return [account for account in found if account.account_id.startswith(prefix)][:limit]


def _is_due(account: AccountOverview) -> bool:
    waits = any(sums.queued or sums.open for sums in (account.outgoing, account.incoming))
    return bool(waits or account.steps or account.released)
