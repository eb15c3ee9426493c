from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import HeteroData

from pyg_kd.models import EASE, SLIM, slim
from tests.models.small_graphs import SIZES, dense, graph


def neighbors(X: np.ndarray, i: int, k: int) -> list[int]:
    """The items most similar to one, with those as similar as the last of them."""
    degree = X.sum(0)
    cosine = np.array(
        [X[:, i] @ X[:, j] / np.sqrt(degree[i] * degree[j] or 1) for j in range(X.shape[1])]
    )
    cosine[i] = 0
    least = np.sort(cosine)[-k] if k < len(cosine) else 0
    return [j for j in range(len(cosine)) if cosine[j] > 0 and cosine[j] >= least - 1e-12]


def oracle(data: HeteroData, k: int, c: float, p: float, q: float) -> np.ndarray:
    """A ridge regression for every item, as least squares with the penalty as further rows."""
    X = dense(data)
    users, items = np.maximum(X.sum(1), 1) ** -q, np.maximum(X.sum(0), 1)
    penalty = c * np.mean([(users * X[:, j]).sum() * items[j] ** -p for j in range(X.shape[1])])
    W = np.zeros((X.shape[1], X.shape[1]))
    for i in range(X.shape[1]):
        near = neighbors(X, i, k)
        ridge = np.diag(np.sqrt(penalty * items[near] ** p))
        A = np.concatenate([np.sqrt(users)[:, None] * X[:, near], ridge])
        y = np.concatenate([np.sqrt(users) * X[:, i], np.zeros(len(near))])
        W[near, i] = np.linalg.lstsq(A, y, rcond=None)[0]
    return X @ W


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("options", [(3, 3.0, 0.5, 0.0), (2, 0.2, 0.0, 0.7), (100, 10.0, 1.2, 0.5)])
def test_every_item_is_regressed_on_its_neighbours(sizes, options) -> None:
    data = graph(*sizes)
    k, c, p, q = options
    model = SLIM(data, k, shrinkage=c, item_power=p, user_power=q)
    expected = oracle(data, *options)
    x_user, x_item = model(data).values()
    for users, items in ((slice(None),) * 2, (slice(2, 5), slice(None)), (slice(None), [3, 1])):
        block = model.score_block(x_user[users], x_item[items]).numpy()
        np.testing.assert_allclose(block, expected[users][:, items], rtol=1e-4, atol=1e-5)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 5)), min_size=1, max_size=30),
    st.integers(1, 7),
    st.integers(1, 60),
    st.sampled_from([0, 100]),
)
def test_any_graph_in_any_blocks(pairs, k, limit, factor) -> None:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 7, 6
    edges = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).t()
    data["user", "interacts", "item"].edge_index = edges.contiguous()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slim, "MAX_ENTRIES", limit)
        patch.setattr(slim, "MAX_DENSE", limit)
        patch.setattr(slim, "FACTOR", factor)
        model = SLIM(data, k)
    found = model.score_block(*model(data).values()).numpy()
    np.testing.assert_allclose(found, oracle(data, k, 3.0, 0.5, 0.0), rtol=1e-4, atol=1e-5)


def test_all_neighbours_and_no_powers_are_ridge_without_oneself() -> None:
    # What EASE solves, where every two items share users.
    data = graph(60, 8)
    model = SLIM(data, 100, shrinkage=2.0, item_power=0.0)
    mean = dense(data).sum() / 8
    expected = EASE(data, 2.0 * mean).score_block(*model(data).values())
    torch.testing.assert_close(
        model.score_block(*model(data).values()), expected, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_neighbors": 0}, "'num_neighbors' must be a positive integer .got 0"),
        ({"shrinkage": 0.0}, "'shrinkage' must be positive .got 0.0"),
        ({"item_power": -1.0}, "'item_power' must be 0 or more"),
        ({"user_power": -1.0}, "'user_power' must be 0 or more"),
    ],
)
def test_bad_options(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        SLIM(graph(9, 14), **options)


def test_a_graph_without_edges() -> None:
    data = graph(9, 14)
    data["user", "interacts", "item"].edge_index = torch.empty(2, 0, dtype=torch.long)
    with pytest.raises(ValueError, match="no interactions to learn from"):
        SLIM(data)


def test_a_penalty_too_small_for_float32() -> None:
    data = graph(9, 14)
    edges = torch.cartesian_prod(torch.arange(9), torch.arange(13)).t()
    data["user", "interacts", "item"].edge_index = edges.contiguous()
    SLIM(data, shrinkage=1e-2)
    with pytest.raises(ValueError, match=r"'shrinkage' is too small .* \(got 1e-30\)"):
        SLIM(data, shrinkage=1e-30)


def test_repr() -> None:
    text = "SLIM(9, 14, num_neighbors=5, shrinkage=2.0, item_power=0.5, user_power=0.0)"
    assert repr(SLIM(graph(9, 14), 5, shrinkage=2.0)) == text
