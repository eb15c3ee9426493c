"""What the page is answered: lists of both models, against brute force."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from pyg_kd.retrieval import TopKIndex
from pyg_kd.retrieval.service.page import Models, routes
from tests.retrieval.service.page.page_models import (
    ask,
    brute_force,
    client_of,
    make_index,
    seen_of,
)


@pytest.mark.parametrize("k", [1, 7, 100])
def test_lists_are_those_of_both_models(client: TestClient, models: Models, k: int) -> None:
    for user in (0, 11, 29):
        answer = ask(client, "lists", user=str(2**60 + user), k=k)
        wanted = {}
        for who, index in (("student", models.student), ("teacher", models.teacher)):
            assert index is not None
            rows = brute_force(index, user, k)[: index.num_items - len(seen_of(index)[user])]
            wanted[who] = [str(1039 - row) for row in rows]
            assert [item["id"] for item in answer[who]["items"]] == wanted[who]
            assert 0 < answer[who]["milliseconds"] < 1000
        both = len(set(wanted["student"]) & set(wanted["teacher"]))
        assert answer["overlap"] == {"count": both, "of": len(wanted["student"])}
        known = {str(1039 - row) for row in seen_of(models.student)[user]}
        assert {item["id"] for item in answer["known"]["items"]} == known
        assert answer["known"]["count"] == len(known)


def test_titles_go_with_ids_and_stay_as_they_are(client: TestClient, models: Models) -> None:
    answer = ask(client, "lists", user=str(2**60), k=40)
    items = answer["student"]["items"] + answer["known"]["items"]
    assert {item["id"] for item in items} == {str(1000 + n) for n in range(40)}
    for item in items:
        assert item["title"] == models.names[int(item["id"])]  # type: ignore[index]


def test_a_history_is_folded_in_by_both(client: TestClient, models: Models) -> None:
    answer = ask(client, "lists", items=["1001", "1017", "1001"], k=5)
    for who, index in (("student", models.student), ("teacher", models.teacher)):
        assert index is not None
        items, _ = index.search_history([1001, 1017], 5)
        assert [item["id"] for item in answer[who]["items"]] == [str(i) for i in items[0].tolist()]
    assert [item["id"] for item in answer["known"]["items"]] == ["1001", "1017"]


def test_an_empty_history_gets_popular_items(client: TestClient, models: Models) -> None:
    answer = ask(client, "lists", items=[], k=3)
    count = np.bincount(models.student.seen.pattern.col, minlength=40)
    popular = np.argsort(-count, kind="stable")[:3]
    assert [int(item["id"]) for item in answer["student"]["items"]] == (1039 - popular).tolist()
    assert answer["popular"] and not ask(client, "lists", items=["1001"])["popular"]


def test_a_click_since_then_is_known(models: Models) -> None:
    student = make_index(np.random.default_rng(4))
    client = client_of(Models(student))
    student.add_interactions(31, [5])  # a new user
    student.add_interactions(2, [7])
    known = ask(client, "lists", user="31", k=2)["known"]["items"]
    assert [item["id"] for item in known] == ["5"]
    why = ask(client, "explain", user="31", item="9")
    assert [item["id"] for item in why["similar"]] == ["5"]
    ids = {item["id"] for item in ask(client, "lists", user="2", k=1)["known"]["items"]}
    assert "7" in ids


def test_a_teacher_hears_of_clicks_since_then() -> None:
    rng = np.random.default_rng(7)
    student, teacher = make_index(rng), make_index(rng, dim=16)
    teacher = TopKIndex(teacher.x_user, teacher.x_item, seen=student.seen.pattern)
    client = client_of(Models(student, teacher))
    first = ask(client, "lists", user="3", k=2)["teacher"]["items"]
    student.add_interactions(3, [int(first[0]["id"])])
    assert ask(client, "lists", user="3", k=1)["teacher"]["items"] == first[1:]
    student.add_interactions(77, [4, 9])  # a user whom the teacher has never met
    wanted, _ = teacher.search_history([4, 9], 5)
    found = ask(client, "lists", user="77", k=5)["teacher"]["items"]
    assert [item["id"] for item in found] == [str(item) for item in wanted[0].tolist()]


def test_a_teacher_of_other_data_is_told() -> None:
    rng = np.random.default_rng(1)
    ids = [f"u{n}" for n in range(30)], [f"i{n}" for n in range(40)]
    student = make_index(rng, user_ids=ids[0], item_ids=ids[1])
    client = client_of(Models(student, make_index(rng, items=12)))
    answer = ask(client, "lists", user="u3", k=4)
    assert len(answer["student"]["items"]) == 4
    problem = "The teacher has no list: it knows neither the user nor the items seen before."
    assert answer["teacher"] == {"items": [], "problem": problem}
    assert "overlap" not in answer
    answer = ask(client, "lists", items=["i30"], k=4)
    assert "got 'i30'" in answer["teacher"]["problem"]
    refused = client.post("/compare/explain", json={"user": "u3", "item": "i1", "from": "teacher"})
    assert (refused.status_code, refused.json()["field"]) == (404, "item")


def test_without_a_teacher_there_is_one_list() -> None:
    client = client_of(Models(make_index(np.random.default_rng(2))))
    assert client.get("/compare/about").json()["teacher"] is None
    assert "teacher" not in ask(client, "lists", user="0")
    refused = client.post("/compare/explain", json={"user": "0", "item": "1", "from": "teacher"})
    assert (refused.status_code, refused.json()["field"]) == (404, "from")


def test_an_index_without_seen_items_has_lists_and_nothing_to_explain() -> None:
    x = np.eye(4, 3, dtype=np.float32)
    client = client_of(Models(TopKIndex(x, x)))
    assert client.get("/compare/about").json()["first_user"] is None
    answer = ask(client, "lists", user="1", k=3)
    assert [item["id"] for item in answer["student"]["items"]] == ["1", "0", "2"]
    assert not answer["popular"]
    why = ask(client, "explain", user="1", item="2")
    assert (why["similar"], why["users"], why["history"]) == ([], [], 0)
    assert ask(client, "items", q="")["found"][0]["count"] == 0


def test_about_tells_bytes_and_metrics(models: Models) -> None:
    metrics = {"recall@20": 0.25, "note": "text"}
    told = {"metrics": metrics, "model": {"class": "MF", "repr": "MF()"}}
    student = make_index(np.random.default_rng(3), dtype="int8", info=told)
    answer = client_of(models._replace(student=student)).get("/compare/about").json()
    assert answer["student"] == {
        "model": "MF",
        "bytes": (30 + 40) * (8 + 2),
        "dim": 8,
        "dtype": "int8",
        "users": 30,
        "items": 40,
        "metrics": {"recall@20": 0.25},
    }
    assert (answer["teacher"]["model"], answer["teacher"]["metrics"]) == ("", {})
    assert answer["teacher"]["bytes"] == (30 + 40) * 16 * 4
    assert answer["first_user"] == "0"


def test_a_swap_is_noticed() -> None:
    rng = np.random.default_rng(5)
    served = [Models(make_index(rng))]
    client = TestClient(Starlette(routes=routes(lambda: served[0])))
    assert client.get("/compare/about").json()["student"]["items"] == 40
    old = weakref.ref(served[0].student)
    served[0] = Models(make_index(rng, items=50))
    gc.collect()
    assert old() is None  # the page doesn't keep what was replaced
    assert client.get("/compare/about").json()["student"]["items"] == 50
    assert [item["title"] for item in ask(client, "items", q="7")["found"]] == ["7"]
    served[0] = served[0]._replace(names={7: "Seven"})
    assert [item["title"] for item in ask(client, "items", q="seven")["found"]] == ["Seven"]


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("lists", {}),
        ("lists", {"user": "1", "items": []}),
        ("lists", {"user": 1}),
        ("lists", {"user": None}),
        ("lists", {"user": "1" * 300}),
        ("lists", {"user": "1", "k": 0}),
        ("lists", {"user": "1", "k": 101}),
        ("lists", {"user": "1", "k": 2.5}),
        ("lists", {"user": "1", "k": True}),
        ("lists", {"user": "1", "more": 1}),
        ("lists", {"items": ["1000"] * 101}),
        ("lists", {"items": "1000"}),
        ("lists", {"items": [["1000"]]}),
        ("explain", {"user": "1"}),
        ("explain", {"user": "1", "item": 3}),
        ("explain", {"user": "1", "item": "3", "from": "parent"}),
        ("users", {"draw": 1}),
        ("users", {"draw": -0.1}),
        ("users", {"q": 3}),
        ("items", {"q": "x" * 300}),
        ("items", []),
    ],
)
def test_wrong_questions_are_refused(client: TestClient, name: str, body: Any) -> None:
    response = client.post(f"/compare/{name}", json=body)
    assert response.status_code == 422
    assert response.json()["error"]


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b'{"q": "\xff"}', b'{"q": NaN}'])
def test_what_is_not_json_is_refused(client: TestClient, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    response = client.post("/compare/users", content=body, headers=headers)
    assert response.status_code in (400, 422)
    plain = client.post("/compare/users", content=b"{}", headers={"content-type": "text/plain"})
    assert plain.status_code == 415


@pytest.mark.parametrize("id", ["", "nobody", "-1", "1e3", "٣", "9" * 30, "\x00", "12 "])
def test_unknown_ids_are_refused(client: TestClient, id: str) -> None:
    for name, body in (
        ("lists", {"user": id}),
        ("lists", {"items": ["1000", id]}),
        ("explain", {"user": str(2**60), "item": id}),
    ):
        response = client.post(f"/compare/{name}", json=body)
        assert response.status_code == 404, (name, response.text)
