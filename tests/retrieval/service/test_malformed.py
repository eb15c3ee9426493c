"""Requests that no client should send: each is refused, and the service answers on."""

from __future__ import annotations

import json
import random
import socket
import time

import pytest

from pyg_kd.retrieval.bundle import save_index
from tests.retrieval.service.conftest import make_index
from tests.retrieval.service.process import Process, receive, until

#: Values that no field takes, as JSON.
ABSURD = [
    "null",
    "true",
    "1.5",
    "-1e999",
    "1e30",
    "9" * 30,
    "-" + "9" * 5000,
    "NaN",
    "Infinity",
    "-Infinity",
    '"\\ud800"',
    '"\\u12"',
    '"' + "x" * 300 + '"',
    "{}",
    "[[]]",
    '{"a": 1}',
    "[" * 2000 + "]" * 2000,
    "[null]",
    "[1, 1.5]",
    "[true]",
    '["a", 1e400]',
    "01",
    "+1",
    "0x10",
    "'a'",
    "undefined",
    "[1,]",
    "[1 2]",
    '"\t"',
    '"a\x00b"',
]

FIELDS = {
    "/recommend": ["user", "history", "k", "exclude", "candidates", "filters", "exclude_seen"],
    "/events": ["user", "item", "items"],
    "/unavailable": ["items"],
    "/available": ["items"],
    "/filters": ["name", "items"],
}
SOUND = {
    "/recommend": {"user": 1, "k": 5},
    "/events": {"user": 1, "item": 3},
    "/unavailable": {"items": [3]},
    "/available": {"items": [3]},
    "/filters": {"name": "some", "items": [3]},
}


def _post(path: str, body: bytes, kind: str = "application/json") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _fields(draw: random.Random) -> bytes:
    """A field with an absurd value, among sound ones."""
    path = draw.choice(sorted(FIELDS))
    field = draw.choice(FIELDS[path])
    value = draw.choice(ABSURD)
    if field == "exclude_seen" and value == "true":
        value = "1"
    if field in ("history", "exclude", "candidates", "items") and value == "[]":
        value = "{}"
    sound = {name: told for name, told in SOUND[path].items() if name != field}
    if field == "history":
        del sound["user"]
    if field == "items" and path == "/events":
        del sound["item"]
    members = [f"{json.dumps(name)}: {json.dumps(told)}" for name, told in sound.items()]
    members.insert(draw.randrange(len(members) + 1), f'"{field}": {value}')
    return _post(path, ("{" + ", ".join(members) + "}").encode())


def _structures(draw: random.Random) -> bytes:
    """Sound JSON that is cut, repeated, joined, or not what was asked for."""
    path = draw.choice(sorted(FIELDS))
    body = json.dumps(SOUND[path]).encode()
    first = json.dumps(dict([*SOUND[path].items()][:1])).encode()
    return _post(
        path,
        draw.choice(
            [
                body[: draw.randrange(len(body))],
                body + body,
                body + b"\x00",
                b"[" + body + b"]",
                json.dumps(body.decode()).encode(),
                body[:-1] + b", " + first[1:],  # a field twice
                body[:-1] + b', "absent": 1}',
                body[:-1] + b', "": 1}',
                body.decode().encode("utf-16"),
                body.decode().encode("utf-32"),
                b"\xef\xbb\xbf" + body,
                body.replace(b'"', b"'"),
                b"\xff" * draw.randrange(1, 50),
                bytes(draw.randrange(256) for _ in range(draw.randrange(1, 80))),
                b'{"a":' * 3000 + b"1" + b"}" * 3000,
                b"[" * 100_000,
                b"{" * 100_000,
                b"",
                b" ",
                b"null",
                b"{}",
            ]
        ),
    )


