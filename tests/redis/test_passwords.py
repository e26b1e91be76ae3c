"""A password gets to the server as it is, and nowhere else."""

from __future__ import annotations

import logging

import pytest

from settlement_core.stores.redis import connect_redis
from settlement_core.values.errors import LocalError
from tests.redis.servers import RedisServer
from tests.redis.test_settings import works


def _said(error: BaseException | None) -> str:
    return "" if error is None else f"{error} {error!r} {_said(error.__cause__)} {_said(error.__context__)}"


@pytest.mark.parametrize(
    "url",
    [
        "redis://:{0}@{1}/0",
        "redis://:{0}@{1}/x",
        "redis://joe:{0}@{1}/0",
        "redis://{1}/0?password={0}",
        "redis://:{0}@127.0.0.1:1/0",
        "redis://:{0}@127.0.0.1:many/0",
        "redis://:{0}/2@{1}/0",
        "redis://:{0}#2@{1}/0",
        "redis+sentinel://:{0}@{1}/settlement",
        "redis+sentinel://:{0}@{1}",
        "redis+cluster://:{0}@{1}",
        "http://:{0}@{1}",
    ],
)
def test_a_password_is_never_shown(
    tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture, url: str
) -> None:
    """Not in a message, a chained error or a log line, whatever is wrong with the URL."""
    caplog.set_level(logging.DEBUG)
    with RedisServer(tmp_path_factory.mktemp("redis"), requirepass="other") as server:
        with pytest.raises(LocalError) as caught:
            connect_redis(url.format("hunter", server.address))
        assert "hunter" not in _said(caught.value)
        store = connect_redis(server.url())
        assert "other" not in repr(store) + store.name
        store.close()
    assert "hunter" not in caplog.text


def test_special_characters_in_a_password_are_escaped(tmp_path_factory: pytest.TempPathFactory) -> None:
    """In the place for it, or in the query, beside our own options."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        secret = "a%26b%25c%2Fd"
        with server.client() as client:
            client.config_set("requirepass", "a&b%c/d")
        assert works(connect_redis(f"redis://:{secret}@{server.address}/0?partitions=4&socket_timeout=3"))
        assert works(connect_redis(f"redis://{server.address}/0", password="a&b%c/d", namespace="x"))
