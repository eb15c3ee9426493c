"""Users by the beginning of their ids, items by id or title."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from pyg_kd.retrieval import Ids
from pyg_kd.retrieval.service.page import Models
from pyg_kd.retrieval.service.page.lookup import Titles, fold, starting_with
from tests.retrieval.service.page_models import (
    HOSTILE,
    ask,
    client_of,
    make_models,
)


@pytest.fixture(scope="module")
def models() -> Models:
    return make_models()


@pytest.fixture
def client(models: Models) -> Iterator[TestClient]:
    with client_of(models) as client:
        yield client


@pytest.mark.parametrize("values", [None, [31, -3, 3, 304, 12], ["31", "", "3", "Ü3", "303"]])
@pytest.mark.parametrize("start", ["", "3", "-", "30", "Ü", "4"])
def test_ids_that_begin_with_a_text(values: Any, start: str) -> None:
    ids = Ids(values, 500 if values is None else None)
    listed = [str(value) for value in ids.take(np.arange(len(ids))).tolist()]
    wanted = [row for row, text in enumerate(listed) if text.startswith(start)]
    wanted.sort(key=lambda row: (not start or listed[row] != start, row))
    for limit in (0, 1, 3, 1000):
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
