"""A small graph with knowledge, and a record of what is drawn at random."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.knowledge.requirements import graph_fingerprint
from pyg_kd.typing import INTERACTS, Batch


@pytest.fixture
def double() -> Iterator[None]:
    """Everything that is made in the test is float64, parameters of methods too."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.double)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def problem(double: None) -> SimpleNamespace:
    """25 users, 60 items, a teacher of width 10 with lists of 30, a student of width 4."""
    rng = np.random.default_rng(0)
    pairs = np.argwhere(rng.random((25, 60)) < 0.1)
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 25, 60
    data[INTERACTS].edge_index = torch.from_numpy(pairs.T.copy())
    seen = {u: set(pairs[pairs[:, 0] == u, 1].tolist()) for u in range(25)}
    ranked = np.stack(
        [rng.permutation([i for i in range(60) if i not in seen[u]])[:30] for u in range(25)]
    )
    data["user"].teacher_x, data["item"].teacher_x = torch.randn(25, 10), torch.randn(60, 10)
    data["user"].teacher_items = torch.from_numpy(ranked).to(torch.int32)
    data.graph_fingerprint = graph_fingerprint(data)
    chosen = rng.choice(len(pairs), 16, replace=False)
    batch = Batch(*torch.from_numpy(pairs[chosen].T.copy()), torch.randint(60, (16,)))
    x_dict = {t: torch.randn(data[t].num_nodes, 4, requires_grad=True) for t in ("user", "item")}
    return SimpleNamespace(graph=data, batch=batch, x_dict=x_dict, seen=seen, ranked=ranked, dim=4)


@pytest.fixture
def exponential_draws(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Every sample of an exponential distribution, made of a uniform one, in order."""
    drawn: list[np.ndarray] = []
    original = torch.rand_like

    def recorded(x: Tensor) -> Tensor:
        out = original(x)
        drawn.append(-np.log(out.double().numpy()))
        return out

    monkeypatch.setattr(torch, "rand_like", recorded)
    return drawn
