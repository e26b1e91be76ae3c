"""Commands by which a store's rows age; `settlement_core.values.commands` has them too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from settlement_core.values.command import OWN_VALUES, Command
from settlement_core.values.results import Ticked

__all__ = ["Prune", "Retire", "Tick"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prune(Command[int]):
    """Forget about `limit` outgoing entries of closed attempts last used before `before`; return how many.

    Settlement ids, and amounts that are not settled or queued on, are kept. `before` is what a `Tick`
    answered: wall clocks jump, so a difference of two of their readings is no age.
    """

    before: float
    limit: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Retire(Command[tuple[str, ...]]):
    """Have attempts of one account leave the history; return the ids of those that are not in it any more.

    An attempt leaves if it ended before `before` and is closed; if it is outgoing, once its idempotency keys are
    forgotten; if it is incoming, its entries leave with it. The sums of what left stay in the account's totals, and the
    account knows its settlement ids for ever, by a digest: the same id again is a replay, with another amount a
    conflict. Every other attempt stays as it is. Refused: `LeaseLost`, `UnknownAccount`.
    """

    account_id: str
    attempt_ids: tuple[str, ...]
    before: float
    lease: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick(Command[Ticked]):
    """Make durable how long the store has been in use, and what the wall clock read meanwhile.

    Attributes:
        wall: the asker's wall clock, seconds since 1970. It stamps nothing by a reading that no tick has recorded.
        keep_s: how long readings are kept, in seconds of use.
        history_s: how long, besides, one reading a day is kept, also in seconds of use; 0 if none is.
        seen: the `lived_s` that the asker's latest tick answered; None at its first.
        elapsed_s: what its loop's clock counted since that one was asked; nothing at its first.
    """

    account_id: ClassVar[str] = OWN_VALUES
    key: ClassVar[str] = "clock"

    wall: float
    keep_s: float
    history_s: float = 0.0
    seen: float | None = None
    elapsed_s: float = 0.0
