from __future__ import annotations

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kd.models.inference import represent


def graph() -> HeteroData:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 3, 2
    return data


def test_what_a_model_returns_is_returned():
    x_dict = {"user": torch.zeros(3, 4), "item": torch.ones(2, 4), "tag": None}
    assert represent(lambda data: x_dict, graph()) is x_dict


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        ((torch.zeros(3, 4), torch.zeros(2, 4)), TypeError, r"a dictionary .* \(got tuple\)"),
        ({"user": torch.zeros(3, 4)}, ValueError, r"no rep.* of 'item' \(got \['user'\]\)"),
        ({"user": [1.0], "item": torch.zeros(2, 4)}, TypeError, r"'user' must .* \(got list\)"),
        (
            {"user": torch.zeros(3, 4), "item": torch.zeros(3, 4)},
            ValueError,
            r"return 2 rep.* of 'item', \[2, d\] \(got \[3, 4\]\)",
        ),
        ({"user": torch.zeros(3), "item": torch.zeros(2, 4)}, ValueError, r"\(got \[3\]\)"),
        ({"user": torch.full((3, 4), torch.nan)}, ValueError, "'user' that are NaN"),
    ],
)
def test_what_is_no_representation(returned, error, message):
    with pytest.raises(error, match=message):
        represent(lambda data: returned, graph())
