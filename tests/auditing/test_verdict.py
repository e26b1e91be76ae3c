"""The verdict as a pure function: the gravest grade counts, reasons are grouped, and each names what ends it."""

from __future__ import annotations

from decimal import Decimal

import pytest

from settlement_core.auditing.kinds import KINDS, RETRY_S, UNSETTLED_S, Grade, Kind
from settlement_core.auditing.verdict import EXIT_CODES, GROUPS, Trouble, Verdict, judge

NOON = 1_800_014_400.0
"""12:00 UTC of a day in 2027."""


def verdict_of(*troubles: Trouble, accounts: int = 1) -> Verdict:
    """Return the verdict at noon."""
    return judge(troubles, at=NOON, accounts=accounts)


def test_without_troubles_the_money_is_all_right() -> None:
    """Exit code 0; empty books are not praised."""
    good = verdict_of()
    assert (good.grade, good.reasons, good.exit_code) == (Grade.GOOD, (), 0)
    assert good.sentence == "your money is all right: the books add up, and nothing waits for you"
    empty = verdict_of(accounts=0)
    assert (empty.grade, empty.sentence) == (
        Grade.GOOD,
        "there is no account yet: the books are empty, and nothing waits for you",
    )


@pytest.mark.parametrize("kind", Kind)
def test_no_kind_of_trouble_is_good(kind: Kind) -> None:
    """Each alone has its own grade and exit code, a sentence that is not the good one, and what ends it."""
    trouble = Trouble(kind=kind, words="why", account_id="alice", amount=Decimal(7), lasted_s=2 * UNSETTLED_S)
    found = verdict_of(trouble)
    assert found.grade is KINDS[kind].grade is not Grade.GOOD
    assert found.exit_code == {"wrong": 1, "waits": 3, "stuck": 4}[found.grade]
    (reason,) = found.reasons
    assert (reason.kind, reason.count) == (kind, 1)
    assert reason.command
    assert "{" not in found.sentence + reason.text + reason.command
    assert "all right" not in found.sentence


def test_the_gravest_grade_counts_and_the_others_are_told_after_it() -> None:
    """Wrong before stuck before waiting, whatever order they were found in."""
    waits = Trouble(kind=Kind.IN_DOUBT, account_id="bob", amount=Decimal(13))
    stuck = Trouble(kind=Kind.CONNECTOR, account_id="bob", words="503")
    wrong = Trouble(kind=Kind.HALTED, account_id="alice", words="outgoing: too much")
    found = verdict_of(waits, stuck, wrong)
    assert found.grade is Grade.WRONG
    assert found.sentence == (
        "something is wrong: account alice halted; also the connector takes no credits, 13 in doubt"
    )
    assert [reason.kind for reason in found.reasons] == [Kind.HALTED, Kind.CONNECTOR, Kind.IN_DOUBT]
    assert verdict_of(waits, stuck).sentence == "money is stuck: the connector takes no credits; also 13 in doubt"
    assert verdict_of(waits).sentence == "the books add up, and this waits for you: 13 in doubt"


def test_accounts_with_the_same_reason_are_one_reason() -> None:
    """Ids, hashes and times within the words do not tell them apart; statuses do; the oldest says since when."""
    failing = [
        Trouble(
            kind=Kind.RETRIES,
            words=f"insufficient funds for 0xdeadbeef{number}",
            account_id=f"peer-{number}",
            since=NOON + 7200 + 60 * number,
            lasted_s=RETRY_S,
        )
        for number in range(12)
    ]
    found = verdict_of(*failing, Trouble(kind=Kind.RETRIES, words="503", account_id="zoe", lasted_s=RETRY_S))
    first, second = found.reasons
    assert first.text == "12 accounts: insufficient funds for 0xdeadbeef0 since 14:00 UTC"
    assert (first.count, first.account_count, first.accounts[:2]) == (12, 12, ("peer-0", "peer-1"))
    assert second.text == "account zoe: 503"
    assert second.command.endswith("settlement-core settle zoe")
    assert found.sentence == "money is stuck: retries of 13 accounts have failed for more than 15 minutes"


def test_an_age_counts_once_the_patience_of_its_kind_is_over() -> None:
    """A retry of 15 minutes, an hour in which nothing moved; not a moment earlier."""
    for kind, patience_s in ((Kind.RETRIES, RETRY_S), (Kind.SET_UP, RETRY_S), (Kind.UNSETTLED, UNSETTLED_S)):
        assert verdict_of(Trouble(kind=kind, account_id="a", lasted_s=patience_s - 0.001)).grade is Grade.GOOD
        assert verdict_of(Trouble(kind=kind, account_id="a", lasted_s=patience_s)).grade is not Grade.GOOD


def test_amounts_are_added_exactly_and_many_reasons_are_told_together() -> None:
    """500 doubts with as many reasons are few lines, and none of their money is missing."""
    doubts = [
        Trouble(
            kind=Kind.IN_DOUBT,
            words=f"no answer from {chr(97 + number // 26)}{chr(97 + number % 26)}",
            account_id=f"peer-{number}",
            about=f"attempt-{number}",
            amount=Decimal("0.000000000000000001"),
        )
        for number in range(500)
    ]
    found = verdict_of(*doubts)
    assert len(found.reasons) == GROUPS
    assert sum(reason.count for reason in found.reasons) == 500
    assert found.sentence.endswith("0.0000000000000005 in doubt")
    assert found.reasons[-1].text.startswith("496 accounts: 0.000000000000000496 in doubt: other reasons")
    assert len(found.reasons[-1].accounts) == 50


def test_a_decision_about_one_thing_can_be_copied() -> None:
    """The attempt, the settlement or the account is in the command if there is only one."""
    one = Trouble(kind=Kind.IN_DOUBT, account_id="alice", about="a-1")
    two = Trouble(kind=Kind.IN_DOUBT, account_id="bob", about="a-2")
    assert verdict_of(one).reasons[0].command.startswith("settlement-core resolve a-1 ")
    assert verdict_of(one, two).reasons[0].command.startswith("settlement-core resolve ATTEMPT ")
    item = Trouble(kind=Kind.UNATTRIBUTED, about="tx 7", amount=Decimal(7))
    assert verdict_of(item).reasons[0].command == "settlement-core suspense --assign tx 7 ACCOUNT --reason …"
    assert verdict_of(item).reasons[0].text == "7 unattributed"


def test_words_from_outside_are_one_bounded_line() -> None:
    """Line breaks become spaces, and no reason is longer than a few lines; braces are no placeholders."""
    (reason,) = verdict_of(Trouble(kind=Kind.ALARM, words="a {x}\n\nb" + "c" * 5000)).reasons
    assert reason.text.startswith("the engine has an alarm: a {x} b")
    assert len(reason.text) < 400


def test_a_time_of_another_day_has_its_date() -> None:
    """In UTC; a clock that shows nonsense breaks nothing."""
    yesterday = Trouble(kind=Kind.STORE, since=NOON - 86_400)
    assert verdict_of(yesterday).reasons[0].text.endswith("since 2027-01-14 12:00 UTC")
    assert verdict_of(Trouble(kind=Kind.STORE, since=1e300)).reasons[0].text.endswith("s after 1970")


def test_every_grade_has_an_exit_code_of_its_own_and_none_is_2() -> None:
    """2 says that nothing could be judged."""
    assert len(set(EXIT_CODES.values())) == len(Grade)
    assert set(EXIT_CODES) == set(Grade)
    assert 2 not in EXIT_CODES.values()
