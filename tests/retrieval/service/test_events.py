from __future__ import annotations

import errno
import os
import time

import numpy as np
import pytest

from pyg_kd.retrieval.fold_in import FoldIn
from pyg_kd.retrieval.service.event_log import Click, EventLog, Named, Stock, Tail
from pyg_kd.retrieval.service.served import Served
from tests.retrieval.service.conftest import SEEN, make_index


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log"


def _list(client, **ask):
    answer = client.post("/recommend", json=ask)
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()["items"]], answer.json()["source"]


def test_a_click_is_seen_at_once_and_folded_in_by_all_who_follow(client, log):
    here, there = (client(make_index("text"), events=log) for _ in range(2))
    before, source = _list(here, user="u4", k=5)
    assert source == "model"
    answer = there.post("/events", json={"user": "u4", "item": before[0]})
    assert (answer.status_code, answer.json()) == (200, {"noted": 1, "unknown": 0})
    expected = make_index("text")
    expected.add_interactions("u4", [before[0]])
    wanted = expected.search(["u4"], k=5)[0][0].tolist()
    assert before[0] not in wanted
    for one in (here, there, client(make_index("text"), events=log)):  # the last one starts later
        assert _list(one, user="u4", k=5) == (wanted, "folded")


def test_a_new_user_by_events(client, log):
    connection = client(make_index("integer"), events=log)
    assert _list(connection, user=777)[1] == "popular"
    answer = connection.post("/events", json={"user": 777, "items": [100, 97, 97]})
    assert answer.json() == {"noted": 2, "unknown": 0}
    found, source = _list(connection, user=777, k=4)
    wanted = make_index("integer").search_history([100, 97], k=4)[0][0].tolist()
    assert (found, source) == (wanted, "folded")


def test_stock(client, log):
    here, there = (client(events=log) for _ in range(2))
    best, _ = _list(here, user=1, k=3)
    answer = here.post("/unavailable", json={"items": best[:2]})
    assert answer.json() == {"noted": 2, "unknown": 0}
    assert not {*best[:2]} & {*_list(there, user=1, k=14)[0]}
    answer = there.post("/available", json={"items": [*best[:1], 99]})
    assert answer.json() == {"noted": 2, "unknown": 1}
    assert _list(here, user=1, k=14)[0][0] == best[0]
    assert best[1] not in _list(client(events=log), user=1, k=14)[0]


def test_named_sets(client, log):
    here, there = (client(events=log) for _ in range(2))
    answer = here.post("/filters", json={"name": "some", "items": [2, 5, 11, 99]})
    assert answer.json() == {"noted": 4, "unknown": 1}
    assert {*_list(there, user=1, filters=["some"])[0]} == {2, 5, 11}
    there.post("/filters", json={"name": "some", "items": [4]})
    assert _list(here, user=1, filters=["some"])[0] == [4]


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/events", {"user": 1}, "item"),
        ("/events", {"item": 1}, "user"),
        ("/events", {"user": 1, "item": 1, "items": [1]}, "item"),
        ("/events", {"user": 1, "items": []}, "items"),
        ("/events", {"user": 1, "item": 99}, "item"),
        ("/events", {"user": 1, "items": [1, 99]}, "items"),
        ("/events", {"user": "anna", "item": 1}, "user"),
        ("/events", {"user": None, "item": 1}, "user"),
        ("/unavailable", {"items": ["a"]}, "items"),
        ("/available", {}, "items"),
        ("/filters", {"name": "", "items": []}, "name"),
        ("/filters", {"name": "x", "items": ["a"]}, "items"),
    ],
)
def test_wrong_events_are_not_noted(client, log, path, body, field):
    answer = client(events=log).post(path, json=body)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert [*Tail(log).read()] == []


def test_without_a_log_nothing_is_noted(client):
    answer = client().post("/events", json={"user": 1, "item": 1})
    assert answer.status_code == 409


def test_a_full_disk(client, log, monkeypatch, caplog):
    connection = client(events=log)

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    answer = connection.post("/events", json={"user": 1, "item": 4})
    assert answer.status_code == 503 and "retry-after" in answer.headers
    monkeypatch.undo()
    assert _list(connection, user=1)[1] != "folded"
    assert connection.post("/events", json={"user": 1, "item": 4}).status_code == 200
    assert 4 not in _list(connection, user=1, k=14)[0]


