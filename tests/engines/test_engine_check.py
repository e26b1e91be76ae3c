"""The public check of engines: every engine we have passes it, and each planted fault is found and named."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from settlement_core.testing.clocks import virtual_backend
from settlement_core.testing.engine_check import PROMISES, EngineReport, OpenLedger, check_engine, find_engine_faults
from tests.engines import ledgers, toys

NAMES = {promise.name for promise in PROMISES}
INCOMING = {
    "credits_what_came_while_it_was_down",
    "credits_once_although_it_crashes",
    "is_not_stopped_by_a_stranger",
}
LEDGER_FAULTS = {
    "pays_once_although_a_request_is_lost",
    "pays_once_although_a_reply_is_lost",
    "pays_once_in_the_end_after_a_rejection",
}
VERIFIABLE = {
    "prepares_without_effect",
    "verifies_what_was_never_submitted",
    "submits_twice_and_pays_once",
    "prepares_twice_and_pays_once",
    "rejects_for_good",
    "pays_once_although_the_store_forgets",
    "pays_once_through_a_reorganisation",
}
MESSAGES = {"answers_any_message"}
REPLICAS = {promise.name for promise in PROMISES if "catch_up" in promise.needs}


def run(check: Callable[[OpenLedger], Any], open_ledger: OpenLedger, backend: str) -> Any:
    """Run a check under virtual time."""
    name, options = virtual_backend(backend)
    return anyio.run(check, open_ledger, backend=name, backend_options=options)


async def run_here(call: Callable[..., Any], *args: object, **_options: object) -> Any:
    """Do without a worker thread, for which virtual time would not wait."""
    await anyio.lowlevel.checkpoint()
    result = call(*args)
    await anyio.lowlevel.checkpoint()
    return result


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
@pytest.mark.parametrize(
    ("open_ledger", "skipped"),
    [
        pytest.param(ledgers.opening(toys.ToyEngine), set(), id="toy"),
        pytest.param(ledgers.opening(toys.ExpiringEngine), set(), id="toy expiring"),
        pytest.param(ledgers.opening(toys.TellerEngine), VERIFIABLE | INCOMING | MESSAGES | REPLICAS, id="toy minimal"),
        pytest.param(ledgers.open_simulated, set(), id="simulated"),
        pytest.param(
            ledgers.open_folder, LEDGER_FAULTS | INCOMING | MESSAGES | {"rejects_for_good"}
            | {"pays_once_through_a_reorganisation"} | REPLICAS, id="example",
        ),
        pytest.param(
            ledgers.open_printed, VERIFIABLE | LEDGER_FAULTS | INCOMING | MESSAGES | REPLICAS, id="minimal example"
        ),
        pytest.param(
            ledgers.open_fake_minimal, VERIFIABLE | LEDGER_FAULTS | INCOMING | MESSAGES | REPLICAS, id="minimal fake"
        ),
        pytest.param(
            ledgers.open_fake_verifiable, INCOMING | MESSAGES | REPLICAS | {"pays_once_through_a_reorganisation"},
            id="fake",
        ),
    ],
)  # fmt: skip
def test_every_engine_we_have_keeps_every_promise(
    backend: str, open_ledger: OpenLedger, skipped: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shipped, example or fake: all that can be tried holds, and only what the ledger has no button for is skipped."""
    monkeypatch.setattr(anyio.to_thread, "run_sync", run_here)
    # whether a loop cuts calls otherwise is seen at a third of the moments, too
    stride = 1 if backend == "trio" else 3
    report: EngineReport = run(partial(check_engine, stride=stride), open_ledger, backend)
    assert report.skipped.keys() == skipped
    assert set(report.held) == NAMES - skipped
    assert report.lives >= 8 / stride, "lives were cut"


def test_a_promise_can_be_tried_alone() -> None:
    """Besides a life in peace; a name that none has is refused."""
    only = ["pays_once_although_it_crashes"]
    report = run(partial(find_engine_faults, only=only), ledgers.opening(toys.PaysAnewPerSubmit), "trio")
    assert report.broken.keys() == set(only)
    assert report.held == ("pays_exactly_once_in_peace",)
    assert report.skipped == {}
    with pytest.raises(ValueError, match="no promise is called pays_twice; see PROMISES"):
        run(partial(check_engine, only=[*only, "pays_twice"]), ledgers.opening(toys.ToyEngine), "trio")


def test_a_stride_strikes_fewer_lives_and_keeps_every_promise() -> None:
    """For ledgers on which each takes long."""
    every = run(check_engine, ledgers.opening(toys.ToyEngine), "trio")
    fourth = run(partial(check_engine, stride=4), ledgers.opening(toys.ToyEngine), "trio")
    assert set(fourth.held) == set(every.held) == NAMES
    assert every.lives / 4 < fourth.lives < every.lives * 2 / 3


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_the_check_runs_in_real_time_too(backend: str) -> None:
    """As it does for an engine on a node: no clock is needed but the loop's own."""
    report = anyio.run(check_engine, ledgers.opening(toys.TellerEngine), backend=backend)
    assert "pays_once_although_it_crashes" in report.held


