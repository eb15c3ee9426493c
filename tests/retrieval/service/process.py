"""A service in processes of its own, for tests that signal, kill, or speak HTTP badly."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

PROGRAM = """
import json, sys
from pyg_kd.retrieval.service import Limits, serve
told = json.loads(sys.argv[1])
limits = Limits(**told.pop("limits", {}))
told["titles"] = dict(told.pop("titles", []))
serve(told.pop("bundle"), port=0, limits=limits, **told)
"""


class Process:
    """``serve`` with some options, at a port of its own."""

    def __init__(self, folder: Path, bundle: Path, **options: Any) -> None:
        self.log = folder / "service.log"
        told = json.dumps({"bundle": str(bundle), **options})
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, told], stderr=log, cwd=Path(__file__).parents[3]
            )
        self.wait_for("ready")
        self.port = self.events("listening")[0]["port"]

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def ask(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and answer of one request on a connection of its own."""
        connection = self.connect()
        try:
            return ask(connection, path, body, **headers)
        finally:
            connection.close()

    def send(self, data: bytes) -> tuple[int, bytes]:
        """Status and body of whatever comes back for these bytes; 0 if nothing does."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall(data)
            return receive(connection)

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = [line for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [told for told in map(json.loads, lines) if told["event"] == name]

    def wait_for(self, name: str, count: int = 1) -> list[dict[str, Any]]:
        def found() -> list[dict[str, Any]]:
            assert self.process.poll() is None or name == "stopped", self.log.read_text()
            return self.events(name)

        return until(lambda: len(found()) >= count and found())

    @property
    def workers(self) -> list[int]:
        """The processes that answer, one for each place."""
        started = {told["worker"]: told["pid"] for told in self.events("worker started")}
        return [started[place] for place in sorted(started)]

    def stop(self, number: int = signal.SIGTERM, seconds: float = 30) -> int:
        self.process.send_signal(number)
        return self.process.wait(seconds)

    def close(self) -> None:
        if self.process.poll() is None:
            for pid in self.workers:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.kill()
            self.process.wait()


def ask(
    connection: http.client.HTTPConnection, path: str, body: Any = None, **headers: str
) -> tuple[int, Any]:
    """Status and answer of a request, which is a POST where it has a body."""
    told = {"content-type": "application/json", **headers}
    if body is None:
        connection.request("GET", path, headers=headers)
    else:
        connection.request("POST", path, json.dumps(body), told)
    answer = connection.getresponse()
    data = answer.read()
    return answer.status, json.loads(data) if "json" in answer.headers["content-type"] else data


def receive(connection: socket.socket) -> tuple[int, bytes]:
    """Status and body of the next answer on a connection; 0 if it is closed without one."""
    answer = http.client.HTTPResponse(connection)
    try:
        answer.begin()
    except (http.client.HTTPException, ConnectionError):
        return 0, b""
    return answer.status, answer.read()


def until(found: Callable[[], Any], seconds: float = 30.0) -> Any:
    """What is true in the end."""
    late = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < late
        time.sleep(0.02)
    return result