def test_what_another_bundle_does_not_know_is_passed_over(log):
    EventLog(log).append(
        [
            Click(1, [3, 50], 0.0),
            Click("anna", [4], 0.0),
            Click(20, [60], 0.0),
            Stock([2, 70], False),
            Stock([2], True),
            Stock([6], False),
            Named("few", [1, 80]),
            Click(1, [5], 0.0),
        ]
    )
    served = Served(make_index(), "digest", Tail(log))
    served.follow()
    index = served.index
    assert index.seen.history(1).tolist() == [*SEEN.get(1, []), 3, 5]
    assert served.folded == {1} and served.followed == 8
    assert index.sets.unavailable.tolist() == [6]
    assert np.flatnonzero(index.allowed(filters=["few"])).tolist() == [1]
    assert index.newcomers.find([20, "anna"]).tolist() == [-1, -1]


def test_a_foreign_file_in_place_of_the_log(client, log):
    connection = client(events=log)
    assert connection.post("/events", json={"user": 1, "item": 4}).status_code == 200
    log.rename(log.with_name("old"))
    log.write_text("something else\n")
    for _ in range(3):
        answer = connection.post("/events", json={"user": 2, "item": 5})
        assert answer.status_code == 503 and "another file" in answer.json()["error"]
    assert log.read_text() == "something else\n"
    assert _list(connection, user=1)[1] == "folded"


def test_the_folder_of_the_log_is_away_for_a_moment(client, tmp_path):
    log, away = tmp_path / "here" / "log", tmp_path / "away"
    log.parent.mkdir()
    connection = client(events=log)
    log.parent.rename(away)
    for _ in range(3):
        assert connection.post("/events", json={"user": 1, "item": 4}).status_code == 503
        assert _list(connection, user=1)[1] != "folded"
    away.rename(log.parent)
    assert connection.post("/events", json={"user": 1, "item": 4}).status_code == 200
    assert _list(connection, user=1)[1] == "folded"


def test_an_event_is_in_force_at_once_after_the_log_was_moved_away(client, log):
    here, there = (client(make_index(), events=log) for _ in range(2))
    there.post("/events", json={"user": 1, "item": 4})
    assert _list(here, user=1)[1] == "folded"
    for turn, user in enumerate((4, 5)):
        log.rename(log.with_name(f"old{turn}"))
        assert there.post("/events", json={"user": user, "item": 4}).status_code == 200
        for one in (here, there):
            assert _list(one, user=user)[1] == _list(one, user=1)[1] == "folded"


def test_a_log_that_was_moved_away_is_begun_anew(client, log):
    connection = client(events=log)
    log.rename(log.with_name("old"))
    late = time.monotonic() + 20
    while not log.exists():
        assert time.monotonic() < late
        time.sleep(0.02)
    assert connection.post("/events", json={"user": 1, "item": 4}).status_code == 200
    assert _list(connection, user=1)[1] == "folded"


def test_a_trouble_with_the_log_is_told_once(client, log, caplog):
    connection = client(events=log)
    log.rename(log.with_name("old"))
    log.write_text("something else\n")
    for _ in range(5):
        assert _list(connection, user=4)[1] == "model"
    assert caplog.text.count("log not followed") == 1


def test_damaged_records_are_counted_and_told_from_the_start(client, log, caplog):
    EventLog(log).append([Click(1, [n], 0.0) for n in range(3)])
    log.write_bytes(log.read_bytes().replace(b'"items":[1]', b'"items":[9]'))
    connection = client(events=log)
    connection.post("/recommend", json={"user": 1})
    text = connection.get("/metrics").text
    assert "pyg_kd_damaged_total 1\n" in text and "pyg_kd_followed_total 2\n" in text
    assert caplog.text.count("damaged records passed over") == 1


def test_users_of_many_records_are_folded_in_together(log, monkeypatch):
    EventLog(log).append([Click(n % 60, [n % 14], 0.0) for n in range(200)])
    served, sizes, fold_in = Served(make_index(), "digest", Tail(log)), [], FoldIn.__call__

    def counted(self, ptr, *args):
        sizes.append(len(ptr) - 1)
        return fold_in(self, ptr, *args)

    monkeypatch.setattr(FoldIn, "__call__", counted)
    served.follow()
    assert len(sizes) == 1 and served.folded == {*range(60)}
