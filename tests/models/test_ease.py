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


@pytest.mark.parametrize("sizes", SIZES)
def test_all_eigenvectors_are_the_inverse(sizes):
    data = graph(*sizes)
    model, expected = EASE(data, 3.0, rank=9), oracle(dense(data), 3.0)
    x_user, x_item = model(data).values()
    for users, items in ((slice(None),) * 2, (slice(2, 5), slice(None)), (slice(None), [3, 1, 3])):
        block = model.score_block(x_user[users], x_item[items]).numpy()
        np.testing.assert_allclose(block, expected[users][:, items], rtol=1e-3, atol=1e-4)


def test_a_few_eigenvectors_and_a_line_for_the_rest():
    data, l2 = graph(30, 40), 60.0
    X = dense(data)
    values, vectors = (found[..., ::-1][..., :5] for found in np.linalg.eigh(X.T @ X))
    kappa = 1 / (l2 + (X.sum() - values.sum()) / 25)
    F = vectors * (values / (values + l2) - kappa * values) @ vectors.T + kappa * X.T @ X
    P = np.eye(40) - F
    model = EASE(data, l2, rank=5)
    found = model.score_block(*model(data).values()).numpy()
    np.testing.assert_allclose(found, X - X @ P / np.diag(P), rtol=1e-3, atol=1e-4)
    exact = oracle(X, l2)
    assert 1e-4 < np.abs(found - exact).max() < 0.2 * np.abs(exact).max()


def test_the_size_decides():
    data = graph(30, 40)
    assert EASE(data, max_size=30).rank is None
    model = EASE(data, max_size=29)
    assert model.rank == 30 and repr(model) == "EASE(30, 40, l2=250.0, rank=30)"
    for rank, message in ((31, "'rank' must be at most 30, .*got 31"), (0, "positive integer")):
        with pytest.raises(ValueError, match=message):
            EASE(data, rank=rank)


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
