from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kd.models import KernelRidge, gram
from tests.models.small_graphs import SIZES, dense, graph


def oracle(data: HeteroData, shrinkage: float, power: float) -> np.ndarray:
    """The definition, with the matrix of the users."""
    X = dense(data)
    weight = np.array([degree**-power if degree else 0.0 for degree in X.sum(0)])
    K = X @ np.diag(weight) @ X.T
    penalty = shrinkage * np.trace(K) / len(K)
    return K @ np.linalg.inv(K + penalty * np.eye(len(K))) @ X


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize(("shrinkage", "power"), [(3.0, 0.5), (0.2, 0.0), (30.0, 1.3)])
@pytest.mark.parametrize("tile", [4, 256])
def test_scores_are_the_closed_form(sizes, shrinkage, power, tile, monkeypatch) -> None:
    monkeypatch.setattr(gram, "TILE", tile)
    data = graph(*sizes)
    model = KernelRidge(data, shrinkage, item_power=power)
    expected = oracle(data, shrinkage, power)
    x_user, x_item = model(data).values()
    for users, items in ((slice(None),) * 2, (slice(2, 5), slice(None)), (slice(None), [3, 1])):
        block = model.score_block(x_user[users], x_item[items]).numpy()
        np.testing.assert_allclose(block, expected[users][:, items], rtol=1e-4, atol=1e-5)
    assert model.weight.shape == (9, 9)


def test_rare_items_say_more() -> None:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 4, 6
    # User 0 shares the popular item 0 with user 1, and the rare item 1 with user 2.
    pairs = [(0, 0), (0, 1), (1, 0), (1, 2), (2, 1), (2, 3), (3, 0), (3, 4)]
    data["user", "interacts", "item"].edge_index = torch.tensor(pairs).t()
    scores = {}
    for power in (0.0, 1.0):
        model = KernelRidge(data, item_power=power)
        scores[power] = model.score_block(*model(data).values())[0]
    assert scores[0.0][3] == pytest.approx(float(scores[0.0][2]), rel=0.3)
    assert scores[1.0][3] > 1.5 * scores[1.0][2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shrinkage": 0.0}, "'shrinkage' must be positive .got 0.0"),
        ({"item_power": -1.0}, "'item_power' must be 0 or more"),
        ({"max_size": 8}, r"9 x 9 would have to be inverted, .*max_size=8"),
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


def test_repr() -> None:
    model = KernelRidge(graph(9, 14), 2.0)
    assert repr(model) == "KernelRidge(9, 14, shrinkage=2.0, item_power=0.5)"
