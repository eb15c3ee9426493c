from __future__ import annotations

import numpy as np
import pytest
import torch

from pyg_kd.models import EASE, gram
from tests.models.small_graphs import SIZES, dense, graph


def oracle(X: np.ndarray, l2: float) -> np.ndarray:
    """The paper's closed form, with the matrix of the items."""
    P = np.linalg.inv(X.T @ X + l2 * np.eye(X.shape[1]))
    B = np.eye(X.shape[1]) - P / np.diag(P)
    assert np.allclose(np.diag(B), 0)
    return X @ B


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("l2", [0.5, 20.0])
@pytest.mark.parametrize("tile", [4, 256])
def test_scores_are_the_closed_form(sizes, l2, tile, monkeypatch):
    monkeypatch.setattr(gram, "TILE", tile)
    data = graph(*sizes)
    model, expected = EASE(data, l2), oracle(dense(data), l2)
    x_user, x_item = model(data).values()
    for users, items in ((slice(None),) * 2, (slice(2, 5), slice(None)), (slice(None), [3, 1])):
        block = model.score_block(x_user[users], x_item[items]).numpy()
        np.testing.assert_allclose(block, expected[users][:, items], rtol=1e-4, atol=1e-5)
    assert model.weight.shape == (9, 9)


@pytest.mark.parametrize("sizes", SIZES)
def test_pairs(sizes):
    data = graph(*sizes)
    edge_index = torch.tensor([[8, 0, 4, 8, 3], [0, 6, 2, 5, 0]])
    model, expected = EASE(data, 2.0), oracle(dense(data), 2.0)
    scores = model.score(model(data), edge_index).numpy()
    expected = expected[edge_index[0], edge_index[1]]
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)


def test_it_minimises_what_the_paper_minimises():
    # For each item a ridge regression on the other items, solved without the closed form.
    X, l2 = dense(graph(*SIZES[0])), 3.0
    scores = EASE(graph(*SIZES[0]), l2)
    found = scores.score_block(*scores(graph(*SIZES[0])).values()).numpy()
    for item in range(X.shape[1]):
        others = np.delete(X, item, axis=1)
        gram = others.T @ others + l2 * np.eye(others.shape[1])
        weight = np.linalg.solve(gram, others.T @ X[:, item])
        np.testing.assert_allclose(found[:, item], others @ weight, rtol=1e-4, atol=1e-5)


def test_a_matrix_that_is_too_large():
    data = graph(30, 40)
    message = r"30 users and 40 items: a matrix of 30 x 30 .* inverted, 0.0 GiB \(max_size=29"
    with pytest.raises(ValueError, match=message):
        EASE(data, max_size=29)
    assert EASE(data, max_size=30).weight.shape == (30, 30)
    data["user"].num_nodes = data["item"].num_nodes = 60_000
    with pytest.raises(ValueError, match=r"13.4 GiB \(max_size=20000, 1.5 GiB, can be raised\)"):
        EASE(data)


def test_options_and_name():
    data = graph(*SIZES[0])
    assert repr(EASE(data, l2=2.5)) == "EASE(9, 14, l2=2.5)"
    for l2 in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=rf"'l2' must be positive \(got {l2}\)"):
            EASE(data, l2)
    model = EASE(data)
    assert (model.l2, model.out_dim, model.latent, model.inner_product) == (250.0, 1, False, False)
    with pytest.raises(ValueError, match=r"'max_size' must be a positive integer \(got '9'\)"):
        EASE(data, max_size="9")


def test_a_penalty_too_small_for_float32():
    data = graph(*SIZES[0])
    # All users like the same: of rank one, the matrix is inverted by the penalty alone.
    users, items = data["user"].num_nodes, data["item"].num_nodes
    edges = torch.cartesian_prod(torch.arange(users), torch.arange(items - 1)).t()
    data["user", "item"].edge_index = edges.contiguous()
    assert EASE(data, 1e-2).weight.isfinite().all()
    with pytest.raises(ValueError, match=r"'l2' is too small for this graph: .*\(got 1e-30\)"):
        EASE(data, 1e-30)
