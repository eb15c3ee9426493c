"""Worker processes: they are replaced, told to stop, and agree with each other."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pyg_kd.retrieval import load_student
from pyg_kd.retrieval.bundle import save_index
from pyg_kd.retrieval.service import Limits, serve
from pyg_kd.retrieval.service.event_log import Click, EventLog
from pyg_kd.retrieval.service.put_off import put_off
from tests.retrieval.service.conftest import USERS, make_index
from tests.retrieval.service.process import Process, ask, receive, until


@pytest.fixture
def bundle(tmp_path):
    save_index(make_index(), tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture
def start(tmp_path, bundle):
    opened = []

    def begin(**options) -> Process:
        opened.append(Process(tmp_path, bundle, **options))
        return opened[-1]

    yield begin
    for process in opened:
        process.close()


class Asking(threading.Thread):
    """Asks one thing after another on one connection, and keeps what came back."""

    def __init__(self, process: Process, number: int) -> None:
        super().__init__(daemon=True)
        self.process, self.number = process, number
        self.answers: list[tuple[int, int, dict]] = []  # user, status, answer
        self.broken: list[str] = []  # what happened instead
        self.enough = threading.Event()

    def run(self) -> None:
        connection = self.process.connect()
        user = self.number
        while not self.enough.is_set():
            user = (user + 1) % USERS
            fresh = connection.sock is None
            try:
                status, answer = ask(connection, "/recommend", {"user": user, "k": 14})
                self.answers.append((user, status, answer))
            except ConnectionRefusedError:
                return
            except (OSError, http.client.HTTPException) as error:
                self.broken.append(f"{type(error).__name__}, fresh: {fresh}")
                connection.close()


@contextmanager
def _load(process: Process, threads: int = 4) -> Iterator[list[Asking]]:
    asking = [Asking(process, number) for number in range(threads)]
    for thread in asking:
        thread.start()
    yield asking
    for thread in asking:
        thread.enough.set()
    for thread in asking:
        thread.join(30)
        assert not thread.is_alive()


def _everything(process: Process) -> None:
    """Connections go to both workers."""
    seen = set()

    def both() -> bool:
        seen.add(process.ask("/health")[0])
        text = process.ask("/metrics")[1].decode()
        return "pyg_kd_ready 2\n" in text

    until(both)


@pytest.mark.slow
def test_ten_swaps_under_load(start, bundle):
    """No request is lost, and every answer is what exactly the bundle that it names gives."""
    process = start(workers=2)
    expected = {load_student(bundle).info["sha256"]: make_index()}
    swapped = []
    with _load(process) as asking:
        for turn in range(10):
            index = make_index(seed=10 + turn)
            digest = save_index(index, bundle)["sha256"]
            expected[digest] = index
            if turn % 3 == 0:
                status, answer = process.ask("/reload", {})
                assert (status, answer["bundle"], answer["workers"]) == (200, digest, 2)
            elif turn % 3 == 1:
                process.process.send_signal(signal.SIGHUP)
            until(lambda: f'pyg_kd_bundle{{digest="{digest}"}} 2' in _metrics(process))  # noqa: B023
            swapped.append(digest)
    answers = [answer for thread in asking for answer in thread.answers]
    assert [broken for thread in asking for broken in thread.broken] == []
    assert len(answers) > 100 and {status for _, status, _ in answers} == {200}
    for user, _, answer in answers:
        items, scores = expected[answer["bundle"]].search([user], k=14, unknown="popular")
        kept = items[0] >= 0
        assert [item["id"] for item in answer["items"]] == items[0][kept].tolist()
        assert [item["score"] for item in answer["items"]] == scores[0][kept].tolist()
    assert {answer["bundle"] for _, _, answer in answers} >= {*swapped}
    assert "bundle refused" not in process.log.read_text()


def _metrics(process: Process) -> str:
    return process.ask("/metrics")[1].decode()


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_its_counts_go_on(start):
    process = start(workers=2)
    first = process.workers
    for _ in range(20):
        assert process.ask("/recommend", {"user": 0})[0] == 200
    with _load(process) as asking:
        time.sleep(0.3)
        os.kill(first[0], signal.SIGKILL)
        process.wait_for("worker died")
        process.wait_for("serving", 3)
        until(lambda: "pyg_kd_ready 2\n" in _metrics(process))
        time.sleep(0.3)
    assert process.workers[0] != first[0] and process.workers[1] == first[1]
    answers = [status for thread in asking for _, status, _ in thread.answers]
    assert {*answers} == {200} and len(answers) > 20
    # Connections of the worker that died are lost with it; those that wait for it are not.
    broken = [broken for thread in asking for broken in thread.broken]
    assert len(broken) <= len(asking), broken
    counted = f'pyg_kd_requests_total{{path="/recommend",status="200"}} {20 + len(answers)}\n'
    assert counted in _metrics(process)


@pytest.mark.slow
def test_a_stop_answers_what_came(start):
    process = start(workers=2)
    with _load(process, 8) as asking:
        time.sleep(0.5)
        before = sum(len(thread.answers) for thread in asking)
        code = process.stop()
        for thread in asking:
            thread.join(30)
    assert code == 0 and before > 8
    assert [broken for thread in asking for broken in thread.broken] == []
    assert {status for thread in asking for _, status, _ in thread.answers} == {200}
    assert process.events("worker died") == [] and len(process.events("stopping")) == 2


def _fetch(process: Process, answers: list[int], enough: threading.Event) -> None:
    """Asks on ever new connections."""
    while not enough.is_set():
        answers.append(process.ask("/health")[0])


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_worker_that_is_terminated_alone_leaves_its_socket_to_the_next(start, workers):
    process = start(workers=workers)
    answers, enough = [], threading.Event()
    asking = threading.Thread(target=_fetch, args=(process, answers, enough), daemon=True)
    asking.start()
    for turn in range(1, 3):
        first = process.workers[0]
        os.kill(first, signal.SIGTERM)
        process.wait_for("worker died", turn)
        process.wait_for("serving", workers + turn)
        assert process.workers[0] != first
        for _ in range(20):
            assert process.ask("/health")[0] == 200
    enough.set()
    asking.join(30)
    assert not asking.is_alive() and {*answers} == {200}
    assert {told["code"] for told in process.events("worker died")} == {0}
    assert process.stop() == 0


@pytest.mark.slow
def test_a_signal_to_all_processes_loses_nothing_either(start):
    process = start(workers=2)
    with _load(process, 8) as asking:
        time.sleep(0.5)
        for pid in process.workers:
            os.kill(pid, signal.SIGTERM)
        code = process.stop()
        for thread in asking:
            thread.join(30)
    assert code == 0 and process.events("worker died") == []
    assert [broken for thread in asking for broken in thread.broken] == []
    assert {status for thread in asking for _, status, _ in thread.answers} == {200}


def test_a_request_that_is_still_being_sent_is_answered_after_the_signal(start):
    process = start()
    body = b'{"user": 1}'
    head = b"POST /recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", process.port), timeout=30) as connection:
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body[:4])
        until(lambda: "pyg_kd_open 2" in _metrics(process))
        process.process.send_signal(signal.SIGTERM)
        process.wait_for("stopping")
        time.sleep(1.0)
        connection.sendall(body[4:])
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 200 and answer.headers["connection"] == "close"
    assert process.process.wait(30) == 0


@pytest.mark.slow
def test_events_are_seen_by_all_workers_at_once(start, bundle):
    process = start(workers=2)
    _everything(process)
    for user in range(100, 140):
        assert process.ask("/recommend", {"user": user})[1]["source"] == "popular"
        assert process.ask("/events", {"user": user, "items": [2, 7]})[0] == 200
        for _ in range(4):  # each on a connection of its own, so to either worker
            answer = process.ask("/recommend", {"user": user, "k": 14})[1]
            assert answer["source"] == "folded"
            assert not {2, 7} & {item["id"] for item in answer["items"]}
    assert process.stop() == 0
    again = Process(bundle.parent, bundle)
    try:
        assert again.ask("/recommend", {"user": 139, "k": 14})[1] == answer
    finally:
        again.close()


@pytest.mark.slow
def test_a_worker_that_hangs_is_replaced(start):
    process = start(limits={"hang_seconds": 2.0})
    first = process.workers[0]
    time.sleep(3)  # one that has nothing to do does not hang
    assert process.workers == [first] and process.events("worker hangs") == []
    os.kill(first, signal.SIGSTOP)
    process.wait_for("worker hangs")
    process.wait_for("serving", 2)
    assert process.ask("/recommend", {"user": 0})[0] == 200


@pytest.mark.skipif(sys.platform != "linux", reason="a filter of Linux")
def test_a_socket_that_puts_off_keeps_what_it_has_accepted():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        address = listener.getsockname()
        first = socket.create_connection(address, timeout=10)
        first.sendall(b"hello")
        put_off(listener)
        first.sendall(b" there")  # what is connected is heard on
        with socket.socket() as second:
            second.settimeout(0.3)
            with pytest.raises(TimeoutError):
                second.connect(address)
        accepted, _ = listener.accept()
        with accepted, first:
            accepted.settimeout(10)
            received = b""
            while len(received) < 11:
                received += accepted.recv(11)
            assert received == b"hello there"
        with pytest.raises(BlockingIOError):
            listener.accept()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=10)


def test_workers_end_when_their_supervisor_is_killed(start):
    process = start()
    worker = process.workers[0]
    process.process.kill()
    process.process.wait()

    def gone() -> bool:
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return True
        status = Path(f"/proc/{worker}/status")  # nobody may have waited for it
        return status.exists() and "State:\tZ" in status.read_text()

    until(gone)


def test_a_token_is_asked_for_by_every_worker(start):
    process = start(token="s3cret")
    assert process.ask("/recommend", {"user": 1})[0] == 401
    assert process.ask("/recommend", {"user": 1}, authorization="Bearer s3cret")[0] == 200
    assert process.ask("/health")[0] == 200 and process.ask("/metrics")[0] == 401
    assert "s3cret" not in process.log.read_text()
    told = Path(f"/proc/{process.workers[0]}/cmdline")
    if told.exists():
        assert b"s3cret" not in told.read_bytes()


def test_the_page_has_the_teacher_and_the_titles(start, bundle):
    process = start(teacher=str(bundle), titles=[[3, "Kilimanjaro"], [5, "Elbrus"]])
    found = process.ask("/compare/items", {"q": "manja"})[1]["found"]
    assert [(item["id"], item["title"]) for item in found] == [("3", "Kilimanjaro")]
    assert process.ask("/compare/about")[1]["teacher"]["items"] == 14


def test_a_busy_service_says_so(start):
    process = start(limits={"open": 3, "read_seconds": 5.0})
    head = b"POST /recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    held = [socket.create_connection(("127.0.0.1", process.port)) for _ in range(3)]
    for connection in held:
        connection.sendall(head + b"Content-Length: 11\r\n\r\n{")
    connection = process.connect()

    def refused() -> bool:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        answer.read()
        return answer.status == 503 and answer.headers["retry-after"] == "1"

    until(refused)
    assert process.ask("/health") == (200, {"status": "ok"})
    status, state = process.ask("/ready")  # of the same form as ever
    assert status == 503 and state["ready"] is False and state["num_items"] == 14
    for one in held:
        one.close()
    until(lambda: process.ask("/ready")[0] == 200)


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"host": "0.0.0.0"}, ValueError, "'host' '0.0.0.0' can be reached by others"),
        ({"host": "::"}, ValueError, "can be reached by others"),
        ({"host": "nosuch.invalid"}, ValueError, "'host' 'nosuch.invalid' is no address"),
        ({"token": ""}, ValueError, "'token' must consist of"),
        ({"token": "a b"}, ValueError, "'token' must consist of"),
        ({"port": 65536}, ValueError, "'port' must be at most 65535"),
        ({"port": -1}, ValueError, "'port' must be an integer of 0 or more"),
        ({"workers": 0}, ValueError, "'workers' must be a positive integer"),
        ({"log_level": "loud"}, ValueError, "'log_level' must be one of"),
        ({"backend": "slow"}, ValueError, "slow"),
        ({"teacher": "absent"}, ValueError, "'absent': there is no such folder"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_opened(bundle, options, error, told):
    with pytest.raises(error, match=told):
        serve(bundle, **{"port": 0, **options})
    assert not bundle.with_name("bundle.events").exists()


def test_a_missing_bundle_is_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no such folder"):
        serve(tmp_path / "absent", port=0)


def test_a_port_that_is_taken(bundle):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for workers in (1, 2):
            with pytest.raises(OSError, match=f"127.0.0.1 port {port}"):
                serve(bundle, port=port, workers=workers)


def test_two_services_do_not_share_a_port(start, bundle):
    process = start(workers=2)
    for workers in (1, 2):
        with pytest.raises(OSError, match="can't listen"):
            serve(bundle, port=process.port, workers=workers)


def test_a_worker_that_cannot_start_ends_the_service(tmp_path, bundle, monkeypatch):
    monkeypatch.setattr(
        "pyg_kd.retrieval.service.supervisor.PROGRAM", "import sys; sys.stdin.read(); sys.exit(3)"
    )
    with pytest.raises(RuntimeError, match="could not start"):
        serve(bundle, port=0, limits=Limits(stop_seconds=1.0))


@pytest.mark.parametrize("teacher", [True, False])
def test_a_worker_that_cannot_start_tells_why_in_a_line_of_json(start, bundle, teacher):
    process = start(teacher=str(bundle) if teacher else None)  # which is read before
    manifest = (bundle / "manifest.json").read_bytes()
    (bundle / "manifest.json").write_bytes(b"{")
    os.kill(process.workers[0], signal.SIGKILL)
    (failed,) = process.wait_for("could not start")[:1]
    assert failed["error"] == "BundleError" and "its manifest is no JSON" in failed["reason"]
    process.wait_for("worker died", 2)
    (bundle / "manifest.json").write_bytes(manifest)
    process.wait_for("serving", 2)
    assert all(line.startswith("{") for line in process.log.read_text().splitlines())
    assert "Traceback" not in process.log.read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="others have one loopback address")
def test_a_service_answers_to_the_address_and_the_name_at_which_it_listens(start):
    process = start(host="127.0.0.2")
    for host, status in (("127.0.0.2", 200), ("127.0.0.1", 200), ("evil.example", 400)):
        with socket.create_connection(("127.0.0.2", process.port), timeout=30) as connection:
            connection.sendall(f"GET /ready HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            assert receive(connection)[0] == status


def test_the_log_is_checked_before(tmp_path, bundle):
    bundle.with_name("bundle.events").write_text("something else")
    with pytest.raises(ValueError, match="is not a log of events"):
        serve(bundle, port=0)
    EventLog(tmp_path / "log").append([Click(1, [2], 0.0)])