def _heads(draw: random.Random) -> bytes:
    """Wrong methods, paths, types, and things that are hardly HTTP."""
    body = b'{"user": 1}'
    sound = _post("/recommend", body)
    method = draw.choice(["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE"])
    kind = draw.choice(["text/plain", "", "application/x-www-form-urlencoded", "*/*", "json"])
    name = draw.choice(["evil.example", "", "localhost.evil.example", "128.0.0.1", "[", "::1"])
    lines = sound.partition(b"\r\n\r\n")[0]
    return draw.choice(
        [
            sound.replace(b"POST", method.encode(), 1),
            sound.replace(b"/recommend", draw.choice([b"/recommend/", b"//", b"/%ff", b"/a?b"]), 1),
            sound.replace(b"/recommend", b"/r\xc3\xbccken", 1),
            sound.replace(b"POST", b"Post", 1),
            sound.replace(b"HTTP/1.1", b"HTTP/9.9", 1),
            sound.replace(b"HTTP/1.1", b"FTP/1.1", 1),
            sound.replace(b"Host: localhost", f"Host: {name}".encode(), 1),
            sound.replace(b"Host: localhost\r\n", b"", 1),
            sound.replace(b"Content-Length: ", b"Content-Length: -", 1),
            sound.replace(b"Content-Length: ", b"Content-Length: 9" + b"9" * 30, 1),
            sound.replace(b"Content-Length: 11", b"Content-Length: 9999999", 1),
            sound.replace(b"Content-Length: 11", b"Content-Length: eleven", 1),
            lines + b"\r\nContent-Length: 12\r\n\r\n" + body,
            lines + b"\r\nTransfer-Encoding: chunked\r\n\r\n" + body,
            lines.replace(b"Content-Length: 11", b"Transfer-Encoding: chunked")
            + b"\r\n\r\nzz\r\n"
            + body,
            lines + b"\r\nContent-Encoding: gzip\r\n\r\n" + body,
            lines + b"\r\nX: a\x00b\r\n\r\n" + body,
            lines + b"\r\nX y: z\r\n\r\n" + body,
            lines + b"\r\nX: " + b"a" * 300_000 + b"\r\n\r\n" + body,
            _post("/recommend", body, kind),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\r\n\r\nhello\r\n\r\n",
            bytes(draw.randrange(256) for _ in range(200)) + b"\r\n\r\n",
        ]
    )


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("service")
    save_index(make_index(), folder / "bundle")
    process = Process(folder, folder / "bundle", limits={"read_seconds": 1.0})
    yield process
    process.close()


@pytest.mark.parametrize("kind", [_fields, _structures, _heads], ids=lambda kind: kind.__name__)
def test_a_hundred_of_each(service, kind):
    draw = random.Random(kind.__name__)
    right = service.ask("/recommend", {"user": 1, "k": 5})
    assert right[0] == 200
    statuses = set()
    for _ in range(100):
        request = kind(draw)
        status, body = service.send(request)
        assert 400 <= status < 500, (status, request[:300])
        if body:
            assert json.loads(body).keys() == {"error", "field"}, request[:300]
        else:
            assert request.startswith(b"HEAD")
        statuses.add(status)
    assert len(statuses) > 1
    assert service.ask("/recommend", {"user": 1, "k": 5}) == right
    assert service.events("failed") == [] and service.events("worker died") == []


@pytest.mark.parametrize("place", [0, 40, -12, -2])
def test_slow_senders_are_told_so(service, place):
    """Some of a request, a little more, and then nothing."""
    request = _post("/recommend", b'{"user": 1}')
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        start = time.monotonic()
        connection.sendall(request[:place])
        if place:
            time.sleep(0.3)
            connection.sendall(request[place : place + 1])
        status, body = receive(connection)
        assert 0.5 < time.monotonic() - start < 8
        assert status == 408 and "second" in json.loads(body)["error"]


def test_slow_ones_do_not_hold_up_others(service):
    slow = [socket.create_connection(("127.0.0.1", service.port)) for _ in range(50)]
    for connection in slow:
        connection.sendall(_post("/recommend", b'{"user": 1}')[:-3])
    assert service.ask("/recommend", {"user": 1})[0] == 200
    for connection in slow:
        connection.close()


def _next_answer(file) -> tuple[int, bytes]:
    """Status and body of one answer among several that may have come together."""
    status, length = int(file.readline().split()[1]), 0
    while line := file.readline().strip().lower():
        if line.startswith(b"content-length:"):
            length = int(line.split()[1])
    return status, file.read(length)


def test_requests_in_one_packet_are_answered_in_their_order(service):
    users = [1, 5, 0, 8, 3, 1]
    bodies = [json.dumps({"user": user, "k": 2}).encode() for user in users]
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        connection.sendall(b"".join(_post("/recommend", body) for body in bodies))
        with connection.makefile("rb") as file:
            found = [_next_answer(file) for _ in users]
    alone = [service.ask("/recommend", {"user": user, "k": 2}) for user in users]
    assert [(status, json.loads(body)) for status, body in found] == alone


def test_an_idle_connection_is_used_again(service):
    connection = service.connect()
    for _ in range(3):
        connection.request("GET", "/health")
        assert connection.getresponse().read() == b'{"status":"ok"}'
        place = connection.sock
        time.sleep(1.3)  # longer than a head may take
    assert connection.sock is place
    connection.close()


