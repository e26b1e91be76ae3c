"""How a core behaves, as one frozen value. Only the command line reads the environment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import inf

from settlement_core.values.amounts import MAX_SCALE, check_amount, floor
from settlement_core.values.backoff import CREDIT_BACKOFF, DAY_S, SETTLE_BACKOFF, Backoff
from settlement_core.values.records import Attempt

__all__ = ["CoreConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreConfig:
    """Settings of a core.

    Attributes:
        settle_backoff: delays before money queued again, or an unclear payment, is looked at again.
        credit_backoff: delays before a credit is offered to the connector again.
        max_entries: queued entries one attempt gathers at most.
        connector_scale: credit only down to this scale and keep the dust queued; None sends every digit.
        credit_cap: largest single credit in standard units; None means what 63 bits hold at `connector_scale`, if
            that is known: many connectors count with 64. No integer on the wire exceeds 63 bits, as long as the
            connector's or the ledger's scale is known.
        connector_memory_s: how long the connector remembers an idempotency key after its first use. A credit that may
            have reached it and was not heard is not offered again later than that, but held. None: for ever.
        message_deadline_s: how long an engine may take over a peer's message; connectors repeat after 5 s.
        request_deadline_s: how long a request waits for the store before it is answered 503.
        shutdown_s: how long effects in flight may go on at shutdown before they are cut.
        drain_s: how long the journal may take to make the rest durable at the end.
        key_retention_s: how long an idempotency key is kept after its most recent use, in seconds for which the store
            was in use; RFC 38 asks for a day.
        history_retention_s: how long a closed attempt stays in the history, measured like `key_retention_s`. Of what
            leaves it the sums stay in the account's totals, and settlement ids stay known. None: for ever.
        archive: is given attempts before they leave the history, in a thread, and returns once they are kept elsewhere;
            if it raises `OSError`, they stay. Some may be given again after a crash.
        stop_after_doubts: how many payments in a row, over all accounts, may end in doubt until nothing new is paid and
            an operator has to look; 0 never stops.
        create_unknown_accounts: open an account on its first settlement or message.
        lease_s: how long this worker may be silent until others that share its store take over its accounts.
        poll_s: how long it may take to hear that another worker left something to do here; it also keeps the
            leases, so it is at most a third of `lease_s`.
    """

    settle_backoff: Backoff = SETTLE_BACKOFF
    credit_backoff: Backoff = CREDIT_BACKOFF
    max_entries: int = 1000
    connector_scale: int | None = None
    credit_cap: Decimal | None = None
    connector_memory_s: float | None = None
    message_deadline_s: float = 4.0
    request_deadline_s: float = 4.0
    shutdown_s: float = 10.0
    drain_s: float = 10.0
    key_retention_s: float = 7 * DAY_S
    history_retention_s: float | None = 90 * DAY_S
    archive: Callable[[Sequence[Attempt]], None] | None = None
    stop_after_doubts: int = 5
    create_unknown_accounts: bool = False
    lease_s: float = 10.0
    poll_s: float = 1.0

    def __post_init__(self) -> None:
        if self.key_retention_s < DAY_S:
            raise ValueError(f"idempotency keys are kept at least {DAY_S:g} s (RFC 38), not {self.key_retention_s:g}")
        if self.history_retention_s is not None and not self.key_retention_s <= self.history_retention_s < inf:
            raise ValueError(
                f"the history is kept at least as long as idempotency keys, {self.key_retention_s:g} s, not "
                f"{self.history_retention_s:g}"
            )
        if self.connector_scale is not None and not 0 <= self.connector_scale <= MAX_SCALE:
            raise ValueError(f"connector_scale is 0 to {MAX_SCALE}, not {self.connector_scale}")
        if self.credit_cap is not None and check_amount(self.credit_cap, "credit_cap") == 0:
            raise ValueError("credit_cap is above zero")
        scale, cap = self.connector_scale, self.credit_cap
        if scale is not None and cap is not None and not floor(cap, scale):
            raise ValueError(
                f"credit_cap {cap:f} is less than one unit of connector_scale {scale}, "
                "so nothing would ever be credited"
            )
        if self.connector_memory_s is not None and not 0 <= self.connector_memory_s < inf:
            raise ValueError(f"connector_memory_s is a number of seconds, not {self.connector_memory_s:g}")
        if self.stop_after_doubts < 0:
            raise ValueError(f"stop_after_doubts is at least 0, not {self.stop_after_doubts}")
        if self.max_entries < 1:
            raise ValueError(f"max_entries is at least 1, not {self.max_entries}")
        if not 0 < self.poll_s <= self.lease_s / 3:
            raise ValueError(
                f"poll_s is above 0 and at most a third of lease_s, not {self.poll_s:g} of {self.lease_s:g}"
            )
