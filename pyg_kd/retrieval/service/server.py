"""Serving a bundle from processes of their own."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pyg_kd.checks import require_choice, require_count
from pyg_kd.retrieval.bundle import load_student
from pyg_kd.retrieval.service.app import default_log
from pyg_kd.retrieval.service.event_log import EventLog
from pyg_kd.retrieval.service.logs import log_lines, tell
from pyg_kd.retrieval.service.options import Limits
from pyg_kd.retrieval.service.supervisor import Supervisor

#: Connections that may wait to be accepted, for each worker.
BACKLOG = 2048

#: What RFC 6750 allows in a bearer token.
TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")

LEVELS = ("debug", "info", "warning", "error")


def serve(
    bundle: str | os.PathLike[str],
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    workers: int = 1,
    token: str | None = None,
    open_to_all: bool = False,
    events: str | os.PathLike[str] | None = None,
    teacher: str | os.PathLike[str] | None = None,
    titles: Mapping[Any, str] | None = None,
    limits: Limits | None = None,
    backend: str = "numpy",
    log_level: str = "info",
) -> None:
    r"""Serve a bundle over HTTP until SIGTERM or SIGINT.

    Workers are processes that share the mapped tables. One that dies is replaced. SIGHUP takes the
    bundle that is in the folder by then; that happens by itself too, some moments after the
    manifest was replaced. After SIGTERM, requests that came are answered. Logs are lines of JSON on
    standard error.

    Args:
        bundle: The folder of a bundle.
        host: The address to listen at. By default only this machine can connect.
        port: The port; 0 takes any that is free, which the log tells.
        workers: How many processes answer.
        token: The bearer token that clients must send. By default none is needed.
        open_to_all: Listen without a token at an address that other machines reach.
        events: The file to which events are written; by default the bundle's path with
            ``.events`` added.
        teacher: The folder of a bundle to show beside this one on the page.
        titles: Titles of items by their original ids, for the page.
        limits: What is allowed.
        backend: What ranks items.
        log_level: ``"debug"``, ``"info"``, ``"warning"`` or ``"error"``.

    Raises:
        ValueError: If the bundle is refused, a token is needed or malformed, or an option is
            wrong.
        OSError: If the address or the log of events can't be used.
        RuntimeError: If workers can't start.
    """
    require_count(workers=workers)
    require_choice(LEVELS, log_level=log_level)
    if sys.platform == "win32":
        raise RuntimeError("'serve' needs signals and sockets of Unix; run create_app by uvicorn")
    local = _check_access(host, port, token, open_to_all)
    path = default_log(bundle) if events is None else Path(events)
    for folder in (bundle, *(() if teacher is None else (teacher,))):
        load_student(Path(folder), backend=backend)
    EventLog(path)  # begins it, or says why it can't
    listeners = _listen(host, port, workers)
    limits = limits or Limits()
    log_lines(log_level)
    bound = listeners[0].getsockname()
    tell("listening", host=bound[0], port=bound[1], workers=workers, token=token is not None)
    told = {
        "bundle": os.path.abspath(bundle),
        "events": os.path.abspath(path),
        "token": token,
        "local": local and token is None,
        "host": host,
        "limits": asdict(limits),
        "backend": backend,
        "teacher": None if teacher is None else os.path.abspath(teacher),
        "titles": [*(titles or {}).items()],
        "level": log_level,
    }
    Supervisor(listeners, told, limits).run()


def _check_access(host: str, port: int, token: str | None, open_to_all: bool) -> bool:
    """Whether the address is one of this machine alone."""
    require_count(0, port=port)
    if port > 65535:
        raise ValueError(f"'port' must be at most 65535 (got {port})")
    if token is not None and not TOKEN.fullmatch(token):
        raise ValueError("'token' must consist of letters, digits and -._~+/, with = at its end")
    local = all(ipaddress.ip_address(found).is_loopback for found in _addresses(host))
    if not local and token is None and not open_to_all:
        raise ValueError(
            f"'host' {host!r} can be reached by others: give a 'token', or say 'open_to_all'"
        )
    return local


def _addresses(host: str) -> list[str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ValueError(f"'host' {host!r} is no address of this machine: {error}") from None
    return [str(entry[4][0]).partition("%")[0] for entry in found]


def _listen(host: str, port: int, workers: int) -> list[socket.socket]:
    """A listening socket for each worker, all of one port that nobody else has."""
    family, _, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    first = _bound(family, address, shared=False)  # fails where another service listens
    address = (address[0], first.getsockname()[1], *address[2:])
    if workers > 1:
        first.close()
        listeners = [_bound(family, address, shared=True) for _ in range(workers)]
    else:
        listeners = [first]
    for listener in listeners:
        listener.listen(BACKLOG)
    return listeners


def _bound(family: int, address: Any, *, shared: bool) -> socket.socket:
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        found.bind(address)
    except OSError as error:
        found.close()
        reason = f"can't listen at {address[0]} port {address[1]}: {error.strerror}"
        raise OSError(error.errno, reason) from None
    found.setblocking(False)
    return found