def test_an_endless_body_is_cut_off(service):
    head = b"POST /recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
        sent, start = 0, time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() - start < 20:
                connection.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
                sent += 65536
        assert sent > 1 << 20 and time.monotonic() - start < 15


def test_an_endless_head_is_cut_off(service):
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\n")
        with pytest.raises(OSError):
            for number in range(10_000):
                connection.sendall(b"X-%d: " % number + b"a" * 1000 + b"\r\n")


HEAD = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(scope="module")
def strict(tmp_path_factory):
    """A service that allows heads of 2,000 bytes."""
    folder = tmp_path_factory.mktemp("strict")
    save_index(make_index(), folder / "bundle")
    process = Process(folder, folder / "bundle", limits={"head_bytes": 2000, "read_seconds": 1.0})
    yield process
    process.close()


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (HEAD + b"X: " + b"a" * 1900 + b"\r\n\r\n", 200),
        (HEAD + b"X: " + b"a" * 2000 + b"\r\n\r\n", 431),
        (HEAD + b"X: " + b"a" * 100_000 + b"\r\n\r\n", 431),
        (HEAD + b"X: " + b" " * 5000 + b"a\r\n\r\n", 431),
        (HEAD + b"X: " + b"a" * 2500, 431),
        (HEAD + b"".join(b"X%d: a\r\n" % n for n in range(300)) + b"\r\n", 431),
        (HEAD.replace(b"health", b"a" * 2000) + b"\r\n", 431),
    ],
    ids=lambda value: str(len(value)) if isinstance(value, bytes) else None,
)
def test_heads_in_one_packet_are_measured(strict, head, status):
    found, body = strict.send(head)
    assert found == status
    assert status == 200 or json.loads(body)["error"] == "a head must have at most 2000 bytes"


def test_a_body_is_no_part_of_the_head_that_follows_it(strict):
    one = _post("/recommend", b'{"user": 1' + b" " * 4000 + b"}")
    for again in (one, HEAD + b"\r\n"):
        with socket.create_connection(("127.0.0.1", strict.port), timeout=30) as connection:
            connection.sendall(one + again[:14])
            time.sleep(0.1)
            connection.sendall(again[14:])
            with connection.makefile("rb") as file:
                assert [_next_answer(file)[0] for _ in range(2)] == [200, 200]


def test_what_is_wrong_after_a_request_does_not_take_its_answer(strict):
    for wrong in (HEAD + b"X: " + b"a" * 5000 + b"\r\n\r\n", b"hello\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", strict.port), timeout=30) as connection:
            connection.sendall(_post("/recommend", b'{"user": 1}') + wrong)
            with connection.makefile("rb") as file:
                assert _next_answer(file)[0] == 200
                assert file.read() == b""


def test_refusals_of_heads_are_counted(strict):
    def counted() -> list[int]:
        text = strict.ask("/metrics")[1].decode()
        counts = dict(line.rsplit(" ", 1) for line in text.splitlines())
        key = 'pyg_kd_requests_total{path="other",status="%d"}'
        return [int(counts.get(key % status, 0)) for status in (400, 408, 431)]

    before = counted()
    assert strict.send(b"hello\r\n\r\n")[0] == 400
    assert strict.send(HEAD)[0] == 408
    assert strict.send(HEAD + b"X: " + b"a" * 3000)[0] == 431
    assert [now - then for now, then in zip(counted(), before, strict=True)] == [1, 1, 1]


def test_who_hangs_up_in_a_body_is_no_failure_of_the_service(strict):
    count = len(strict.events("failed"))
    for path in ("/recommend", "/compare/items"):
        with socket.create_connection(("127.0.0.1", strict.port), timeout=30) as connection:
            connection.sendall(_post(path, b'{"user": 1}')[:-3])
    until(lambda: "pyg_kd_open 1" in strict.ask("/metrics")[1].decode())
    text = strict.ask("/metrics")[1].decode()
    for path in ("/recommend", "other"):
        assert f'requests_total{{path="{path}",status="499"}} 1' in text
    assert 'status="500"' not in text and len(strict.events("failed")) == count


def test_logs_hold_nothing_of_requests(service):
    secret = "kilimanjaro"
    for data in (
        _post("/recommend", json.dumps({"user": secret}).encode()),
        _post(f"/{secret}", b"{}"),
        _post("/recommend", secret.encode(), secret),
        f"{secret} / HTTP/1.1\r\n{secret}: {secret}\r\n\r\n".encode(),
    ):
        assert 400 <= service.send(data)[0] < 500
    assert secret not in service.log.read_text()
