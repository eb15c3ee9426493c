"""A student and a teacher for the tests of the page, and how it asks them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.testclient import TestClient

from pyg_kd.retrieval import TopKIndex
from pyg_kd.retrieval.service.page import Models, routes
from pyg_kd.retrieval.service.refused import Refused

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)> & \"quotes\" 'too'"


def make_index(
    rng: np.random.Generator, *, users: int = 30, items: int = 40, dim: int = 8, **options: Any
) -> TopKIndex:
    rows = [rng.choice(items, rng.integers(1, 12), replace=False) for _ in range(users)]
    ptr = np.cumsum([0, *map(len, rows)])
    x_user, x_item = (rng.normal(size=(n, dim)).astype(np.float32) for n in (users, items))
    return TopKIndex(x_user, x_item, seen=(ptr, np.concatenate(rows)), **options)


def client_of(models: Models) -> TestClient:
    app = Starlette(
        routes=routes(lambda: models),
        exception_handlers={Refused: lambda request, error: error.response()},  # type: ignore
    )
    return TestClient(app)


def seen_of(index: TopKIndex) -> list[set[int]]:
    ptr, col = index.seen.pattern
    return [set(col[a:b].tolist()) for a, b in pairwise(ptr.tolist())]


def make_models() -> Models:
    """A student and a teacher of the same data; ids are large integers, one title is hostile."""
    ids = {"user_ids": 2**60 + np.arange(30), "item_ids": 1000 + np.arange(40)[::-1]}
    student = make_index(np.random.default_rng(0), dtype="int8", **ids)
    teacher = make_index(np.random.default_rng(0), dim=16, **ids)
    teacher = TopKIndex(teacher.x_user, teacher.x_item, seen=student.seen, **ids)
    names = {1000 + n: f"Title {n}" for n in range(40)} | {1003: HOSTILE, 1004: "Amélie"}
    return Models(student, teacher, names)


def brute_force(index: TopKIndex, user: int, k: int) -> list[int]:
    x_user = index.x_user.rows(np.arange(index.num_users)).astype(np.float64)
    x_item = index.x_item.rows(np.arange(index.num_items)).astype(np.float64)
    score = x_item @ x_user[user]
    score[list(seen_of(index)[user])] = -np.inf
    return np.argsort(-score, kind="stable")[:k].tolist()


def ask(client: TestClient, name: str, **body: Any) -> Any:
    response = client.post(f"/compare/{name}", json=body)
    assert response.status_code == 200, response.text
    return response.json()
