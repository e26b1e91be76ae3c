"""Random scripts for `check_store`: few names and telling amounts, so that commands meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any, cast

from hypothesis import strategies as st

from settlement_core.values import commands as c
from settlement_core.values.amounts import ZERO, add, subtract
from settlement_core.values.records import Attempt, AttemptState, Direction, Payment
from settlement_core.values.records import Step as AccountStep

__all__ = ["ACCOUNTS", "HOUR", "KEYS", "OnAttempt", "Step", "scripts"]

ACCOUNTS = ("alice", "Bob", "~" * 128)
"""The last one is not opened to begin with."""

KEYS = ("cursor", "address {x}:'\"")
"""Keys of the engine's values."""

_ENTRY_IDS = (*"12345678", "é {a} '\"%_", "k" * 255)
_SETTLEMENT_IDS = ("s1", "S2", "0x€")
HOUR = 1_700_000_000.125
_JSON: tuple[object, ...] = (
    0,
    "",
    "é",
    [],
    {"hash": "0x1", "nonce": 7, "fees": [1.5, None, True, {}]},
    {"nonce": 7, "hash": "0x2\0"},
    10**30,
)


@dataclass(frozen=True)
class OnAttempt:
    """A command on an attempt that the script before it has made: which, and of what amount, shows in its turn.

    Attributes:
        order: the type of the command.
        fitting: choose among attempts on which it can be carried out, if there are any.
        back: how many attempts to go back from the latest, round and round; `_NEVER` means one that never was.
        share: how much of the attempt's amount the command is about.
    """

    order: type[c.Command[Any]]
    fitting: bool
    back: int
    share: str
    at: float
    reason: str
    by: str
    reference: object

    def spell_out(self, attempts: Sequence[Attempt]) -> c.Command[Any]:
        """Return the command, given all attempts so far."""
        fitting = [attempt for attempt in attempts if attempt.state in _FITTING[self.order]]
        chosen = fitting if self.fitting and fitting else attempts
        if not chosen or self.back == _NEVER:
            return self._command(ACCOUNTS[0], "never was", Decimal(1))
        attempt = chosen[-1 - self.back % len(chosen)]
        return self._command(attempt.account_id, attempt.attempt_id, _share_of(attempt.amount, self.share))

    def _command(self, account_id: str, attempt_id: str, settled: Decimal) -> c.Command[Any]:
        facts = {"payment": Payment(settled, self.reference), "settled": settled}
        facts |= {"at": self.at, "reason": self.reason, "by": self.by}
        wanted = {field.name: facts[field.name] for field in fields(cast("Any", self.order)) if field.name in facts}
        return cast("Any", self.order)(account_id=account_id, attempt_id=attempt_id, **wanted)  # type: ignore[no-any-return]


_NEVER = 8

_FITTING = {
    c.Note: {AttemptState.OPEN},
    c.Close: {AttemptState.OPEN},
    c.Hold: {AttemptState.OPEN},
    c.Release: {AttemptState.HELD},
    c.Resolve: {AttemptState.HELD, AttemptState.IN_DOUBT, AttemptState.RELEASED},
}


def _share_of(amount: Decimal, share: str) -> Decimal:
    exponent = amount.as_tuple().exponent
    assert isinstance(exponent, int)
    unit = Decimal((0, (1,), exponent))
    shares = {"none": ZERO, "little": unit, "most": subtract(amount, unit), "all": amount}
    shares |= {"too much": add(amount, unit), "negative": unit.copy_negate()}
    return shares[share]


@dataclass(frozen=True)
class Step:
    """One batch, and what happens with it besides.

    Attributes:
        batch: the commands.
        fail_after: have the store fail after so many of its own steps first, then apply the batch again.
        again: numbers of earlier commands to apply once more, counted from the first one ever.
        whole_again: apply the whole batch once more.
        reopen: close and open the store afterwards.
    """

    batch: tuple[c.Command[Any] | OnAttempt, ...]
    fail_after: int | None = None
    again: tuple[int, ...] = ()
    whole_again: bool = False
    reopen: bool = False


