from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyg_kd.retrieval.service.ranking import recommend
from pyg_kd.retrieval.service.refused import Refused
from pyg_kd.retrieval.service.requests import Recommend
from pyg_kd.retrieval.service.served import Served
from tests.retrieval.service.conftest import IDS, ITEMS, SEEN, USERS, make_index

FILTERS = {"even": range(0, ITEMS, 2), "low": range(5)}
UNAVAILABLE = [2, 9]

ASKS = st.fixed_dictionaries(
    {"k": st.integers(1, ITEMS + 3)},
    optional={
        "exclude": st.lists(st.integers(-1, ITEMS + 1), max_size=4),
        "candidates": st.lists(st.integers(-1, ITEMS + 1), max_size=6),
        "filters": st.lists(st.sampled_from(sorted(FILTERS)), max_size=2),
        "exclude_seen": st.booleans(),
    },
).flatmap(
    lambda rest: st.one_of(
        st.integers(-1, USERS + 1).map(lambda user: {"user": user, **rest}),
        st.lists(st.integers(-1, ITEMS + 1), max_size=4).map(lambda h: {"history": h, **rest}),
    )
)


def _names(kind: str, what: str, rows: list[int]) -> list:
    """The ids of rows; rows that do not exist become ids that are unknown."""
    known = IDS[kind].get(f"{what}_ids")
    size = {"user": USERS, "item": ITEMS}[what]
    inside = (lambda row: row) if known is None else (lambda row: np.asarray(known)[row].tolist())
    unknown = "?" if kind == "text" else -999
    return [inside(row) if 0 <= row < size else unknown for row in rows]


def _expected(index, ask: dict) -> tuple[list[int], str, int]:
    """One request at a time, item by item: rows, source, unknown items."""
    seen = SEEN.get(ask.get("user"), [])
    known = [row for row in ask.get("history", []) if 0 <= row < ITEMS]
    source = "model"
    if "history" in ask:
        seen, source = known, "folded"
        query = index.fold_in(np.array([0, len(set(known))]), np.unique(known).astype(int))[0]
    elif 0 <= ask["user"] < USERS:
        query = index.x_user.rows(np.array([ask["user"]]))[0]
    scores = index.popularity
    if seen:
        scores = index.x_item.block(0, ITEMS).astype(np.float64) @ query.astype(np.float64)
    else:
        source = "popular"
    left = set(range(ITEMS)) - set(UNAVAILABLE) - set(ask.get("exclude", []))
    left &= set(ask.get("candidates", range(ITEMS)))
    for name in ask.get("filters", []):
        left &= set(FILTERS[name])
    if ask.get("exclude_seen", True):
        left -= set(seen)
    order = sorted(left, key=lambda row: (-np.float32(scores[row]), row))[: ask["k"]]
    return order, source, len(ask.get("history", [])) - len(known)


@pytest.mark.parametrize("kind", sorted(IDS))
@given(asks=st.lists(ASKS, min_size=1, max_size=6))
def test_a_batch_is_answered_as_one_by_one(kind, asks):
    index = make_index(kind)
    index.set_unavailable(_names(kind, "item", UNAVAILABLE))
    for name, rows in FILTERS.items():
        index.add_filter(name, _names(kind, "item", list(rows)))
    requests = []
    for ask in asks:
        told = dict(ask)
        if "user" in ask:
            told["user"] = _names(kind, "user", [ask["user"]])[0]
        for field in ("history", "exclude", "candidates"):
            if field in ask:
                told[field] = _names(kind, "item", ask[field])
        requests.append(Recommend(**told))
    served = Served(index, "digest")
    for ask, found in zip(asks, map(json.loads, recommend(served, requests)), strict=True):
        rows, source, unknown = _expected(index, ask)
        # Folded queries are no integers: equal scores may differ in their last bit.
        if source != "folded":
            assert [item["id"] for item in found["items"]] == _names(kind, "item", rows)
        else:
            assert len(found["items"]) == len(rows)
        assert (found["source"], found["unknown"], found["bundle"]) == (source, unknown, "digest")
        scores = [item["score"] for item in found["items"]]
        assert scores == sorted(scores, reverse=True)


def test_a_history_is_ranked_as_search_history_does():
    index = make_index("text")
    served = Served(index, "digest")
    ask = Recommend(history=["ü1", "?", "ü4", "ü4"], k=5)
    found = json.loads(recommend(served, [Recommend(user="u0"), ask])[1])
    items, scores = index.search_history(["ü1", "ü4"], k=5)
    assert [item["id"] for item in found["items"]] == items[0].tolist()
    np.testing.assert_allclose([item["score"] for item in found["items"]], scores[0], rtol=1e-5)
    assert found["unknown"] == 1


def test_requests_that_are_wrong_leave_the_others_of_their_batch_alone():
    served = Served(make_index("integer"), "digest")
    asks = [
        Recommend(user="anna"),
        Recommend(user=5, filters=["absent"]),
        Recommend(user=5, exclude=[1, "x"]),
        Recommend(user=5),
    ]
    *wrong, right = recommend(served, asks)
    assert [(error.status, error.field) for error in wrong] == [
        (422, "user"),
        (422, "filters"),
        (422, "exclude"),
    ]
    assert isinstance(right, bytes)


def test_without_popularity_nobody_unknown_is_answered():
    index = make_index(seen=None)
    unknown, known, nothing = recommend(
        Served(index, "digest"), [Recommend(user=77), Recommend(user=1), Recommend(history=[])]
    )
    assert isinstance(unknown, Refused) and (unknown.status, unknown.field) == (404, "user")
    assert isinstance(nothing, Refused) and (nothing.status, nothing.field) == (404, "history")
    items, _ = index.search([1])
    assert [item["id"] for item in json.loads(known)["items"]] == [i for i in items[0] if i >= 0]


def test_a_long_list_is_ranked_apart(monkeypatch):
    index, lengths = make_index(), []
    real = index.rank

    def rank(queries, k, **options):
        lengths.append((len(queries), k))
        return real(queries, k, **options)

    monkeypatch.setattr(index, "rank", rank)
    asks = [Recommend(user=0, k=k) for k in (5, 1000, 100, 101)]
    found = [json.loads(result)["items"] for result in recommend(Served(index, "digest"), asks)]
    assert sorted(lengths) == [(2, 100), (2, 1000)]
    assert found[0] == found[1][:5] and found[2] == found[1] == found[3]