AGAIN = "what may have been paid already was paid again"
TOO_EARLY = r"verify said Settled\(10\.123456789\) when the ledger had moved only 0 for good"
ROUNDED = "an amount was rounded on its way"
APPLIED = "verify said Rejected of a payment of 10.123456789 that then applied"
REPLICA_APPLIED = (
    r"verify said Rejected of a payment of 10.123456789 that had applied, having asked .*replicas?.*: absence is "
    "evidence only from a source that has just shown that it holds the range in question"
)
LOST_CREDIT = "the credit of what the peer paid did not happen .* it had looked through "

FAULTS: list[tuple[type, str, str]] = [
    (toys.PaysAnewPerSubmit, "submits_twice_and_pays_once", "submitted twice, it pays twice"),
    (toys.PaysAnewPerSubmit, "pays_once_although_it_crashes", AGAIN),
    (toys.PaysAnewPerSubmit, "pays_once_although_it_is_cancelled", AGAIN),
    (toys.PaysAnewPerSubmit, "pays_once_although_it_is_shut_down", AGAIN),
    (toys.PaysAnewPerPrepare, "prepares_twice_and_pays_once", "every prepare makes a transaction of its own"),
    (toys.PaysAnewPerPrepare, "pays_once_although_the_store_forgets", AGAIN),
    (toys.LostReplyIsFailure, "pays_once_although_a_reply_is_lost", AGAIN),
    (toys.CancelledIsFailure, "pays_once_although_it_is_shut_down", AGAIN),
    (toys.CancelledIsFailure, "pays_once_although_it_is_cancelled", "settle swallows cancellation"),
    (toys.SettledTooEarly, "pays_exactly_once_in_peace", TOO_EARLY),
    (toys.SettledNothing, "pays_exactly_once_in_peace", r"paid \S+ for a settlement of 10\.\d+, and it is still not"),
    (toys.SettledNothing, "submits_twice_and_pays_once", r"said Settled\(0\) of a payment by which .* moved 10\.\d+"),
    (toys.RejectedTooEarly, "pays_exactly_once_in_peace", r"paid \S+ for a settlement of 10\.\d+, and it is still not"),
    (toys.RejectedTooEarly, "submits_twice_and_pays_once", APPLIED),
    (toys.UnknownIsRejected, "verifies_what_was_never_submitted", APPLIED),
    (toys.UnknownIsSettled, "verifies_what_was_never_submitted", TOO_EARLY),
    (toys.UnknownIsSettled, "pays_once_although_a_request_is_lost", TOO_EARLY),
    (toys.UnknownIsSettled, "pays_once_through_a_reorganisation", TOO_EARLY),
    (toys.ForgetsItsRejections, "rejects_for_good", "verify said Rejected, and after a restart Pending"),
    (toys.NeverSubmitsAgain, "verifies_what_was_never_submitted", "Pending with resubmit, or a final verdict, instead"),
    (toys.NeverSubmitsAgain, "pays_once_although_it_crashes", "the settlement of what is owed did not happen"),
    (toys.PaysThroughFloats, "pays_exactly_once_in_peace", ROUNDED),
    (toys.PaysOnPrepare, "prepares_without_effect", "prepare alone paid 10.123456789"),
    (toys.PaysOnPrepare, "verifies_what_was_never_submitted", "said Settled of a payment that was never submitted"),
    (toys.KeepsObjects, "prepares_without_effect", "prepare returned a reference that is not JSON"),
    (
        toys.SwallowsCancellation,
        "pays_once_although_it_is_cancelled",
        "submit swallows cancellation: .* it returned as",
    ),
    (toys.NeverEnds, "pays_once_although_it_is_cancelled", "submit swallows cancellation: .* catching it 100 times"),
    (toys.TakesItsTime, "pays_once_although_it_is_cancelled", "went on for 60.0 s after it had been cancelled"),
    (toys.NeverAnswers, "pays_exactly_once_in_peace", "settle did not answer, and the settlement is in doubt"),
    (toys.StopsAtStrangers, "is_not_stopped_by_a_stranger", "the credit of what the peer paid did not happen"),
    (toys.DiesOfStrangers, "is_not_stopped_by_a_stranger", "the engine broke, and the core with it: UnknownAccount"),
    (toys.DropsStrangers, "is_not_stopped_by_a_stranger", "the report of what a stranger paid did not happen"),
    (toys.CreditsAnew, "credits_once_although_it_crashes", "give every ledger event its own settlement id"),
    (toys.MovesItsCursorFirst, "credits_once_although_it_crashes", "the credit of what the peer paid did not happen"),
    (toys.SeesOnlyWhatIsNew, "credits_what_came_while_it_was_down", "the credit of what the peer paid did not"),
    (toys.BreaksOnNonsense, "answers_any_message", "handle_message broke with TypeError"),
    (toys.HangsOnNonsense, "answers_any_message", "message null was not answered within the 4 s"),
    (toys.AnswersObjects, "answers_any_message", "answered with something that is not JSON"),
    (toys.DiesOfNonsense, "keeps_accounts_apart", "the engine broke, .* InvariantError: a peer answered nonsense"),
    (toys.WaitsForAllPeers, "keeps_accounts_apart", "the settlement of what is owed did not happen"),
    (toys.TakesLongAbsenceForRejection, "ends_no_payment_that_a_lagging_replica_does_not_hold", REPLICA_APPLIED),
    (toys.TakesPrunedForExpired, "ends_no_payment_that_a_pruned_replica_does_not_hold", REPLICA_APPLIED),
    (toys.TakesHeightFromElsewhere, "ends_no_payment_between_two_replicas", REPLICA_APPLIED),
    (toys.MovesWithItsSubscription, "loses_no_credit_to_a_lagging_replica", LOST_CREDIT + "a replica that lagged"),
    (toys.SkipsWhatIsPruned, "loses_no_credit_to_a_pruned_replica", LOST_CREDIT + "a replica that had pruned"),
    (toys.MovesToHeightFromElsewhere, "loses_no_credit_between_two_replicas", LOST_CREDIT + "two replicas"),
    (toys.NeverStarts, "starts", "the engine broke, .* ConnectionRefusedError: no node here"),
]


