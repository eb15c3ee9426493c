from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import HeteroData

from pyg_kd.functional import co_interactions
from pyg_kd.models import ItemKNN, UserKNN
from tests.models.small_graphs import SIZES, dense, graph


def similarities(X: np.ndarray, k: int, h: float, p: float, q: float) -> np.ndarray:
    """Of the rows of X, those of neighbours only: entry by entry, by the definition."""
    degree, other = X.sum(1), X.sum(0)
    S = np.zeros((len(X), len(X)))
    for i in range(len(X)):
        for j in range(len(X)):
            both = np.flatnonzero(X[i] * X[j])
            if i != j and len(both):
                S[i, j] = (other[both] ** -q).sum() / ((degree[i] * degree[j]) ** p + h)
        if len(X) > k:
            S[i, S[i] < np.sort(S[i])[-k] - 1e-12] = 0
    return S


def oracle(cls: type, data: HeteroData, k: int, h: float, p: float, q: float) -> np.ndarray:
    X = dense(data)
    if cls is ItemKNN:
        return X @ similarities(X.T, k, h, p, q).T
    return similarities(X, k, h, p, q) @ X


def fitted(cls: type, data: HeteroData, k: int, h: float, p: float, q: float):
    return cls(data, k, shrinkage=h, power=p, other_power=q)


@pytest.mark.parametrize("cls", [ItemKNN, UserKNN])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("options", [(3, 0.0, 0.5, 0.0), (2, 5.0, 0.5, 0.5), (100, 0.5, 0.2, 1.0)])
def test_scores_are_the_definition(cls, sizes, options) -> None:
    data = graph(*sizes)
    model, expected = fitted(cls, data, *options), oracle(cls, data, *options)
    x_user, x_item = model(data).values()
    whole = model.score_block(x_user, x_item).numpy()
    np.testing.assert_allclose(whole, expected, rtol=1e-5, atol=1e-6)
    for users, items in ((slice(2, 5), slice(None)), (slice(None), [3, 1, 3]), ([0, 7], [8])):
        block = model.score_block(x_user[users], x_item[items]).numpy()
        np.testing.assert_allclose(block, expected[users][:, items], rtol=1e-5, atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from([ItemKNN, UserKNN]),
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 5)), min_size=0, max_size=30),
    st.integers(1, 7),
)
def test_any_graph(cls, pairs, k) -> None:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 7, 6
    edges = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).t()
    data["user", "interacts", "item"].edge_index = edges.contiguous()
    model = fitted(cls, data, k, 0.0, 0.5, 0.5)
    found = model.score_block(*model(data).values()).numpy()
    np.testing.assert_allclose(found, oracle(cls, data, k, 0.0, 0.5, 0.5), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cls", [ItemKNN, UserKNN])
def test_blocks_change_nothing(cls, monkeypatch) -> None:
    data = graph(30, 40)
    whole = fitted(cls, data, 5, 1.0, 0.5, 0.5)
    monkeypatch.setattr(co_interactions, "MIN_PATHS", 1)
    monkeypatch.setattr(co_interactions, "MAX_PATHS", 50)
    parts = fitted(cls, data, 5, 1.0, 0.5, 0.5)
    assert all(map(torch.equal, whole.buffers(), parts.buffers()))


def test_equally_near_neighbours_all_count() -> None:
    # Four users with one item each beside the shared one: as neighbours they are equal.
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 4, 5
    pairs = [(u, i) for u in range(4) for i in (0, u + 1)]
    data["user", "interacts", "item"].edge_index = torch.tensor(pairs).t()
    scores = UserKNN(data, 1).score_block(*UserKNN(data, 1)(data).values())
    assert torch.equal(scores[0, 2:], scores[0, 2:3].expand(3)) and scores[0, 2] > 0


@pytest.mark.parametrize("cls", [ItemKNN, UserKNN])
def test_bad_options(cls) -> None:
    data = graph(9, 14)
    with pytest.raises(ValueError, match=r"'num_neighbors' must be a positive integer .got 0"):
        cls(data, 0)
    for name in ("shrinkage", "power", "other_power"):
        with pytest.raises(ValueError, match=rf"'{name}' must be 0 or more .got -1"):
            cls(data, **{name: -1})


def test_names() -> None:
    options = "num_neighbors=7, shrinkage=2.0, power=0.4, other_power=0.1)"
    for cls in (ItemKNN, UserKNN):
        model = fitted(cls, graph(9, 14), 7, 2.0, 0.4, 0.1)
        assert repr(model) == f"{cls.__name__}(9, 14, {options}"
