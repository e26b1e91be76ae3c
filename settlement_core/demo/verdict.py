"""What the demonstration proved: every party's books side by side."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from settlement_core.auditing.audit import AuditReport, audit
from settlement_core.engines.simulated import SimulatedLedger
from settlement_core.store_urls import open_store
from settlement_core.testing.connector import TestConnector
from settlement_core.values.amounts import subtract

__all__ = ["Relation", "Row", "Verdict", "judge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """One direction between two peers: `debtor`'s account at its side, `creditor`'s at the other."""

    debtor: str
    creditor: str
    debtor_account: str
    creditor_account: str

    def __str__(self) -> str:
        return f"{self.debtor} → {self.creditor} ({self.debtor_account})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One direction's books at the end, in standard units.

    Attributes:
        requested: what the debtor's connector asked its engine to settle.
        settled: what the debtor's engine has recorded as settled.
        in_doubt: what it could not tell.
        credited: what the creditor's connector was told to credit.
    """

    relation: Relation
    requested: Decimal
    settled: Decimal
    in_doubt: Decimal
    credited: Decimal

    @property
    def difference(self) -> Decimal:
        """What was asked for and did not arrive; below zero, what arrived and was not asked for."""
        return subtract(self.requested, self.credited)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Every party's books, and what is wrong with them: nothing, if all agree to the last digit."""

    rows: list[Row]
    settlements: int
    kills: int
    seed: int
    transfers: int
    problems: list[str]

    @property
    def ok(self) -> bool:
        """Tell whether everything agrees."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as JSON values."""
        return {
            "ok": self.ok,
            "seed": self.seed,
            "settlements": self.settlements,
            "kills": self.kills,
            "transfers": self.transfers,
            "rows": [
                {
                    "from": row.relation.debtor,
                    "to": row.relation.creditor,
                    "account": row.relation.debtor_account,
                    "requested": f"{row.requested:f}",
                    "settled": f"{row.settled:f}",
                    "in_doubt": f"{row.in_doubt:f}",
                    "credited": f"{row.credited:f}",
                    "difference": f"{row.difference:f}",
                }
                for row in self.rows
            ],
            "problems": self.problems,
        }


def judge(
    relations: list[Relation],
    connectors: dict[str, TestConnector],
    stores: dict[str, str],
    ledger: SimulatedLedger,
) -> tuple[list[Row], int, list[str]]:
    """Compare the connectors' books, both stores (by URL) and the ledger; return rows, transfers and problems."""
    audits = {name: _audit(url) for name, url in stores.items()}
    problems = [f"ledger: {sentence}" for sentence in ledger.verify_books()]
    for name, report in audits.items():
        problems += [f"{name}'s store, {p.row} of {p.account_id!r}: {p.sentence}" for p in report.problems]
        problems += [f"{name}: settlement {i.settlement_id!r} has no owner" for i in report.unattributed]
    rows = [_row(relation, connectors, audits) for relation in relations]
    problems += [problem for row in rows for problem in _problems(row)]
    transfers = 0
    for debtor, creditor in {(row.relation.debtor, row.relation.creditor) for row in rows}:
        moved = ledger.moved(source=debtor, destination=creditor)
        transfers += moved.transfers
        credited = sum((r.credited for r in rows if r.relation.debtor == debtor), Decimal(0))
        if moved.amount != credited:
            problems.append(f"{debtor} paid {moved.amount:f} on the ledger, {creditor} was credited {credited:f}")
    return rows, transfers, problems


def _audit(url: str) -> AuditReport:
    store = open_store(url, create=False)
    try:
        return audit(store)
    finally:
        store.close()


def _row(relation: Relation, connectors: dict[str, TestConnector], audits: dict[str, AuditReport]) -> Row:
    accounts = {account.account_id: account for account in audits[relation.debtor].accounts}
    books = accounts[relation.debtor_account].outgoing
    return Row(
        relation=relation,
        requested=connectors[relation.debtor].account(relation.debtor_account).requested,
        settled=books.settled,
        in_doubt=books.parked,
        credited=connectors[relation.creditor].account(relation.creditor_account).credited,
    )


def _problems(row: Row) -> list[str]:
    if row.requested == row.settled == row.credited and not row.in_doubt:
        return []
    books = f"requested {row.requested:f}, settled {row.settled:f}, in doubt {row.in_doubt:f}"
    return [f"{row.relation}: {books}, credited {row.credited:f}"]
