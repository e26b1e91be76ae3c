"""Which of a server's refusals may pass, and which cannot."""

from __future__ import annotations

import pytest
from redis import exceptions as failures

from settlement_core.stores.redis import RedisStore
from settlement_core.values.errors import StoreBroken, StoreUnavailable


@pytest.mark.parametrize(
    "answer",
    [
        failures.BusyLoadingError("Redis is loading the dataset in memory"),
        failures.AuthenticationError("invalid username-password pair"),
        failures.MaxConnectionsError("too many"),
        failures.NoScriptError("No matching script. Please use EVAL."),
        failures.ResponseError("MISCONF Redis is configured to save RDB snapshots, but it's unable to persist to disk"),
        failures.ResponseError("NOREPLICAS Not enough good replicas to write."),
        failures.ResponseError("MASTERDOWN Link with MASTER is down"),
        failures.ResponseError("BUSY Redis is busy running a script."),
        failures.ResponseError("UNKILLABLE Sorry the script already executed write commands"),
        # what a script's own command was answered, as version 6.2 words it
        failures.ResponseError("Error running script (call to f_1): @user_script:8: -OOM command not allowed"),
        failures.ResponseError("Error running script (call to f_1): @user_script:8: @user_script: 8: -READONLY You"),
        failures.ResponseError(
            "Error running script (call to f_1): @user_script:8: -MISCONF Errors writing to the AOF"
        ),
        OSError("no route"),
    ],
)
def test_what_may_pass_is_waited_for(books: RedisStore, answer: Exception) -> None:
    """Answers that are no server's everyday ones, by what they say."""
    assert type(books._servers._explain(answer)) is StoreUnavailable


@pytest.mark.parametrize(
    "answer",
    [
        failures.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"),
        failures.ResponseError(
            "Error running script (call to f_1): @user_script:8: -WRONGTYPE Operation against a key"
        ),
        failures.ResponseError("unknown command 'EVALSHA'"),
        failures.ResponseError("CROSSSLOT Keys in request don't hash to the same slot"),
    ],
)
def test_what_cannot_pass_breaks_the_store(books: RedisStore, answer: Exception) -> None:
    """So that somebody looks."""
    assert type(books._servers._explain(answer)) is StoreBroken
