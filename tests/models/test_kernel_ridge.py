from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kd.functional.sparse import CSR
from pyg_kd.graph import interactions
from pyg_kd.models import KernelRidge, gram, kernel_ridge, low_rank
from tests.models.small_graphs import SIZES, dense, graph


def parts(data: HeteroData, c: float, p: float, q: float, s: float):
    """Profiles, the matrix of the items, the penalty, and how items are scaled in the end."""
    X = dense(data)
    users, items = (np.maximum(X.sum(axis), 1) for axis in (1, 0))
    Y = X * items ** (-p / 2) * users[:, None] ** (-q / 2)
    return X / items**s, Y.T @ Y, c * np.square(Y).sum() / len(X), items**s


def oracle(data: HeteroData, c: float, p: float, q: float, s: float) -> np.ndarray:
    """The definition, with the matrix of the items."""
    profiles, A, penalty, out = parts(data, c, p, q, s)
    return profiles @ A @ np.linalg.inv(A + penalty * np.eye(len(A))) * out


def fitted(data: HeteroData, c: float, p: float, q: float, s: float, **options) -> KernelRidge:
    return KernelRidge(data, c, item_power=p, user_power=q, score_power=s, **options)


OPTIONS = [(3.0, 0.5, 0.0, 0.25), (0.2, 0.0, 0.0, 0.0), (30.0, 1.3, 0.4, 0.1), (8.0, 0.7, 1.0, 0.9)]


def assert_scores(model: KernelRidge, data: HeteroData, expected: np.ndarray, tol: float) -> None:
    x_user, x_item = model(data).values()
    for users, items in ((slice(None),) * 2, (slice(2, 5), slice(None)), (slice(None), [3, 1, 3])):
        block = model.score_block(x_user[users], x_item[items]).numpy()
        np.testing.assert_allclose(block, expected[users][:, items], rtol=10 * tol, atol=tol)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("tile", [4, 256])
def test_scores_are_the_closed_form(sizes, options, tile, monkeypatch) -> None:
    monkeypatch.setattr(gram, "TILE", tile)
    monkeypatch.setattr(kernel_ridge, "TILE", tile)
    data = graph(*sizes)
    model = fitted(data, *options)
    assert_scores(model, data, oracle(data, *options), 1e-5)
    assert model.weight.shape == (9, 9)


@pytest.mark.parametrize("sizes", SIZES)
def test_without_further_powers_it_is_the_kernel_of_the_users(sizes) -> None:
    data = graph(*sizes)
    X = dense(data)
    K = X / np.maximum(X.sum(0), 1) ** 0.5 @ X.T
    penalty = 3 * np.trace(K) / len(K)
    expected = K @ np.linalg.inv(K + penalty * np.eye(len(K))) @ X
    assert_scores(fitted(data, 3.0, 0.5, 0.0, 0.25), data, expected, 1e-5)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("options", OPTIONS)
def test_all_eigenvectors_are_the_inverse(sizes, options) -> None:
    data = graph(*sizes)
    assert_scores(fitted(data, *options, rank=9), data, oracle(data, *options), 1e-4)


@pytest.mark.parametrize("sizes", [(30, 40), (40, 30)])
@pytest.mark.parametrize("options", OPTIONS[2:])
def test_a_few_eigenvectors_and_a_line_for_the_rest(sizes, options) -> None:
    data = graph(*sizes)
    profiles, A, penalty, out = parts(data, *options)
    values, vectors = (found[..., ::-1][..., :6] for found in np.linalg.eigh(A))
    kappa = 1 / (penalty + (np.trace(A) - values.sum()) / 24)
    F = vectors * (values / (values + penalty) - kappa * values) @ vectors.T + kappa * A
    found = fitted(data, *options, rank=6)
    assert_scores(found, data, profiles @ F * out, 1e-4)
    exact, rough = oracle(data, *options), profiles @ F * out
    assert 0 < np.abs(rough - exact).max() < 0.1 * np.abs(exact).max()


def test_eigenpairs_of_a_spectrum_with_gaps() -> None:
    # Groups that share nothing, of sizes that differ: an eigenvector each.
    data = HeteroData()
    sizes = [9, 7, 5, 3, 2]
    data["user"].num_nodes = data["item"].num_nodes = sum(sizes)
    blocks, start = [], 0
    for size in sizes:
        members = torch.arange(start, start + size)
        blocks.append(torch.cartesian_prod(members, members))
        start += size
    edges = torch.cat(blocks).t().contiguous()
    data["user", "interacts", "item"].edge_index = edges
    sides = interactions(data).by_user(), interactions(data).by_item()
    rows, cols = (CSR(s.ptr.int(), s.col.int(), torch.ones(edges.size(1))) for s in sides)
    values, vectors = low_rank.leading_eigenpairs(rows, cols, 3)
    np.testing.assert_allclose(values.numpy(), [81, 49, 25], rtol=1e-4)
    for vector, start, size in zip(vectors.t(), (0, 9, 16), sizes[:3], strict=True):
        expected = np.zeros(sum(sizes))
        expected[start : start + size] = size**-0.5
        np.testing.assert_allclose(vector.abs().numpy(), expected, atol=1e-4)


def test_rare_items_say_more() -> None:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 4, 6
    # User 0 shares the popular item 0 with user 1, and the rare item 1 with user 2.
    pairs = [(0, 0), (0, 1), (1, 0), (1, 2), (2, 1), (2, 3), (3, 0), (3, 4)]
    data["user", "interacts", "item"].edge_index = torch.tensor(pairs).t()
    scores = {}
    for power in (0.0, 1.0):
        model = KernelRidge(data, 3.0, item_power=power, user_power=0.0, score_power=power / 2)
        scores[power] = model.score_block(*model(data).values())[0]
    assert scores[0.0][3] == pytest.approx(float(scores[0.0][2]), rel=0.3)
    assert scores[1.0][3] > 1.5 * scores[1.0][2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shrinkage": 0.0}, "'shrinkage' must be positive .got 0.0"),
        ({"item_power": -1.0}, "'item_power' must be 0 or more"),
        ({"user_power": -1.0}, "'user_power' must be 0 or more"),
        ({"score_power": -1.0}, "'score_power' must be 0 or more"),
        ({"rank": 10}, "'rank' must be at most 9, the smaller number .*got 10"),
        ({"rank": 0}, "'rank' must be a positive integer"),
        ({"max_size": 0}, "'max_size' must be a positive integer"),
    ],
)
def test_bad_options(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        KernelRidge(graph(9, 14), **options)


def test_a_graph_without_edges() -> None:
    data = graph(9, 14)
    data["user", "interacts", "item"].edge_index = torch.empty(2, 0, dtype=torch.long)
    with pytest.raises(ValueError, match="no interactions to learn from"):
        KernelRidge(data)


def test_the_size_decides() -> None:
    assert KernelRidge(graph(9, 14), max_size=9).rank is None
    assert KernelRidge(graph(9, 14), max_size=8).rank == 9


def test_repr() -> None:
    options = "shrinkage=2.0, item_power=0.7, user_power=0.5, score_power=0.2"
    assert repr(KernelRidge(graph(9, 14), 2.0)) == f"KernelRidge(9, 14, {options})"
    assert repr(KernelRidge(graph(9, 14), 2.0, rank=3)) == f"KernelRidge(9, 14, {options}, rank=3)"
