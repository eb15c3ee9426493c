from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kd.functional import normalized_adjacency
from pyg_kd.models import GFCF, fitted

U, I = 6, 7  # noqa: E741
# User 5 and item 6 are isolated, and (0, 2) comes twice.
EDGES = torch.tensor([[0, 4, 0, 2, 1, 2, 0, 3, 1, 3, 2, 3], [2, 0, 3, 3, 2, 4, 2, 5, 0, 1, 0, 4]])


def graph(edge_index: torch.Tensor = EDGES) -> HeteroData:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = U, I
    data["user", "interacts", "item"].edge_index = edge_index
    return data


def oracle(rank: int, alpha: float, edges: torch.Tensor = EDGES, sizes=(U, I)) -> np.ndarray:
    """The formula with dense matrices."""
    R = np.zeros(sizes)
    R[edges[0], edges[1]] = 1
    d_user, d_item = R.sum(1), R.sum(0)

    def power(degree: np.ndarray, exponent: float) -> np.ndarray:
        return np.array([d**exponent if d else 0.0 for d in degree])

    Rn = np.diag(power(d_user, -0.5)) @ R @ np.diag(power(d_item, -0.5))
    V = np.linalg.svd(Rn)[2][:rank].T
    low_pass = np.diag(power(d_item, -0.5)) @ V @ V.T @ np.diag(power(d_item, 0.5))
    return R @ (Rn.T @ Rn + alpha * low_pass)


@pytest.mark.parametrize(("rank", "alpha"), [(1, 0.3), (3, 2.0), (5, 0.3), (2, 0.0)])
def test_scores_are_the_formula(rank, alpha):
    model = GFCF(graph(), rank, alpha=alpha)
    x_user, x_item = model(graph()).values()
    expected = oracle(rank, alpha)
    whole = model.score_block(x_user, x_item)
    np.testing.assert_allclose(whole.numpy(), expected, rtol=1e-5, atol=1e-6)
    # Fewer items than users: the signals are those of the items.
    few = model.score_block(x_user, x_item[2:4])
    np.testing.assert_allclose(few.numpy(), expected[:, 2:4], rtol=1e-5, atol=1e-6)


def test_more_users_than_items():
    edges = EDGES.flip(0)
    data = graph(edges)
    data["user"].num_nodes, data["item"].num_nodes = I, U
    found = GFCF(data, 3).score_block(*GFCF(data, 3)(data).values())
    expected = oracle(3, 0.3, edges, (I, U))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_pairs_over_several_blocks_of_users(monkeypatch):
    model = GFCF(graph(), 3)
    x_dict = model(graph())
    edge_index = torch.tensor([[5, 0, 3, 3, 1, 0, 3], [1, 6, 2, 2, 4, 0, 5]])
    expected = oracle(3, 0.3)[edge_index[0], edge_index[1]]
    for size in (1, 2, 256):
        monkeypatch.setattr(fitted, "BLOCK_USERS", size)
        scores = model.score(x_dict, edge_index)
        np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-5, atol=1e-6)
    assert model.score(x_dict, edge_index[:, :0]).shape == (0,)


def test_representations_are_numbers():
    model = GFCF(graph(), 3)
    x_dict = model(graph())
    assert x_dict["user"].tolist() == [[u] for u in range(U)]
    assert x_dict["item"].tolist() == [[i] for i in range(I)]
    assert (model.out_dim, model.latent, model.inner_product, model.trainable) == (1, *3 * [False])


def test_options_and_name():
    assert GFCF(graph()).dim == 5
    assert repr(GFCF(graph(), 2, alpha=0.5)) == "GFCF(6, 7, dim=2, alpha=0.5)"
    with pytest.raises(ValueError, match=r"'dim' must be below 6, .* \(got 6\)"):
        GFCF(graph(), 6)
    for alpha in (-0.1, float("nan")):
        with pytest.raises(ValueError, match=rf"'alpha' must be 0 or more \(got {alpha}\)"):
            GFCF(graph(), 2, alpha=alpha)
    with pytest.raises(TypeError, match=r"'alpha' must be a number \(got '0.3'\)"):
        GFCF(graph(), 2, alpha="0.3")
    with pytest.raises(ValueError, match="no interactions"):
        GFCF(graph(EDGES[:, :0]), 2)


def test_a_graph_of_one_user():
    data = graph(EDGES[:, EDGES[0] == 0])
    data["user"].num_nodes = 1
    with pytest.raises(
        ValueError, match=r"'data' must have at least two users and two items \(got 1\)"
    ):
        GFCF(data)


def test_a_loaded_state_leaves_the_graph_alone():
    data, edges = graph(), EDGES.clone()
    edges[1] = I - 1 - edges[1]
    model = GFCF(data, 2)
    before = [part.clone() for block in normalized_adjacency(data) for part in block]
    model.load_state_dict(GFCF(graph(edges), 2).state_dict())
    after = [part for block in normalized_adjacency(data) for part in block]
    assert all(map(torch.equal, before, after))
