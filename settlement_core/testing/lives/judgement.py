"""Judges the books of both sides against the ledger and the connectors: after any life, and after the last.

Whatever is recorded as settled moved, and nothing else did; whatever moved was entered first; whatever was credited is
a payment on the ledger, once. What once was recorded of an attempt never changes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from decimal import Decimal

from settlement_core.auditing.audit import audit
from settlement_core.testing.lives.ledger import Fate, Ledger, Tx
from settlement_core.testing.lives.script import ACCOUNTS, SIDES, Setting
from settlement_core.testing.lives.side import Side
from settlement_core.values.amounts import ZERO, add, total
from settlement_core.values.commands import Entries, History, Overview, Suspense
from settlement_core.values.records import Attempt, AttemptState, Direction, EntryKind, Totals

__all__ = ["judge", "judge_the_end"]

_MANY = 1_000_000
_MOVING = frozenset({Fate.WAITING, Fate.INCLUDED})

Txs = dict[str, tuple[Tx, Fate]]


def judge(sides: Mapping[str, Side], ledger: Ledger) -> list[str]:
    """Return what is wrong after any life."""
    found = []
    for side in sides.values():
        found += [f"{side.name}: {sentence}" for sentence in _judge_side(side, ledger.transactions())]
    return found


def judge_the_end(sides: Mapping[str, Side], ledger: Ledger, setting: Setting) -> list[str]:
    """Return what is not settled and credited yet, or does not agree, when it should be."""
    found = []
    txs = ledger.transactions()
    for side in sides.values():
        peer = sides[SIDES[1 - SIDES.index(side.name)]]
        for account in ACCOUNTS:
            sentences = _judge_account_at_the_end(side, peer, account, txs, setting)
            found += [f"{side.name}/{account}: {sentence}" for sentence in sentences]
        if any(item.account_id is None for item in side.books.ask(Suspense(limit=_MANY, assigned=True))):
            found.append(f"{side.name}: money without an owner is left")
    return found


def _judge_side(side: Side, txs: Txs) -> Iterator[str]:
    yield from (str(problem) for problem in audit(side.books.inner).problems)
    yield from side.connector.conflicts
    history: list[Attempt] = side.books.ask(History(limit=_MANY))
    attempts = {attempt.attempt_id: attempt for attempt in history}
    for attempt in history:
        before = side.known.get(attempt.attempt_id)
        if before is not None:
            yield from _judge_change(before, attempt)
        if attempt.direction is Direction.OUTGOING:
            yield from _judge_payment(side, attempt, txs)
        else:
            yield from _judge_credit(side, attempt)
    for attempt_id in (side.known.keys() | side.connector.credited.keys()) - attempts.keys():
        yield f"attempt {attempt_id} is not in the books any more, or never was"
    side.known = attempts
    for account in ACCOUNTS:
        yield from _judge_entries(side, account, txs)


def _judge_change(before: Attempt, after: Attempt) -> Iterator[str]:
    def fixed(attempt: Attempt) -> tuple[object, ...]:
        return attempt.account_id, attempt.direction, attempt.amount, attempt.dust, attempt.claimed_at

    if fixed(before) != fixed(after) or (before.payment is not None and before.payment != after.payment):
        yield f"{before} became {after}"
    if before.state is AttemptState.CLOSED and (after.state, after.settled) != (before.state, before.settled):
        yield f"{before} was closed, and is {after}"


def _judge_payment(side: Side, attempt: Attempt, txs: Txs) -> Iterator[str]:
    mine = [txs[tx_id] for tx_id in side.witness.payments.get(attempt.attempt_id, ()) if tx_id in txs]
    moved = total(tx.amount for tx, fate in mine if fate is Fate.FINAL)
    may_move = [tx for tx, fate in mine if fate is Fate.FINAL or fate in _MOVING]
    if len(may_move) > 1:
        yield f"attempt {attempt.attempt_id} is paid by more than one transaction: {may_move}"
    if moved > attempt.amount:
        yield f"attempt {attempt.attempt_id} of {attempt.amount:f} is paid {moved:f}"
    if attempt.state is AttemptState.CLOSED and (attempt.settled != moved or any(f in _MOVING for _, f in mine)):
        yield f"{attempt} was closed, while {moved:f} of it moved: {mine}"


def _judge_credit(side: Side, attempt: Attempt) -> Iterator[str]:
    key, credited = attempt.attempt_id, side.connector.credited.get(attempt.attempt_id)
    if credited not in {None, (attempt.account_id, attempt.amount)}:
        yield f"credit {key} of {attempt.account_id} {attempt.amount:f} was taken as {credited}"
    if attempt.state is AttemptState.CLOSED:
        expected = attempt.amount if key in side.witness.offers else ZERO
        if attempt.settled != expected or (expected and credited is None):
            yield f"credit {key} of {attempt.amount:f} was closed with {attempt.settled}, and taken as {credited}"


def _judge_entries(side: Side, account: str, txs: Txs) -> Iterator[str]:
    outgoing, _ = _totals(side, account)
    requests = [request for request in side.connector.requests.values() if request.account == account]
    asked, promised = total(r.amount for r in requests), total(r.amount for r in requests if r.answered)
    if not promised <= outgoing.entered <= asked:
        yield f"{account}: {asked:f} was asked for and {promised:f} promised, but {outgoing.entered:f} is entered"
    paid = total(
        txs[tx_id][0].amount
        for tx_ids in side.witness.payments.values()
        for tx_id in tx_ids
        if tx_id in txs and txs[tx_id][0].memo == account and txs[tx_id][1] is not Fate.REFUSED
    )
    if paid > outgoing.entered:
        yield f"{account}: {paid:f} is paid, but only {outgoing.entered:f} was entered"
    for entry in side.books.ask(Entries(account_id=account, direction=Direction.INCOMING, limit=_MANY)):
        if entry.kind is EntryKind.REQUEST:
            tx, fate = txs.get(entry.entry_id, (None, Fate.UNKNOWN))
            if tx is None or fate is not Fate.FINAL or tx.to != side.name or tx.amount != entry.amount:
                yield f"{account}: {entry} is no payment on the ledger: {tx}, {fate}"


def _totals(side: Side, account: str) -> tuple[Totals, Totals]:
    found = side.books.ask(Overview(account_id=account))
    return (found[0].outgoing, found[0].incoming) if found else (Totals(), Totals())


def _judge_account_at_the_end(side: Side, peer: Side, account: str, txs: Txs, setting: Setting) -> Iterator[str]:
    outgoing, incoming = _totals(side, account)
    asked = total(r.amount for r in side.connector.requests.values() if r.account == account)
    if outgoing.entered != asked:
        yield f"{asked:f} was asked for, but {outgoing.entered:f} is entered"
    for name, sums, scale in (
        ("outgoing", outgoing, setting.ledger_scale),
        ("incoming", incoming, setting.connector_scale),
    ):
        smallest = ZERO if scale is None else Decimal(1).scaleb(-scale)
        if sums.open or sums.parked or (sums.queued and sums.queued >= smallest):
            yield f"{name} is not finished: {sums}"
    received: dict[str, Decimal] = defaultdict(Decimal)
    for tx, fate in txs.values():
        if tx.to == side.name and fate is Fate.FINAL:
            owner = tx.memo if tx.memo in ACCOUNTS else ACCOUNTS[0]
            received[owner] = add(received[owner], tx.amount)
    if incoming.entered != received[account]:
        yield f"{received[account]:f} arrived on the ledger, but {incoming.entered:f} is entered"
    credited = total(amount for owner, amount in side.connector.credited.values() if owner == account)
    if credited != incoming.settled:
        yield f"{incoming.settled:f} is recorded as credited, but the connector has {credited:f}"
    paid = total(tx.amount for tx, fate in txs.values() if _is_by(tx, peer, account) and fate is Fate.FINAL)
    if paid != _totals(peer, account)[0].settled:
        yield f"the peer paid {paid:f}, but has {_totals(peer, account)[0].settled:f} for settled"


def _is_by(tx: Tx, side: Side, account: str) -> bool:
    return tx.memo == account and tx.tx_id in side.witness.payments.get(tx.attempt_id, ())
