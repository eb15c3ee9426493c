"""Why an item is in a list, by brute force over all users."""

from __future__ import annotations

from typing import Any

import networkx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from pyg_kd.retrieval import TopKIndex
from pyg_kd.retrieval.service.page import Models
from pyg_kd.retrieval.service.page.explain import neighbourhood
from pyg_kd.retrieval.service.page.layout import ASPECT, END, LEAST, place
from tests.retrieval.service.page.page_models import (
    ask,
    brute_force,
    client_of,
    make_index,
    seen_of,
)


def oracle(index: TopKIndex, item: int, history: list[int], user: int) -> dict[str, Any]:
    """By brute force over all users and items, in float64."""
    x = index.x_item.rows(np.arange(index.num_items)).astype(np.float64)
    cosine = {
        j: float(x[j] @ x[item] / np.linalg.norm(x[j]) / np.linalg.norm(x[item])) for j in history
    }
    similar = sorted(set(history) - {item}, key=lambda j: (-cosine[j], j))[:6]
    seen = seen_of(index)
    others = [u for u in range(index.num_users) if u != user and item in seen[u]]
    weight = {
        u: sum(max(cosine[j], 1e-6) for j in similar if j in seen[u]) / np.log2(2 + len(seen[u]))
        for u in others
    }
    users = sorted((u for u in others if weight[u] > 0), key=lambda u: (-weight[u], u))[:6]
    return {
        "similar": similar,
        "cosine": [cosine[j] for j in similar],
        "both": [sum(j in seen[u] for u in others) for j in similar],
        "users": users,
        "shared": [[j in seen[u] for j in similar] for u in users],
    }


@given(seed=st.integers(0, 2**32 - 1), user=st.integers(0, 29), item=st.integers(0, 39))
def test_neighbourhood_by_brute_force(seed: int, user: int, item: int) -> None:
    index = make_index(np.random.default_rng(seed))
    history = index.seen.history(user)
    found = neighbourhood(index, item, history, user=user)
    wanted = oracle(index, item, history.tolist(), user)
    assert found.similar.tolist() == wanted["similar"]
    np.testing.assert_allclose(found.cosine, wanted["cosine"], rtol=1e-9)
    assert found.both.tolist() == wanted["both"]
    assert found.users.tolist() == wanted["users"]
    assert found.shared.tolist() == wanted["shared"]


def test_an_item_that_is_stored_twice_counts_once() -> None:
    x = np.eye(4, dtype=np.float32)
    seen = [0, 3, 5, 5, 6], [1, 1, 2, 1, 2, 1]
    found = neighbourhood(TopKIndex(x, x, seen=seen), 1, np.array([2, 2]))
    assert (found.similar.tolist(), found.both.tolist()) == ([2], [2])
    assert found.users.tolist() == [1, 0]  # who has fewer items comes first


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_explanation_in_original_ids(client: TestClient, models: Models, side: str) -> None:
    index = models.student if side == "student" else models.teacher
    assert index is not None
    user, item = 4, brute_force(index, 4, 1)[0]
    asked = {"user": str(2**60 + user), "item": str(1039 - item), "from": side}
    answer = ask(client, "explain", **asked)
    wanted = oracle(index, item, sorted(seen_of(index)[user]), user)
    assert answer["item"]["id"] == asked["item"]
    assert answer["history"] == len(seen_of(index)[user])
    assert [one["id"] for one in answer["similar"]] == [str(1039 - j) for j in wanted["similar"]]
    assert [one["both"] for one in answer["similar"]] == wanted["both"]
    assert [one["id"] for one in answer["users"]] == [str(2**60 + u) for u in wanted["users"]]
    for one, shared in zip(answer["users"], wanted["shared"], strict=True):
        assert one["shared"] == np.flatnonzero(shared).tolist()
    layout = answer["layout"]
    assert (layout["owner"], layout["item"]) == ([0, 0.5], [ASPECT, 0.5])
    assert len(layout["similar"]) == len(wanted["similar"])
    assert len(layout["users"]) == len(wanted["users"])
    assert ask(client, "explain", **asked) == answer  # the same drawing each time


def test_a_history_with_the_item_itself() -> None:
    client = client_of(Models(make_index(np.random.default_rng(6))))
    answer = ask(client, "explain", items=["3", "4"], item="3")
    assert [one["id"] for one in answer["similar"]] == ["4"]
    alone = ask(client, "explain", items=["3"], item="3")
    assert (alone["similar"], alone["users"]) == ([], [])


def test_without_networkx_there_are_words_alone(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: Any, **__: Any) -> Any:
        raise ImportError("networkx")

    monkeypatch.setattr("pyg_kd.retrieval.service.page.answers.place", missing)
    answer = ask(client, "explain", user=str(2**60), item="1000")
    assert answer["layout"] is None and "NetworkX" in answer["note"]
    assert answer["similar"]


@given(
    sizes=st.tuples(st.integers(0, 6), st.integers(0, 6)),
    seed=st.integers(0, 1000),
)
def test_nodes_lie_apart_inside_of_the_drawing(sizes: tuple[int, int], seed: int) -> None:
    s, n = sizes
    graph = networkx.gnp_random_graph(2 + s + n, 0.5, seed=seed)
    edges = [(a, b, 1.0) for a, b in graph.edges]
    groups = range(2, 2 + s), range(2 + s, 2 + s + n)
    xy = place(2 + s + n, edges, groups, first=0, last=1, seed=seed)
    assert xy[:2].tolist() == [[0, 0.5], [ASPECT, 0.5]]
    assert (xy >= 0).all() and (xy <= [ASPECT, 1.0]).all()
    distance = np.hypot(*(xy[:, None] - xy[None]).transpose(2, 0, 1))
    assert (distance + 9 * np.eye(len(xy)) > 0.75 * LEAST).all()
    assert (xy == place(2 + s + n, edges, groups, first=0, last=1, seed=seed)).all()


def test_springs_decide_the_places() -> None:
    near = [(0, 2, 5.0), (1, 3, 5.0)]  # node 2 hangs on the left end, node 3 on the right
    xy = place(4, near, [[2, 3]], first=0, last=1)
    assert xy[2, 0] == pytest.approx(END, abs=0.1)
    assert xy[3, 0] == pytest.approx(ASPECT - END, abs=0.1)
