"""What keeps an account from doing what an operator decided, so that no answer promises more than happens."""

from __future__ import annotations

from settlement_core.core.core import Core
from settlement_core.http.problems import NothingTried
from settlement_core.values.amounts import ZERO
from settlement_core.values.commands import Overview
from settlement_core.values.errors import SettlementError, UnknownAccount
from settlement_core.values.records import AccountOverview, Direction

__all__ = ["halts_of", "may_try", "obstacle"]


def halts_of(core: Core, account_id: str) -> dict[str, str]:
    """Return why each direction of the account that halted in this worker did."""
    halts = core.statistics().halted
    names = {direction.value: f"{account_id} {direction}" for direction in Direction}
    return {direction: halts[name] for direction, name in names.items() if name in halts}


async def obstacle(core: Core, account_id: str) -> str:
    """Return why nothing new is begun in the account, and what ends that; "" if nothing keeps it, or nobody knows."""
    try:
        return _obstacle(core, await _account(core, account_id))
    except SettlementError:
        # what was decided is recorded, whatever becomes of this question
        return ""


async def may_try(core: Core, account_id: str) -> None:
    """Raise `NothingTried` if the account, told to try again now, would not."""
    account = await _account(core, account_id)
    why = _obstacle(core, account)
    under_way = account.outgoing.open > ZERO or account.incoming.open > ZERO
    # what is open in a paused account goes on
    if why and (halts_of(core, account_id) or not under_way):
        raise NothingTried(why)


def _obstacle(core: Core, account: AccountOverview) -> str:
    name, ends = account.account_id, f"settlement-core resume {account.account_id} --reason …"
    for direction, reason in halts_of(core, name).items():
        return f"account {name!r} is halted, {direction}: {reason}; compare the ledger with the books, then {ends}"
    if account.pausing is not None and account.pausing.paused:
        return f"account {name!r} is paused by {account.pausing.by}: {account.pausing.reason}; {ends}"
    return ""


async def _account(core: Core, account_id: str) -> AccountOverview:
    found = await core.ask(Overview(account_id=account_id))
    if not found:
        raise UnknownAccount(account_id)
    return found[0]
