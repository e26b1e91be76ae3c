"""Several processes use one file at once, and one of them is killed: the books balance and every id applied once."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from settlement_core.engines.simulated import FaultPlan, LedgerSettings, Moved, SimulatedLedger, open_ledger
from tests.engines.simulated.world import D

ROOT = Path(__file__).parents[3]
SENDER = "tests.engines.simulated.sender"


def start(stack: ExitStack, path: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start a sender that ends with the test at the latest."""
    command = [sys.executable, "-m", SENDER, str(path), *arguments]
    process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT))
    stack.callback(process.kill)
    return process


def test_processes_side_by_side_and_one_killed_leave_true_books(path: Path) -> None:
    """Two senders repeat each other's ids, a third pays back, a fourth is killed amid its submits and redone."""
    with ExitStack() as stack:
        ledger = stack.enter_context(open_ledger(path, create=LedgerSettings(block_time_s=0.02)))
        for name in ("alice", "bob", "carol"):
            ledger.open_address(name, D(100))
        victim = start(stack, path, "carol", "bob", "0", "100000")
        others = [
            start(stack, path, "alice", "bob", "0", "120"),
            start(stack, path, "alice", "bob", "60", "120"),
            start(stack, path, "bob", "alice", "0", "120"),
        ]
        assert victim.stdout is not None
        told = [int(victim.stdout.readline()) for _ in range(40)]
        victim.send_signal(signal.SIGKILL)
        told += [int(line) for line in victim.stdout]
        assert victim.wait() == -signal.SIGKILL
        # a restarted sender does not know what of its last submits arrived, and repeats them all
        again = start(stack, path, "carol", "bob", "0", str(len(told) + 1))
        for process in (*others, again):
            assert process.communicate(timeout=60)[1] is None
            assert process.returncode == 0
        wait_for_blocks(ledger, 3)
        assert ledger.moved(source="alice", destination="bob") == Moved(180, D("1.80"))
        assert ledger.moved(source="bob", destination="alice") == Moved(120, D("1.20"))
        assert ledger.moved(source="carol", destination="bob") == Moved(len(told) + 1, D("0.01") * (len(told) + 1))
        assert len(ledger.incoming("bob", limit=10_000).entries) == 180 + len(told) + 1
        assert ledger.verify_books() == []
        assert ledger.total() == 0


def test_faults_in_many_processes_leave_true_books(path: Path) -> None:
    """Dropped, unanswered and thrown-back submits from three processes: what moved is what each id says."""
    with ExitStack() as stack:
        ledger = stack.enter_context(open_ledger(path, create=LedgerSettings(block_time_s=0.02)))
        for name in ("alice", "bob", "carol"):
            ledger.open_address(name, D(100))
        ledger.set_fault_plan(FaultPlan(drop=0.1, lose_reply=0.2, reorganise=0.3, vanish=0.3, fail_at_finality=0.1))
        processes = [
            start(stack, path, source, destination, "0", "100")
            for source, destination in (("alice", "bob"), ("bob", "carol"), ("carol", "alice"))
        ]
        for process in processes:
            process.communicate(timeout=60)
            assert process.returncode == 0
        ledger.set_fault_plan(FaultPlan())
        wait_for_blocks(ledger, 3)
        confirmed = {
            name: sum(ledger.lookup(f"{name}-{number}").state == "confirmed" for number in range(100))
            for name in ("alice", "bob", "carol")
        }
        assert ledger.balance("bob") == 100 + D("0.01") * (confirmed["alice"] - confirmed["bob"])
        assert 0 < sum(confirmed.values()) < 300
        assert ledger.verify_books() == []


def wait_for_blocks(ledger: SimulatedLedger, blocks: int) -> None:
    """Let the clock make some more blocks."""
    target, deadline = ledger.height() + blocks, time.monotonic() + 10
    while ledger.height() < target:
        assert time.monotonic() < deadline, "the ledger makes no blocks"
        time.sleep(0.01)
