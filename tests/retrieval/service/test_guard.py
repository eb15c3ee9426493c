from __future__ import annotations

import io
import json
import logging

import pytest
from starlette.testclient import TestClient

from pyg_kd.retrieval.service.app import App
from pyg_kd.retrieval.service.board import Board
from pyg_kd.retrieval.service.logs import Lines, log_lines
from pyg_kd.retrieval.service.metrics import Metrics
from pyg_kd.retrieval.service.options import Limits
from pyg_kd.retrieval.service.served import Served
from pyg_kd.retrieval.service.service import Service
from tests.retrieval.service.conftest import make_index


@pytest.fixture
def lines():
    """What is logged, as lines of JSON; the logger is put back afterwards."""
    logger = logging.getLogger("pyg_kd.service")
    before = logger.handlers, logger.propagate, logger.level
    stream = io.StringIO()
    log_lines("info", stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logger.handlers, logger.propagate = before[0], before[1]
    logger.setLevel(before[2])


def test_a_failure_is_told_by_its_place_and_costs_its_request_alone(client, monkeypatch, lines):
    index = make_index()
    connection = client(index)

    def fails(*args, **options):
        raise KeyError("kilimanjaro")

    monkeypatch.setattr(index, "rank", fails)
    answer = connection.post("/recommend", json={"user": 1})
    assert answer.status_code == 500
    assert answer.json() == {"error": "the service failed to answer", "field": None}
    monkeypatch.undo()
    assert connection.post("/recommend", json={"user": 1}).status_code == 200
    (failed,) = [line for line in lines() if line["event"] == "failed"]
    assert failed["level"] == "error" and failed["error"] == "KeyError"
    assert any(place.startswith("ranking.py:") for place in failed["at"])
    assert "kilimanjaro" not in json.dumps(lines())


def test_events_that_cannot_be_applied_cost_no_list(client, monkeypatch, lines, tmp_path):
    index = make_index()
    connection = client(index, events=tmp_path / "log")

    def fails(*args):
        raise ArithmeticError("kilimanjaro")

    monkeypatch.setattr(index, "add_interactions_of", fails)
    assert connection.post("/events", json={"user": 1, "item": 3}).status_code == 200
    assert connection.post("/recommend", json={"user": 1}).status_code == 200
    assert any(line["event"] == "log not followed" for line in lines())
    assert "kilimanjaro" not in json.dumps(lines())


def test_exceptions_of_others_are_logged_without_their_messages():
    try:
        raise ValueError("kilimanjaro")
    except ValueError as error:
        told = {"msg": "oh", "exc_info": (type(error), error, error.__traceback__)}
        line = json.loads(Lines().format(logging.makeLogRecord(told)))
    assert line["error"] == "ValueError" and "kilimanjaro" not in json.dumps(line)
    assert line["at"][0].startswith("test_guard.py:")


def test_all_answers_say_that_their_type_is_meant(client):
    connection = client()
    for path in ("/health", "/absent", "/", "/page/app.js"):
        answer = connection.get(path)
        assert answer.headers.get_list("x-content-type-options") == ["nosniff"], path


def test_the_page_is_public_and_its_questions_are_not(client):
    connection = client(token="s3cret")
    page = connection.get("/")
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    assert connection.get("/page/app.js").status_code == 200
    assert connection.get("/compare/about").status_code == 401
    authorized = {"authorization": "Bearer s3cret"}
    assert connection.get("/compare/about", headers=authorized).status_code == 200
    for path in ("/metrics", "/openapi.json", "/page", "/page/../metrics"):
        assert connection.get(path).status_code == 401, path


def test_the_name_at_which_a_service_listens_is_its_own():
    metrics = Metrics(Board())
    service = Service(Served(make_index()), None, Limits(), metrics)
    with TestClient(App(service, host="Desk.example"), base_url="http://desk.example:80") as client:
        assert client.get("/health").status_code == 200
        assert client.get("/health", headers={"host": "evil.example"}).status_code == 400
