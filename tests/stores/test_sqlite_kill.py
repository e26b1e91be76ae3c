"""Whatever was acknowledged is there after the process was killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path

from settlement_core.auditing.audit import audit
from settlement_core.stores.sqlite import open_sqlite_store
from settlement_core.values import commands as c
from settlement_core.values.amounts import total
from settlement_core.values.records import AttemptState
from tests.stores.books import OUTGOING, ask, attempts, entered, outgoing

_WRITE_FOR_EVER = """
import sys
from decimal import Decimal
from settlement_core.stores.sqlite import open_sqlite_store
from settlement_core.values.commands import Claimed
from tests.stores.books import claimed, closed, entered, opened

store = open_sqlite_store(sys.argv[1])
life = sys.argv[2]
store.apply([opened()])
number = 0
while True:
    number += 1
    store.apply([entered(f"{life}/{number}/{n}", "0.25") for n in range(8)])
    print("entered", number, flush=True)
    (answer,) = store.apply([claimed(f"{life}/{number}")])
    assert isinstance(answer, Claimed)
    attempt = answer.attempt
    print("claimed", attempt.attempt_id, attempt.amount, flush=True)
    store.apply([closed(attempt.attempt_id, str(attempt.amount - Decimal("0.25")))])
    print("closed", attempt.attempt_id, flush=True)
"""


def test_everything_acknowledged_survives_being_killed(path: Path) -> None:
    """Three lives on one file, each ended by SIGKILL in full flight, each followed by a look at what is there."""
    acknowledged: dict[str, list[str]] = {"entered": [], "claimed": [], "closed": []}
    for life in range(3):
        command = [sys.executable, "-c", _WRITE_FOR_EVER, str(path), str(life)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline()]
            time.sleep(0.3)
            process.send_signal(signal.SIGKILL)
            lines += process.stdout.readlines()
        for line in lines:
            # a line that was cut off in the middle was not heard
            if line.endswith("\n"):
                what, number, *_ = line.split()
                acknowledged[what].append(f"{life}/{number}" if what == "entered" else number)

        store = open_sqlite_store(path)
        keys = [f"{number}/{n}" for number in acknowledged["entered"] for n in range(8)]
        replays = store.apply([entered(key, "0.25") for key in keys])
        assert replays == [c.Entered(Decimal("0.25"), replay=True)] * len(keys)
        known = {attempt.attempt_id: attempt for attempt in attempts(store)}
        assert set(acknowledged["claimed"]) <= known.keys()
        assert {known[attempt_id].state for attempt_id in acknowledged["closed"]} == {AttemptState.CLOSED}
        totals = outgoing(store)
        assert totals.entered == total(
            e.amount
            for e in ask(store, c.Entries(account_id="alice", direction=OUTGOING, limit=10**6))
            if e.kind == "request"
        )
        assert totals.entered >= Decimal("0.25") * len(keys)
        assert audit(store).ok
        store.close()
    assert len(acknowledged["closed"]) > 30
