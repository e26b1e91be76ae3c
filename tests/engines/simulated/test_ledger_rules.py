"""The ledger's promises, one by one: ids, funds, blocks, finality, addresses and its file."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from settlement_core.engines.simulated import (
    IncomingEntry,
    LedgerBroken,
    LedgerRefused,
    LedgerSettings,
    LedgerUnavailable,
    Moved,
    SimulatedLedger,
    Transfer,
    TransferConflict,
    TransferState,
    TransferStatus,
    open_ledger,
)
from settlement_core.engines.simulated._file import transaction
from settlement_core.values.errors import InvalidAmount, InvalidIdentifier, LocalError
from tests.engines.simulated.world import D, balances, transfer


def test_the_same_transfer_again_changes_nothing_at_any_stage(ledger: SimulatedLedger) -> None:
    """Submitted in the pool, in a block and when final, it moves once."""
    for _ in range(6):
        ledger.submit(transfer("tx", "1.50"))
        ledger.mine(1)
    assert balances(ledger)["bob"] == D("101.5")
    assert ledger.moved(source="alice", destination="bob") == Moved(1, D("1.5"))


@pytest.mark.parametrize(
    "other",
    [
        transfer("tx", "2"),
        transfer("tx", "1", memo="m"),
        transfer("tx", "1", to="carol"),
        transfer("tx", "1", source="carol"),
    ],
    ids=["amount", "memo", "destination", "source"],
)
def test_an_id_is_never_used_for_two_transfers(ledger: SimulatedLedger, other: Transfer) -> None:
    """Other fields under the same id are refused, and the first transfer is what happens."""
    ledger.submit(transfer("tx", "1"))
    with pytest.raises(TransferConflict, match="'tx' exists with other fields; nothing was recorded"):
        ledger.submit(other)
    ledger.mine(3)
    assert ledger.lookup("tx").transfer == transfer("tx", "1")
    assert balances(ledger) == {"alice": D(99), "bob": D(101), "carol": D(100)}


def test_a_look_up_tells_how_final_a_transfer_is(ledger: SimulatedLedger) -> None:
    """Unknown, pending, included with one and two confirmations, confirmed with three and more."""
    sent = transfer("tx")
    assert ledger.lookup("tx") == TransferStatus(state=TransferState.UNKNOWN)
    ledger.submit(sent)
    assert ledger.lookup("tx") == TransferStatus(state=TransferState.PENDING, transfer=sent)
    seen = []
    for _ in range(4):
        ledger.mine(1)
        status = ledger.lookup("tx")
        seen.append((status.state, status.confirmations))
    included, confirmed = TransferState.INCLUDED, TransferState.CONFIRMED
    assert seen == [(included, 1), (included, 2), (confirmed, 3), (confirmed, 4)]


def test_what_is_on_its_way_can_neither_be_spent_twice_nor_spent_by_its_receiver(ledger: SimulatedLedger) -> None:
    """Money in a block that may be dropped is reserved: the second spender fails, the receiver has to wait."""
    ledger.submit(transfer("first", "70"))
    ledger.submit(transfer("second", "70", to="carol"))
    ledger.submit(transfer("onward", "150", source="bob", to="carol"))
    ledger.mine(1)
    assert ledger.lookup("second").state is TransferState.FAILED
    assert ledger.lookup("second").reason == "insufficient funds: 30 of 70"
    assert ledger.lookup("onward").state is TransferState.FAILED
    ledger.mine(2)
    ledger.submit(transfer("later", "150", source="bob", to="carol"))
    ledger.mine(3)
    assert balances(ledger) == {"alice": D(30), "bob": D(20), "carol": D(250)}


def test_a_failed_transfer_stays_failed_through_a_reorganisation(ledger: SimulatedLedger) -> None:
    """The id is consumed at inclusion; dropping that block does not bring it back."""
    ledger.submit(transfer("tx", "101"))
    ledger.mine(1)
    assert ledger.reorganise(1, vanish=True) == []
    ledger.submit(transfer("gift", "50", source="carol", to="alice"))
    ledger.mine(3)
    ledger.submit(transfer("tx", "101"))
    ledger.mine(3)
    assert ledger.lookup("tx").state is TransferState.FAILED
    assert balances(ledger)["alice"] == 150


def test_final_blocks_cannot_be_reorganised(ledger: SimulatedLedger) -> None:
    """With three confirmations two blocks may go; asking for more is refused and changes nothing."""
    ledger.submit(transfer("tx"))
    ledger.mine(3)
    with pytest.raises(LedgerRefused, match="only the newest 2 are not yet final"):
        ledger.reorganise(3)
    assert ledger.reorganise(2) == []
    assert ledger.lookup("tx").state is TransferState.CONFIRMED


def test_incoming_entries_are_final_numbered_and_paged(ledger: SimulatedLedger) -> None:
    """Opening money is no entry; three payments are 1, 2, 3, page by page, and only once final."""
    for number in (1, 2, 3):
        ledger.submit(transfer(f"tx{number}", f"0.{number}", memo=f"m{number}"))
    ledger.mine(2)
    assert ledger.incoming("bob").entries == []
    ledger.mine(1)
    expected = [
        IncomingEntry(seq=number, tx_id=f"tx{number}", source="alice", amount=D(f"0.{number}"), memo=f"m{number}")
        for number in (1, 2, 3)
    ]
    assert ledger.incoming("bob", limit=2).entries == expected[:2]
    assert ledger.incoming("bob", after_seq=2).entries == expected[2:]
    assert ledger.incoming("alice").entries == []


def test_amounts_are_exact_at_any_size(ledger: SimulatedLedger) -> None:
    """Sums that a float, or 64 bits, would round come out to the last digit."""
    big, small = D("123456789012345678901234567890.000000001"), D("0.000000001")
    ledger.open_address("rich", big)
    for number in range(3):
        ledger.submit(Transfer(tx_id=f"tx{number}", source="rich", destination="bob", amount=small))
    ledger.mine(3)
    assert ledger.balance("rich") == D("123456789012345678901234567889.999999998")
    assert ledger.balance("bob") == D("100.000000003")


@pytest.mark.parametrize(
    "wrong",
    [
        transfer("tx", "0"),
        transfer("tx", "-1"),
        transfer("tx", "NaN"),
        transfer("tx", "0.0000000001"),
        transfer("", "1"),
        transfer("two words", "1"),
        transfer("x" * 129, "1"),
        transfer("tx", "1", memo="a\nb"),
        transfer("tx", "1", to="alice"),
        transfer("tx", "1", to="nobody"),
        transfer("tx", "1", source="nobody"),
        transfer("tx", "1", to="mint"),
        transfer("tx", "1", source="mint"),
        Transfer(tx_id="tx", source="alice", destination="bob", amount=1.0),  # type: ignore[arg-type]
        Transfer(tx_id=5, source="alice", destination="bob", amount=D(1)),  # type: ignore[arg-type]
    ],
    ids=str,
)
def test_a_transfer_that_could_never_apply_is_refused_at_once(ledger: SimulatedLedger, wrong: Transfer) -> None:
    """Nothing of it is recorded."""
    with pytest.raises(LocalError):
        ledger.submit(wrong)
    ledger.mine(3)
    assert balances(ledger) == {"alice": D(100), "bob": D(100), "carol": D(100)}
    assert ledger.lookup("tx").state is TransferState.UNKNOWN


def test_an_address_is_opened_once(ledger: SimulatedLedger) -> None:
    """The same again makes no money; another balance, a bad name, or the mint's is refused."""
    ledger.open_address("alice", D("100.0"))
    for name, amount in (("alice", "5"), ("mint", "5")):
        with pytest.raises(LedgerRefused, match="was opened with"):
            ledger.open_address(name, D(amount))
    with pytest.raises(InvalidIdentifier):
        ledger.open_address("a b")
    with pytest.raises(InvalidAmount):
        ledger.open_address("dave", D(-1))
    with pytest.raises(LedgerRefused, match="address 'dave' does not exist"):
        ledger.balance("dave")
    with pytest.raises(LedgerRefused, match="address 'dave' does not exist"):
        ledger.incoming("dave")
    assert ledger.balance("alice") == 100
    assert [ledger.has_address(name) for name in ("alice", "dave", "mint")] == [True, False, False]


