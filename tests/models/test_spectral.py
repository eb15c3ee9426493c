"""The spectral start, against a decomposition of the dense matrix."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.models import MF, MultVAE, NeuMF
from pyg_kd.models.spectral import spectral_embeddings, start_from_spectrum


def dense(data: HeteroData, shift: float) -> np.ndarray:
    """The scaled matrix of interactions, entry by entry."""
    seen = np.zeros((data["user"].num_nodes, data["item"].num_nodes))
    for user, item in data["user", "item"].edge_index.t().tolist():
        seen[user, item] = 1.0
    users, items = seen.sum(1) + shift, seen.sum(0) + shift
    return seen / np.sqrt(users)[:, None] / np.sqrt(items)


@pytest.fixture
def data() -> HeteroData:
    return SyntheticInteractions(None, num_users=40, num_items=30, num_edges=300)[0]


@pytest.mark.parametrize("shift", [0.0, 5.0])
def test_products_are_those_of_the_leading_vectors(data, shift) -> None:
    torch.manual_seed(0)
    found = spectral_embeddings(data, 4, shift=shift, std=0.2, num_rounds=40)
    left, value, right = np.linalg.svd(dense(data, shift))
    user, item = left[:, :4] * value[:4], right[:4].T * value[:4]
    scale = 0.2 / np.sqrt(np.mean(np.concatenate([user, item]) ** 2))
    expected = scale**2 * user @ item.T
    x_user, x_item = (x.double().numpy() for x in found)
    # Products, since every vector's sign is free.
    np.testing.assert_allclose(x_user @ x_item.T, expected, atol=1e-4 * np.abs(expected).max())
    np.testing.assert_allclose(
        x_user @ x_user.T, scale**2 * user @ user.T, atol=1e-4 * scale**2 * value[0] ** 2
    )


def test_two_matching_groups_are_told_apart() -> None:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 6, 4
    edges = [[u, i] for u in range(6) for i in range(4) if (u < 4) == (i < 2)]
    data["user", "interacts", "item"].edge_index = torch.tensor(edges).t().contiguous()
    x_user, x_item = spectral_embeddings(data, 2)
    scores = x_user @ x_item.t()
    inside = scores[data["user", "item"].edge_index.unbind()]
    assert inside.min() > 10 * scores.abs().sum().sub(inside.sum()).abs()


def test_columns_beyond_the_rank_are_random(data) -> None:
    torch.manual_seed(1)
    x_user, x_item = spectral_embeddings(data, 50)
    assert (x_user.shape, x_item.shape) == ((40, 50), (30, 50))
    assert 0.02 < x_user[:, 30:].std() < 0.5
    both = torch.cat([x_user, x_item])
    assert both.square().mean().sqrt().item() == pytest.approx(0.1)


def test_nodes_without_edges_are_random(data) -> None:
    data["user"].num_nodes, data["item"].num_nodes = 45, 33
    for shift in (0.0, 3.0):
        x_user, x_item = spectral_embeddings(data, 3, shift=shift)
        assert bool(x_user.isfinite().all())
        assert x_user[40:].abs().min() > 0
        assert 0.02 < x_item[30:].std() < 0.5


def test_the_generator_decides(data) -> None:
    first, second, third = (
        (torch.manual_seed(seed), spectral_embeddings(data, 3, num_rounds=0))[1]
        for seed in (0, 0, 1)
    )
    assert torch.equal(first[0], second[0])
    assert not torch.equal(first[0], third[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 0}, "'dim' must be a positive integer"),
        ({"shift": -1.0}, "'shift' must be 0 or more"),
        ({"std": 0.0}, "'std' must be positive"),
        ({"num_rounds": -1}, "'num_rounds' must be an integer of 0 or more"),
    ],
)
def test_bad_options(data, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        spectral_embeddings(data, **{"dim": 3} | options)


def test_a_graph_without_edges() -> None:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 2, 2
    data["user", "interacts", "item"].edge_index = torch.zeros(2, 0, dtype=torch.long)
    with pytest.raises(ValueError, match="'data' has no interactions"):
        spectral_embeddings(data, 2)


def test_a_model_starts_from_them(data) -> None:
    torch.manual_seed(0)
    expected = spectral_embeddings(data, 4)
    model = MF(data, 4)
    torch.manual_seed(0)
    assert start_from_spectrum(model, data) is model
    for found, x in zip((model.user_embedding, model.item_embedding), expected, strict=True):
        assert found.requires_grad and torch.equal(found.detach(), x)


def test_models_without_two_tables_are_refused(data) -> None:
    other = SyntheticInteractions(None, num_users=41, num_items=30, num_edges=300)[0]
    for model, graph in ((NeuMF(data, 4), data), (MultVAE(data, 4), data), (MF(data, 4), other)):
        with pytest.raises(ValueError, match="needs a model of two tables"):
            start_from_spectrum(model, graph)