_accounts = st.sampled_from((*ACCOUNTS[:2], *ACCOUNTS))
_directions = st.sampled_from(Direction)
_times = st.integers(0, 6).map(lambda hours: HOUR + hours * 3600.0)
_reasons = st.sampled_from(("", "answer lost", "it's “paid”", "half \udcff, NUL \0"))
_json = st.sampled_from(_JSON)
_limits = st.sampled_from((1, 2, 1000))
_amounts = st.one_of(
    st.sampled_from(
        tuple(
            map(
                Decimal,
                ("1", "1.50", "1.5", "2", "0.001", "0.999", "12345.678", "9" * 300, "1e-255", "0." + "1" * 255),
            )
        )
    ),
    st.builds(
        lambda digits, scale: Decimal((0, tuple(map(int, str(digits))), -scale)),
        st.integers(1, 10**20),
        st.integers(0, 18),
    ),
)
_scales = st.sampled_from((None, None, 0, 2, 6, 255))
_caps = st.sampled_from((None, None, Decimal(1), Decimal("1.005"), Decimal(10) ** 19))
_max_integers = st.sampled_from((None, None, 9, 10_000, 2**63 - 1))


# unique per account, as the core's are; most are new
_attempts = st.tuples(_accounts, st.integers(1, 40)).map(lambda pair: (pair[0], f"{pair[0]}/{pair[1]}"))


def _claims(**bounds: st.SearchStrategy[Any]) -> st.SearchStrategy[c.Command[Any]]:
    return st.builds(
        lambda ids, facts: c.Claim(account_id=ids[0], attempt_id=ids[1], **facts),
        _attempts,
        st.fixed_dictionaries({"direction": _directions, "at": _times, **bounds}),
    )


def _money() -> st.SearchStrategy[c.Command[Any] | OnAttempt]:
    """Commands that move money about: most of what a store does."""
    enqueue = st.builds(
        c.Enqueue,
        account_id=_accounts,
        direction=_directions,
        entry_id=st.sampled_from(_ENTRY_IDS),
        amount=_amounts,
        at=_times,
        within_s=st.sampled_from((None, None, None, 3600.0, 0.0)),
    )
    on_attempt = st.builds(
        OnAttempt,
        order=st.sampled_from((c.Close, c.Close, c.Note, c.Hold, c.Hold, c.Release, c.Resolve)),
        fitting=st.sampled_from((True, True, False)),
        back=st.integers(0, _NEVER),
        share=st.sampled_from(("none", "little", "most", "all", "all", "too much", "negative")),
        at=_times,
        reason=_reasons,
        by=st.sampled_from(("carol", "dave")),
        reference=_json,
    )
    bounded = _claims(max_entries=st.integers(1, 3), scale=_scales, cap=_caps, max_integer=_max_integers)
    return st.one_of(enqueue, enqueue, bounded, _claims(), on_attempt, on_attempt, on_attempt)