def test_blocks_follow_the_clock(path: Path) -> None:
    """A block every ten seconds, whoever looks and however late; the clock going back changes nothing."""
    now = [1000.0]
    with open_ledger(path, create=LedgerSettings(block_time_s=10), clock=lambda: now[0]) as ledger:
        ledger.open_address("alice", D(100))
        ledger.open_address("bob")
        now[0] = 1005.0
        ledger.submit(transfer("tx"))
        states = []
        for now[0] in (1009.0, 1010.0, 1019.9, 1020.0, 1000.0):
            status = ledger.lookup("tx")
            states.append((ledger.height(), status.state.value, status.confirmations))
        assert states == [
            (0, "pending", 0),
            (1, "included", 1),
            (1, "included", 1),
            (2, "confirmed", 2),
            (2, "confirmed", 2),
        ]
        with pytest.raises(LedgerRefused, match="the clock makes a block"):
            ledger.mine(1)


def test_a_long_idle_time_costs_nothing_and_loses_nothing(path: Path) -> None:
    """A transfer submitted a year before anybody looks again is final; the empty blocks were never written."""
    now = [0.0]
    with open_ledger(path, create=LedgerSettings(), clock=lambda: now[0]) as ledger:
        ledger.open_address("alice", D(100))
        ledger.open_address("bob")
        ledger.submit(transfer("tx"))
        now[0] = 365 * 86400.0
        assert ledger.balance("bob") == 1
        assert ledger.height() == 365 * 86400 * 20
        assert ledger.lookup("tx").confirmations == 365 * 86400 * 20
        assert ledger.verify_books() == []


