"""Errors and events speak in whole sentences and keep their facts."""

from __future__ import annotations

from dataclasses import fields
from decimal import Decimal
from typing import Any

import pytest

from settlement_core.values import errors, events
from settlement_core.values.errors import InvariantError, LocalError, RemoteError, SettlementError
from settlement_core.values.events import Event

_BRANCHES = (LocalError, RemoteError, InvariantError)


def _errors() -> list[type[SettlementError]]:
    return [getattr(errors, name) for name in errors.__all__]


def test_every_error_says_who_must_act() -> None:
    """Each is exactly one of: the caller must change something, it may pass, we are wrong."""
    for kind in _errors():
        if kind not in {SettlementError, *_BRANCHES}:
            assert sum(issubclass(kind, branch) for branch in _BRANCHES) == 1, kind


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (errors.UnknownAccount("bob"), "account 'bob' does not exist; nothing was recorded"),
        (errors.UnknownAttempt("bob", "t"), "account 'bob' has no attempt 't'; nothing was recorded"),
        (errors.UnknownSuspense("s"), "no unattributed settlement 's'; nothing was recorded"),
        (
            errors.SuspenseConflict("s", "was first reported with 1, now with 2"),
            "unattributed settlement 's' was first reported with 1, now with 2; nothing was recorded",
        ),
        (
            errors.AttemptConflict("t", tried="close", problem="it is closed"),
            "cannot close attempt 't': it is closed; nothing was recorded",
        ),
        (
            errors.IdempotencyConflict("bob", "k", first=Decimal("1E+3"), now=Decimal("1E-7")),
            (
                "provided idempotency key is tied to other input: 'k' of account 'bob' was first used with 1000, now "
                "with 0.0000001; nothing was recorded"
            ),
        ),
        (errors.MessageNotHandled("bob", "too slow"), "message for account 'bob' was not handled: too slow"),
        (errors.InvalidEngine("it", "no settle"), "it is no settlement engine: no settle"),
        (errors.ShuttingDown(), "shutting down; nothing was recorded, try again later"),
        (
            errors.JournalEnded("Close"),
            "the journal has ended: Close may not have been recorded, try again later",
        ),
    ],
)
def test_an_error_says_what_happened_and_what_state_we_are_in(error: SettlementError, sentence: str) -> None:
    """Amounts in plain notation, ids quoted."""
    assert str(error) == sentence


_SAMPLES: dict[str, Any] = {"str": "x {y} z", "float": 1.5, "int": 3, "bool": True, "Decimal": Decimal("1E+3")}


def _events() -> list[type[Event]]:
    return [getattr(events, name) for name in events.__all__ if name != "Event"]


@pytest.mark.parametrize("kind", _events(), ids=lambda kind: kind.__name__)
def test_every_event_is_one_lower_case_line_with_its_facts(kind: type[Event]) -> None:
    """Whatever its facts hold, and amounts are written out plainly."""
    facts = {field.name: _sample(field.type) for field in fields(kind)}
    event = kind(**facts)
    line = str(event)
    assert line
    assert line[0].islower()
    assert "\n" not in line
    assert "E+" not in line
    assert event.level in {"debug", "info", "warning", "error", "critical"}
    assert event.facts().keys() == facts.keys()
    for name, value in facts.items():
        if isinstance(value, Decimal):
            assert event.facts()[name] == "1000"


def test_what_cannot_be_printed_becomes_a_space_and_all_else_stays() -> None:
    """One line break is one space, and a letter is a letter in every language."""
    event = events.MessageFailed(account_id="bob", reason="no\r\nroute\x1b to Zürich")
    assert str(event) == "account bob: message not handled: no  route  to Zürich"
    plain = events.MessageFailed(account_id="bob", reason="no route to Zürich")
    assert str(plain) == "account bob: message not handled: no route to Zürich"


def _sample(kind: Any) -> Any:
    """Return a value of a field's type, which is written as text."""
    name = str(kind).split(" | ")[0]
    assert name in _SAMPLES, f"no sample of {kind}"
    return _SAMPLES[name]
