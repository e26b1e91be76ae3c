"""A real nginx in front of a server, as one process that ends with the block."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.cli.processes import PATIENCE_S, until

NGINX = os.environ.get("NGINX", "/usr/sbin/nginx")
"""As `make nginx` installs it from the system's packages."""

_FRAME = """
daemon off;
master_process off;
worker_processes 1;
error_log {folder}/error.log info;
pid {folder}/pid;
events {{ worker_connections 200; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {blocks}
}}
"""


def free_port() -> int:
    """Return a port on which nobody listens now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def open_nginx(blocks: str, *, ports: list[int], folder: Path) -> Iterator[Path]:
    """Run nginx with these `server` blocks, which listen on `ports`, for the block; give its log."""
    assert shutil.which(NGINX), f"{NGINX} is missing: make nginx, or say where it is as NGINX"
    folder = folder / f"nginx-{ports[0]}"
    folder.mkdir()
    config, log = folder / "nginx.conf", folder / "error.log"
    config.write_text(_FRAME.format(folder=folder, blocks=blocks))
    process = subprocess.Popen([NGINX, "-e", str(log), "-p", str(folder), "-c", str(config)])
    try:
        for port in ports:
            until(partial(_decided, process, port), "for nginx to listen")
        assert process.poll() is None, log.read_text()
        yield log
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _decided(process: subprocess.Popen[bytes], port: int) -> bool:
    if process.poll() is not None:
        return True
    try:
        socket.create_connection(("127.0.0.1", port), PATIENCE_S).close()
    except OSError:
        return False
    return True