def test_a_ledger_keeps_the_settings_it_was_created_with(path: Path) -> None:
    """Opening needs none, the same are welcome, others are refused rather than ignored."""
    settings = LedgerSettings(asset_scale=2, confirmations=5, block_time_s=0)
    with open_ledger(path, create=settings) as first, open_ledger(path) as second:
        assert first.ledger_id == second.ledger_id
        assert second.settings == settings
    open_ledger(path, create=settings).close()
    with pytest.raises(LedgerRefused, match="was created with"):
        open_ledger(path, create=LedgerSettings())


def test_only_a_ledger_is_opened(tmp_path: Path) -> None:
    """No file, no directory, another file, another database: each is refused in one sentence, and none is made."""
    with pytest.raises(LedgerRefused, match="there is no ledger at"):
        open_ledger(tmp_path / "none.db")
    with pytest.raises(LedgerRefused, match="there is no directory"):
        open_ledger(tmp_path / "none" / "ledger.db", create=LedgerSettings())
    (tmp_path / "text").write_text("not a database, but long enough to look like one\n" * 50)
    with pytest.raises(LedgerRefused, match="is not a simulated ledger"):
        open_ledger(tmp_path / "text")
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE something (x)")
    other.close()
    for create in (None, LedgerSettings()):
        with pytest.raises(LedgerRefused, match="is not a simulated ledger"):
            open_ledger(tmp_path / "other.db", create=create)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["other.db", "text"]


@pytest.mark.parametrize("wrong", [{"asset_scale": 256}, {"confirmations": 0}, {"block_time_s": float("nan")}])
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    """Before any file is made."""
    with pytest.raises(LedgerRefused):
        LedgerSettings(**wrong)  # type: ignore[arg-type]


