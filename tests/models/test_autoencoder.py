from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kd.functional.edge_scores import with_ones
from pyg_kd.functional.sparse import row_matmul
from pyg_kd.models.autoencoder import Rows

#: User 3 and item 2 are isolated, and (0, 1) comes twice.
EDGES = torch.tensor([[2, 0, 0, 1, 0, 2], [3, 1, 0, 1, 1, 4]])
DENSE = np.array([[1, 1, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0, 1, 1], [0, 0, 0, 0, 0]], float)


def graph() -> HeteroData:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = DENSE.shape
    data["user", "interacts", "item"].edge_index = EDGES
    return data


@pytest.mark.parametrize(("node_type", "dense"), [("user", DENSE), ("item", DENSE.T)])
def test_rows_of_both_sides(node_type, dense):
    rows = Rows.of(graph(), node_type)
    length = np.sqrt((dense**2).sum(1, keepdims=True))
    unit = dense / np.where(length > 0, length, 1)
    table = torch.eye(dense.shape[1])
    index = torch.tensor([3, 0, 3, 1])
    np.testing.assert_allclose(rows.layer(index, table), unit[index], rtol=1e-6)
    np.testing.assert_array_equal(row_matmul(rows.observed, index, table), dense[index])


def test_entries_are_left_out_with_the_chance_asked_for():
    count, p = 20_000, 0.3
    edges = torch.stack([torch.zeros(count, dtype=torch.long), torch.arange(count)])
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 1, count
    data["user", "interacts", "item"].edge_index = edges
    rows = Rows.of(data, "user")
    table = torch.ones(count, 2, requires_grad=True)
    torch.manual_seed(0)
    rows.layer(torch.tensor([0]), table, p).sum().backward()
    # The gradient shows each entry: none, or scaled up so that its mean stays.
    kept = table.grad[:, 0] > 0
    expected = torch.full((int(kept.sum()), 2), 1 / (1 - p) / count**0.5)
    torch.testing.assert_close(table.grad[kept], expected, rtol=1e-4, atol=0)
    assert kept.sum().item() == pytest.approx(0.7 * count, abs=5 * (count * p * (1 - p)) ** 0.5)
    first = rows.layer(torch.tensor([0]), table, p)
    assert not torch.equal(first, rows.layer(torch.tensor([0]), table, p))


def test_a_column_of_ones():
    assert with_ones(torch.zeros(2, 1)).tolist() == [[0.0, 1.0], [0.0, 1.0]]
    assert with_ones(torch.zeros(2, 1, dtype=torch.double)).dtype == torch.double