def _upkeep() -> st.SearchStrategy[c.Command[Any]]:
    """Commands on accounts, on money without an owner, on the engine's values; and forgetting."""
    settlement_ids = st.sampled_from(_SETTLEMENT_IDS)
    owners = st.sampled_from(("", *ACCOUNTS))
    return st.one_of(
        st.builds(c.OpenAccount, account_id=_accounts, at=_times, set_up=st.booleans()),
        st.builds(c.CloseAccount, account_id=_accounts, at=_times, tear_down=st.booleans()),
        st.builds(
            c.FinishStep,
            account_id=_accounts,
            step=st.sampled_from(AccountStep),
        ),
        st.builds(
            c.Pause,
            account_id=_accounts,
            paused=st.sampled_from((True, False, False)),
            reason=_reasons,
            by=st.just("carol"),
            at=_times,
        ),
        st.builds(c.Suspend, settlement_id=settlement_ids, amount=_amounts, details=_json, at=_times),
        st.builds(
            c.Assign,
            settlement_id=settlement_ids,
            account_id=_accounts,
            reason=_reasons,
            by=st.just("carol"),
            at=_times,
            learned=st.sampled_from((False, False, True)),
        ),
        st.builds(c.Dismiss, settlement_id=settlement_ids, reason=_reasons, by=st.just("dave"), at=_times),
        st.builds(c.Put, account_id=owners, key=st.sampled_from(KEYS), value=st.one_of(st.none(), _json)),
        # whatever the order in which a store forgets, all that may be forgotten is
        st.builds(c.Prune, before=_times, limit=st.just(10_000)),
        st.builds(
            lambda account_id, numbers, before: c.Retire(
                account_id=account_id,
                attempt_ids=tuple(f"{account_id}/{one}" for one in sorted(numbers)),
                before=before,
            ),
            _accounts,
            st.frozensets(st.integers(1, 40), max_size=40),
            _times,
        ),
        st.builds(
            c.Tick,
            wall=_times,
            keep_s=st.sampled_from((3600.0, 6 * 3600.0)),
            history_s=st.sampled_from((0.0, 3600.0, 24 * 3600.0)),
            seen=st.one_of(st.none(), _times),
            elapsed_s=_times,
        ),
    )


def _questions() -> st.SearchStrategy[c.Command[Any]]:
    history = st.one_of(
        st.builds(
            c.History,
            states=st.frozensets(st.sampled_from(AttemptState)),
            limit=st.just(1000),
            newest=st.booleans(),
        ),
        st.builds(
            lambda ids, cut, facts: c.History(account_id=ids[0], after=ids[1] if cut else None, **facts),
            _attempts,
            st.booleans(),
            st.fixed_dictionaries(
                {
                    "states": st.frozensets(st.sampled_from(AttemptState)),
                    "limit": _limits,
                    "newest": st.booleans(),
                }
            ),
        ),
    )
    return st.one_of(
        st.builds(c.Get, account_id=st.sampled_from(("", *ACCOUNTS)), key=st.sampled_from(KEYS)),
        st.builds(c.Values, after=st.one_of(st.none(), st.tuples(_accounts, st.sampled_from(KEYS))), limit=_limits),
        st.builds(
            c.Overview, account_id=st.one_of(st.none(), _accounts), after=st.sampled_from(("", "Z")), limit=_limits
        ),
        st.builds(
            c.Due, after=st.sampled_from(("", "Z")), limit=_limits, direction=st.sampled_from((None, *Direction))
        ),
        history,
        st.builds(c.Entries, account_id=_accounts, direction=_directions, limit=_limits),
        st.builds(c.Suspense, after=st.sampled_from(("", "S2")), limit=_limits, assigned=st.booleans()),
        st.builds(
            c.KnowsSettlement, account_id=_accounts, settlement_id=st.sampled_from((*_ENTRY_IDS, *_SETTLEMENT_IDS))
        ),
    )


def scripts(*, can_reopen: bool, can_fail: bool) -> st.SearchStrategy[list[Step]]:
    """Return scripts that open two accounts and then do anything, in batches."""
    command = st.one_of(_money(), _money(), _money(), _upkeep(), _questions())
    step = st.builds(
        Step,
        batch=st.lists(command, min_size=1, max_size=12).map(tuple),
        fail_after=st.one_of(st.none(), st.integers(0, 200)) if can_fail else st.none(),
        again=st.lists(st.integers(0, 200), max_size=2).map(tuple),
        whole_again=st.booleans(),
        reopen=st.sampled_from((False, False, True)) if can_reopen else st.just(value=False),
    )
    opened = st.builds(
        lambda set_up: Step(
            (
                c.OpenAccount(account_id=ACCOUNTS[0], at=HOUR, set_up=set_up),
                c.OpenAccount(account_id=ACCOUNTS[1], at=HOUR),
            )
        ),
        st.sampled_from((False, False, True)),
    )
    return st.builds(lambda first, rest: [first, *rest], opened, st.lists(step, min_size=1, max_size=12))
