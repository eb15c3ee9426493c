from __future__ import annotations

import pytest
from torch_geometric.data import HeteroData

from pyg_kd.datasets import SyntheticStream
from pyg_kd.study.refresh import NamedTeacher, Recipe, SoftLabelStudent
from pyg_kd.transforms import TimeBlocks, TimeStep


@pytest.fixture(scope="session")
def stream() -> HeteroData:
    """A stream in which users and items come later."""
    return SyntheticStream(num_users=120, num_items=90, num_edges=1_500, drift=2.0, swing=2.5)[0]


@pytest.fixture(scope="session")
def steps(stream: HeteroData) -> list[TimeStep]:
    return TimeBlocks(increments=3, probe=0.15)(stream)


@pytest.fixture(params=["als", "ease"])
def recipe(request: pytest.FixtureRequest) -> Recipe:
    """One teacher of vectors, and one of lists."""
    return Recipe(NamedTeacher(request.param), SoftLabelStudent(dim=4, epochs=3, tuning_epochs=2))
