"""Tells systemd when we listen, and when we begin to stop (sd_notify(3)); without systemd it does nothing."""

from __future__ import annotations

import os
import socket

__all__ = ["READY", "STOPPING", "notify_service_manager"]

READY = "READY=1"
STOPPING = "STOPPING=1"


def notify_service_manager(state: str) -> None:
    """Say it, if a service manager listens; it is theirs to notice if we cannot."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path[:1] not in {"/", "@"}:
        return
    # "@" stands for the zero byte of a name that is no file
    address = path if path[0] == "/" else "\0" + path[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
            line.setblocking(False)
            line.connect(address)
            line.send(state.encode())
    except OSError:
        return
