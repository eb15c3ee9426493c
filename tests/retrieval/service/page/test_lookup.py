"""Users by the beginning of their ids, items by id or title."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from pyg_kd.retrieval import Ids
from pyg_kd.retrieval.service.page.lookup import Titles, fold, starting_with
from tests.retrieval.service.page.page_models import (
    HOSTILE,
    ask,
)

numbers = st.one_of(st.integers(-400, 400), st.integers(-(2**63), 2**63 - 1))
letters = st.text("3ü-😀", max_size=4)


@given(
    values=st.one_of(
        st.none(),
        st.lists(numbers, unique=True, min_size=1, max_size=40),
        st.lists(letters, unique=True, min_size=1, max_size=40),
    ),
    start=st.one_of(
        numbers.map(str),
        st.sampled_from(["-", "0", "00", "-0", "+1", "٣", "9" * 30, "1 "]),
        letters,
    ),
    limit=st.integers(0, 50),
    cut=st.integers(0, 20),
)
def test_ids_that_begin_with_a_text(values: Any, start: str, limit: int, cut: int) -> None:
    start = start[: cut or None]
    ids = Ids(values, 300 if values is None else None)
    listed = ids.take(np.arange(len(ids))).tolist()
    wanted = [row for row, value in enumerate(listed) if str(value).startswith(start)]
    if ids.kind == "text" or not start:
        wanted.sort(key=lambda row: (not start or listed[row] != start, row))
    else:
        wanted.sort(key=lambda row: (start != "-" and len(str(listed[row])), abs(listed[row])))
    assert starting_with(ids, start, limit) == wanted[:limit]


words = st.text(st.sampled_from("abcÉé ’\n-İß"), max_size=8)


@given(titles=st.lists(words, min_size=1, max_size=12), query=words)
def test_titles_with_all_words(titles: list[str], query: str) -> None:
    found = Titles(titles, np.arange(len(titles))).search(query, 100)
    parts = fold(query).split()
    wanted = [
        row
        for row, title in enumerate(titles)
        if parts and all(part in fold(title) for part in parts)
    ]
    assert sorted(found) == wanted


def test_titles_are_ranked_by_how_they_match() -> None:
    titles = ["Upstart", "Star Trek", "A Star", "Star Wars", "Trek, Star"]
    search = Titles(titles, np.array([100, 5, 90, 7, 1])).search
    assert [titles[row] for row in search("star", 9)] == [
        "Star Wars", "Star Trek", "A Star", "Trek, Star", "Upstart",
    ]  # fmt: skip
    assert search("  ", 9) == []
    assert [titles[row] for row in search("trek STAR", 9)] == ["Trek, Star", "Star Trek"]


def test_names_may_go_by_ids_as_text() -> None:
    titles = Titles.of(Ids([7, 8, 9]), {"7": "Seven", 8: "Eight"}, np.zeros(3))
    assert [titles[row] for row in range(3)] == ["Seven", "Eight", "9"]


def test_suggestions(client: TestClient) -> None:
    found = ask(client, "items", q="amelie")["found"]
    assert [(one["id"], one["title"]) for one in found] == [("1004", "Amélie")]
    assert ask(client, "items", q="1007")["found"][0]["id"] == "1007"
    assert [one["title"] for one in ask(client, "items", q="<script>")["found"]] == [HOSTILE]
    popular = ask(client, "items")["found"]
    assert [one["count"] for one in popular] == sorted((o["count"] for o in popular), reverse=True)
    assert ask(client, "users", q=str(2**60 + 3))["found"][0]["id"] == str(2**60 + 3)
    assert ask(client, "users", draw=0.999)["found"][0]["id"] == str(2**60 + 29)
    assert len(ask(client, "users")["found"]) == 12
    assert ask(client, "users", q="x")["found"] == []
