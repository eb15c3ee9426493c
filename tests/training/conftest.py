from __future__ import annotations

import copy

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.knowledge import extract_knowledge
from pyg_kd.models import LightGCN
from pyg_kd.transforms import UserSplit


@pytest.fixture(scope="session")
def _parts() -> tuple[HeteroData, HeteroData, HeteroData]:
    dataset = SyntheticInteractions(num_users=60, num_items=50, num_edges=700, num_groups=4)
    return UserSplit(val=0.15, test=0.1)(dataset[0])


@pytest.fixture(scope="session")
def _graph(_parts) -> HeteroData:
    torch.manual_seed(0)
    return extract_knowledge(LightGCN(_parts[0], dim=12), _parts[0], num_items=25)


@pytest.fixture
def train(_parts) -> HeteroData:
    """A training graph without knowledge; every test has its own copy."""
    return copy.copy(_parts[0])


@pytest.fixture
def val(_parts) -> HeteroData:
    """The same graph with validation targets."""
    return copy.copy(_parts[1])


@pytest.fixture
def graph(_graph) -> HeteroData:
    """The training graph with the knowledge of a teacher."""
    return copy.copy(_graph)
