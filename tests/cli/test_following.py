"""Following a server's events where something stands in between."""

from __future__ import annotations

import socket

import pytest

from settlement_core.cli.client import Credentials, open_client
from settlement_core.cli.following import follow
from settlement_core.values.errors import LocalError


def test_events_that_a_proxy_keeps_back_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever takes the request, and sends nothing for longer than heartbeats are apart, keeps the stream back."""
    monkeypatch.setattr("settlement_core.cli.following.SILENCE_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with (
            open_client(url, Credentials()) as client,
            pytest.raises(LocalError, match=f"no events come from {url}: a proxy on the way keeps them back"),
        ):
            next(follow(client, url))