def test_a_locked_file_is_a_passing_error(path: Path, ledger: SimulatedLedger) -> None:
    """While another process holds the file, nothing is known and nothing done; afterwards all is as before."""
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(LedgerUnavailable, match="locked"):
        open_ledger(path, patience_s=0)
    holder.execute("ROLLBACK")
    with open_ledger(path, patience_s=0) as impatient:
        holder.execute("BEGIN EXCLUSIVE")
        for call in (lambda: impatient.submit(transfer("tx")), lambda: impatient.lookup("tx")):
            with pytest.raises(LedgerUnavailable, match="locked"):
                call()
        holder.execute("ROLLBACK")
        assert impatient.lookup("tx").state is TransferState.UNKNOWN
        impatient.submit(transfer("tx"))
    holder.close()
    ledger.mine(3)
    assert balances(ledger)["bob"] == 101


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("UPDATE address SET balance = '102' WHERE name = 'bob'", "address 'bob' has balance 102"),
        ("UPDATE address SET reserved = '1' WHERE name = 'bob'", "address 'bob' has 1 reserved"),
        ("UPDATE entry SET delta = '2' WHERE tx_id = 'tx' AND address = 'bob'", "sum up to 1, not to zero"),
        ("DELETE FROM entry WHERE tx_id = 'tx'", "transfer 'tx' is confirmed, but its entries do not say so"),
        ("UPDATE transfer SET state = 'failed' WHERE tx_id = 'tx'", "transfer 'tx' is failed, but"),
        ("DELETE FROM transfer WHERE tx_id = 'tx'", "entries of transfer 'tx', which does not exist"),
        ("DELETE FROM address WHERE name = 'bob'", "address 'bob', which does not exist"),
        ("UPDATE entry SET seq = 2 WHERE seq = 1", "incoming entries of address 'bob' are not in sequence"),
        ("UPDATE entry SET seq = NULL WHERE seq = 1", "incoming entries of address 'bob' are missing"),
        ("UPDATE transfer SET tx_id = 'other' WHERE tx_id = 'tx'", "block 1 does not fit the chain"),
        ("DELETE FROM block", "transfers in block 1, which does not exist"),
    ],
)
def test_every_damage_to_the_books_is_found(path: Path, damage: str, found: str) -> None:
    """Somebody writes into the file; the check says what is wrong."""
    with open_ledger(path, create=LedgerSettings(block_time_s=0), durable=False) as ledger:
        ledger.open_address("alice", D(100))
        ledger.open_address("bob", D(100))
        ledger.submit(transfer("tx"))
        ledger.mine(2)
        assert ledger.verify_books() == []
        db = sqlite3.connect(path, isolation_level=None)
        db.execute(damage)
        db.close()
        assert any(found in problem for problem in ledger.verify_books())


def test_an_overdrawn_address_is_found(path: Path) -> None:
    """Even if its entries agree."""
    with open_ledger(path, create=LedgerSettings(block_time_s=0), durable=False) as ledger:
        ledger.open_address("bob", D(1))
        db = sqlite3.connect(path, isolation_level=None)
        db.execute("UPDATE address SET balance = '-1' WHERE name = 'bob'")
        db.execute("UPDATE entry SET delta = '-1' WHERE address = 'bob'")
        db.close()
        assert any("below zero" in problem for problem in ledger.verify_books())


def test_a_transaction_cut_by_an_error_leaves_nothing(path: Path, ledger: SimulatedLedger) -> None:
    """Whatever breaks in the middle, what was done before it is undone."""
    db = sqlite3.connect(path, isolation_level=None)
    with pytest.raises(ZeroDivisionError), transaction(db, write=True, patience_s=0):
        db.execute("DELETE FROM address")
        raise ZeroDivisionError
    db.close()
    assert balances(ledger)["alice"] == 100


def test_a_damaged_file_is_broken_for_good(path: Path, ledger: SimulatedLedger) -> None:
    """What will not pass by itself is no RemoteError: nobody retries it for ever."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("ALTER TABLE transfer RENAME TO elsewhere")
    with pytest.raises(LedgerBroken, match="no such table"):
        ledger.lookup("tx")
    db.execute("ALTER TABLE elsewhere RENAME TO transfer")
    db.close()


def test_a_closed_ledger_says_so(path: Path, ledger: SimulatedLedger) -> None:
    """Using it is the caller's mistake, not the file's; closing it twice is none."""
    other = open_ledger(path)
    assert ledger.ledger_id in repr(other)
    other.close()
    other.close()
    with pytest.raises(sqlite3.ProgrammingError):
        other.height()
