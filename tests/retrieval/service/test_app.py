from __future__ import annotations

import json

import pytest

from pyg_kd.retrieval.service.app import default_log
from pyg_kd.retrieval.service.options import Limits
from tests.retrieval.service.conftest import make_index


def test_a_list_is_the_one_of_the_index(client):
    index = make_index("text")
    answer = client(index).post("/recommend", json={"user": "u0", "k": 5})
    items, scores = index.search(["u0"], k=5)
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
    assert answer.json()["items"] == [
        {"id": id, "score": score}
        for id, score in zip(items[0].tolist(), scores[0].tolist(), strict=True)
    ]
    assert answer.json()["source"] == "model" and len(answer.json()["bundle"]) == 64


def test_health(client):
    answer = client().get("/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"", 400, None),
        (b"{", 400, None),
        (b"\xff\xfe{}", 400, None),
        (b'{"user": NaN}', 400, None),
        (b'{"user": 1, "user": 2}', 400, None),
        (b'{"us\\u0065r": 1, "user": 2}', 400, None),
        (b'{"user": "\\ud800"}', 400, None),
        (b"[" * 100_000, 422, None),
        (b"[]", 422, None),
        (b"{}", 422, "user"),
        (b'{"user": 1, "history": [1]}', 422, "user"),
        (b'{"user": 1.5}', 422, "user"),
        (b'{"user": true}', 422, "user"),
        (b'{"user": 1e400}', 422, "user"),
        (b'{"user": 9223372036854775808}', 422, "user"),
        (b'{"user": "anna"}', 422, "user"),
        (b'{"user": 1, "k": 0}', 422, "k"),
        (b'{"user": 1, "k": 1001}', 422, "k"),
        (b'{"user": 1, "k": "5"}', 422, "k"),
        (b'{"user": 1, "limit": 5}', 422, "limit"),
        (b'{"history": [1, null]}', 422, "history"),
        (b'{"history": {"a": 1}}', 422, "history"),
        (b'{"user": 1, "filters": ["absent"]}', 422, "filters"),
        (json.dumps({"history": [1] * 1001}).encode(), 422, "history"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_wrong_bodies(client, body, status, field):
    headers = {"content-type": "application/json"}
    answer = client().post("/recommend", content=body, headers=headers)
    assert answer.status_code == status, answer.text
    assert answer.json().keys() == {"error", "field"}
    assert answer.json()["field"] == field and len(answer.json()["error"]) > 5


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/recommend", 405), ("DELETE", "/health", 405), ("GET", "/nothing", 404)],
)
def test_no_such_route(client, method, path, status):
    answer = client().request(method, path)
    assert answer.status_code == status and answer.json().keys() == {"error", "field"}


def test_a_body_that_is_too_large_or_no_json_is_not_read(client):
    connection = client(limits=Limits(body_bytes=100))
    large = json.dumps({"history": list(range(100))})
    headers = {"content-type": "application/json"}
    assert connection.post("/recommend", content=large, headers=headers).status_code == 413
    pieces = iter([large[:90].encode(), large[90:].encode()])  # without a length
    assert connection.post("/recommend", content=pieces, headers=headers).status_code == 413
    assert connection.post("/recommend", content=b"{}").status_code == 415
    packed = {**headers, "content-encoding": "gzip"}
    assert connection.post("/recommend", content=b"{}", headers=packed).status_code == 415


def test_half_of_a_surrogate_pair_is_called_so(client):
    connection = client(make_index("text"))
    headers = {"content-type": "application/json"}
    for body in (r'{"user": "\ud800"}', r'{"history": ["\ud800"]}', r'{"user": "\ud83d'):
        answer = connection.post("/recommend", content=body, headers=headers)
        whole = body.endswith("}")
        assert answer.status_code == 400
        assert ("half of a surrogate pair" in answer.json()["error"]) == whole, answer.text
    sound = connection.post("/recommend", content=r'{"user": "\ud83d\ude00"}', headers=headers)
    assert sound.status_code == 200


def test_a_token(client):
    connection = client(token="s3cret")
    ask = {"json": {"user": 1}}
    refused = connection.post("/recommend", **ask)
    assert refused.status_code == 401 and refused.headers["www-authenticate"] == "Bearer"
    for wrong in (
        "s3cret",
        "Bearer s3cre",
        "Bearer s3cret ",
        "Bearer",
        "Basic s3cret",
        "Bearers3cret",
    ):
        headers = {"authorization": wrong}
        assert connection.post("/recommend", headers=headers, **ask).status_code == 401
    for scheme in ("Bearer", "bearer", "BEARER"):  # RFC 9110: in any case
        headers = {"authorization": f"{scheme} s3cret"}
        assert connection.post("/recommend", headers=headers, **ask).status_code == 200
    assert connection.get("/health").status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:80", 200),
        ("127.0.0.1", 200),
        ("127.0.0.2:8000", 200),
        ("[::1]:8000", 200),
        ("evil.example", 400),
        ("127.0.0.1.evil.example", 400),
        ("128.0.0.1", 400),
        ("0.0.0.0", 400),
        ("", 400),
    ],
)
def test_other_names_are_refused_without_a_token(client, host, status):
    assert client().get("/health", headers={"host": host}).status_code == status
    assert client(local=False).get("/health", headers={"host": host}).status_code == 200


def test_the_log_of_a_folder_without_a_name_is_beside_it(tmp_path, monkeypatch):
    folder = tmp_path / "bundle"
    (folder / "inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(folder)
    assert default_log(".") == default_log("../bundle") == tmp_path / "bundle.events"
    monkeypatch.chdir(folder / "inner")
    assert default_log("..") == tmp_path / "bundle.events"
    assert default_log(tmp_path / "link") == tmp_path / "link.events"
