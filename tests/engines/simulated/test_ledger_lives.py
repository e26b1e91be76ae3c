"""Any life of a ledger, drawn by Hypothesis, keeps its books, its ids and its cursors."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from settlement_core.engines.simulated import (
    FaultPlan,
    IncomingEntry,
    LedgerSettings,
    LedgerUnavailable,
    Transfer,
    TransferConflict,
    TransferState,
    open_ledger,
)
from tests.engines.simulated.world import D

NAMES = ("alice", "bob", "carol")
FINAL = {TransferState.CONFIRMED, TransferState.FAILED}

names = st.sampled_from(NAMES)
ids = st.integers(0, 11).map("tx{}".format)
amounts = st.integers(1, 30 * 10**9).map(lambda units: Decimal(units).scaleb(-9))
rates = st.sampled_from([0.0, 0.0, 0.3])


class LedgerLife(RuleBasedStateMachine):
    """Senders, miners, reorganisations, faults and readers, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.mkdtemp()
        self.path = Path(self.directory) / "ledger.db"
        self.read: dict[str, list[IncomingEntry]] = {name: [] for name in NAMES}
        self.finals: dict[str, tuple[TransferState, Transfer]] = {}

    @initialize(confirmations=st.integers(1, 4))
    def create(self, confirmations: int) -> None:
        """Open three addresses."""
        self.ledger = open_ledger(
            self.path, create=LedgerSettings(confirmations=confirmations, block_time_s=0), durable=False
        )
        for name in NAMES:
            self.ledger.open_address(name, D(50))

    @rule(tx_id=ids, source=names, destination=names, amount=amounts, memo=st.sampled_from(["", "m"]))
    def submit(self, tx_id: str, source: str, destination: str, amount: Decimal, memo: str) -> None:
        """Submit anything under one of few ids."""
        if source == destination:
            return
        sent = Transfer(tx_id=tx_id, source=source, destination=destination, amount=amount, memo=memo)
        with suppress(TransferConflict, LedgerUnavailable):
            self.ledger.submit(sent)

    @rule(tx_id=ids)
    def submit_again(self, tx_id: str) -> None:
        """Submit what the ledger knows once more."""
        try:
            known = self.ledger.lookup(tx_id).transfer
            if known is not None:
                self.ledger.submit(known)
        except LedgerUnavailable:
            pass

    @rule(blocks=st.integers(1, 4))
    def mine(self, blocks: int) -> None:
        """Let blocks pass."""
        self.ledger.mine(blocks)

    @rule(depth=st.integers(0, 3), vanish=st.sampled_from([True, False, None]))
    def reorganise(self, depth: int, vanish: bool | None) -> None:
        """Drop what is not final."""
        self.ledger.reorganise(min(depth, self.ledger.settings.confirmations - 1), vanish=vanish)

    @rule(
        seed=st.integers(0, 99), drop=rates, lose=rates, look=rates, twice=rates, reorg=rates, vanish=rates, fail=rates
    )
    def plan(
        self,
        *,
        seed: int,
        drop: float,
        lose: float,
        look: float,
        twice: float,
        reorg: float,
        vanish: float,
        fail: float,
    ) -> None:
        """Change the faults."""
        self.ledger.set_fault_plan(
            FaultPlan(
                seed=seed,
                drop=drop,
                lose_reply=lose,
                lookup_failure=look,
                duplicate_event=twice,
                reorganise=reorg,
                vanish=vanish,
                fail_at_finality=fail,
            )
        )

    @rule()
    def reopen(self) -> None:
        """Restart."""
        self.ledger.close()
        self.ledger = open_ledger(self.path, durable=False)

    @rule(name=names, limit=st.integers(1, 5))
    def read_on(self, name: str, limit: int) -> None:
        """Read on from where this reader is; what was read before may come again, but never something in between."""
        have = self.read[name]
        try:
            page = self.ledger.incoming(name, after_seq=len(have), limit=limit).entries
        except LedgerUnavailable:
            return
        for entry in page:
            if entry.seq <= len(have):
                assert have[entry.seq - 1] == entry
            else:
                assert entry.seq == len(have) + 1
                have.append(entry)

    @rule(tx_id=ids)
    def look(self, tx_id: str) -> None:
        """See what is final: it must stay so for ever."""
        try:
            status = self.ledger.lookup(tx_id)
        except LedgerUnavailable:
            return
        if tx_id in self.finals:
            assert (status.state, status.transfer) == self.finals[tx_id]
        elif status.state in FINAL:
            assert status.transfer is not None
            self.finals[tx_id] = (status.state, status.transfer)

    @invariant()
    def the_books_balance(self) -> None:
        """Every delta has its counterpart, no balance is below zero, every sequence is whole."""
        assert self.ledger.total() == 0
        assert self.ledger.verify_books() == []

    @invariant()
    def nothing_read_is_taken_back(self) -> None:
        """Every entry a reader was given is of a confirmed transfer, and each transfer was given once."""
        given = [entry for entries in self.read.values() for entry in entries]
        assert len({entry.tx_id for entry in given}) == len(given)

    def teardown(self) -> None:
        """Let everything become final; the balances are then exactly what the look-ups say."""
        if not hasattr(self, "ledger"):
            return
        self.ledger.set_fault_plan(FaultPlan())
        self.ledger.mine(5)
        expected = dict.fromkeys(NAMES, D(50))
        confirmed = set()
        for number in range(12):
            status = self.ledger.lookup(f"tx{number}")
            assert status.state in {TransferState.UNKNOWN, *FINAL}
            if status.state is TransferState.CONFIRMED and status.transfer is not None:
                expected[status.transfer.source] -= status.transfer.amount
                expected[status.transfer.destination] += status.transfer.amount
                confirmed.add(status.transfer.tx_id)
        for name in NAMES:
            self.read_on(name, 100)
        assert {name: self.ledger.balance(name) for name in NAMES} == expected
        assert {entry.tx_id for entries in self.read.values() for entry in entries} == confirmed
        self.the_books_balance()
        self.ledger.close()
        shutil.rmtree(self.directory)


# in a transaction per step, real files: few examples, long lives
LedgerLife.TestCase.settings = settings(
    max_examples=30, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
test_any_life_keeps_books_ids_and_cursors = LedgerLife.TestCase