@pytest.mark.parametrize("engine", dict.fromkeys(engine for engine, _, _ in FAULTS), ids=lambda engine: engine.__name__)
def test_each_planted_fault_is_found_and_named(engine: type) -> None:
    """The engine's one fault breaks the promises about it, each in a sentence that says what is wrong.

    The loops take turns; that both cancel alike is tested below.
    """
    expected = [(promise, told) for faulty, promise, told in FAULTS if faulty is engine]
    backend = ("trio", "asyncio")[len(engine.__name__) % 2]
    named = [promise for promise, _ in expected if promise in NAMES]
    report: EngineReport = run(partial(find_engine_faults, only=named), ledgers.opening(engine), backend)
    for promise, told in expected:
        with pytest.raises(AssertionError, match=told):
            raise AssertionError(report.broken.get(promise, f"{promise} was not broken: {report}"))


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
@pytest.mark.parametrize("engine", [toys.SwallowsCancellation, toys.NeverEnds, toys.CancelledIsFailure])
def test_swallowed_cancellation_is_found_on_both_loops(backend: str, engine: type) -> None:
    """The loops cancel in different ways; what catches it is seen on either."""
    report: EngineReport = run(find_engine_faults, ledgers.opening(engine), backend)
    assert "swallows cancellation" in report.broken["pays_once_although_it_is_cancelled"]


def test_every_broken_promise_is_told_at_once() -> None:
    """One failure does not hide the others, and the sentence says how many there are."""
    with pytest.raises(AssertionError) as caught:
        run(check_engine, ledgers.opening(toys.PaysAnewPerPrepare), "trio")
    told = str(caught.value)
    assert told.startswith("this engine breaks 2 of 26 promises:\n- prepares_twice_and_pays_once: paid 20.246913578 ")
    assert "\n- pays_once_although_the_store_forgets: crashed, on a store that fails over" in told


def test_what_is_skipped_says_why() -> None:
    """A report shows what was not tried, and what would be needed."""
    report = str(run(check_engine, ledgers.open_printed, "trio"))
    assert "- credits_what_came_while_it_was_down: skipped: the ledger has no pay_us\n" in report
    assert "- rejects_for_good: skipped: a minimal engine cannot be asked what became of a payment\n" in report
    assert "- pays_once_although_it_crashes: held\n" in report
    assert report.endswith("- answers_any_message: skipped: the engine handles no messages")


UNSTOPPABLE = """
import sys

import anyio

from settlement_core.testing.engine_check import find_engine_faults
from tests.engines import ledgers, toys


class Unstoppable(toys.ToyEngine):
    async def submit(self, payment):
        while True:
            try:
                return await super().submit(payment)
            except BaseException:
                continue


async def check():
    report = await find_engine_faults(ledgers.opening(Unstoppable), only=["pays_once_although_it_is_cancelled"])
    print(report.broken["pays_once_although_it_is_cancelled"])


anyio.run(check, backend=sys.argv[1])
"""


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_process_ends_after_it_has_checked_an_engine_that_cannot_be_stopped(backend: str) -> None:
    """The engine's coroutine also catches that it is closed: the check names that, and its process still ends."""
    command = [sys.executable, "-c", UNSTOPPABLE, backend]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "submit swallows cancellation" in done.stdout
    assert done.stderr == ""


def test_what_cannot_be_stopped_ends_the_check() -> None:
    """An engine that lives on in the loop would spoil everything behind it: nothing more is tried."""
    report: EngineReport = run(find_engine_faults, ledgers.opening(toys.NeverEnds), "trio")
    assert report.skipped["pays_once_although_it_crashes"] == "the engine could not be stopped before"
