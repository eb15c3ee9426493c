"""A small graph and a teacher whose scores repeat often."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kd.models import MF
from pyg_kd.typing import INTERACTS


@pytest.fixture
def data() -> HeteroData:
    rng = np.random.default_rng(0)
    pairs = np.argwhere(rng.random((23, 31)) < 0.25)
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 23, 31
    data[INTERACTS].edge_index = torch.from_numpy(rng.permutation(pairs).T.copy())
    return data


@pytest.fixture
def teacher(data: HeteroData) -> MF:
    """Small whole numbers: the scores are exact, and many are equal."""
    model = MF(data, dim=3)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randint(-1, 2, weight.shape))
    return model
