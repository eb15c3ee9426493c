from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kd.models.multi_branch.losses import Observed, branch_losses
from pyg_kd.typing import INTERACTS, Batch

USERS, ITEMS = 5, 7
NAMES = ("bpr", "cml", "bce", "mse", "multinomial", "item_multinomial")
#: User 4 has no edge, items 5 and 6 have none.
EDGES = torch.tensor([[3, 0, 0, 1, 2, 3, 3, 1], [0, 1, 4, 2, 2, 4, 3, 0]])


def graph(edges: torch.Tensor = EDGES) -> HeteroData:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = USERS, ITEMS
    data[INTERACTS].edge_index = edges
    return data


def oracle(
    name: str, user: np.ndarray, item: np.ndarray, batch: Batch, with_negatives: bool = False
) -> float:
    scores = user @ item.T
    if name == "cml":
        scores = -((user[:, None] - item[None]) ** 2).sum(2)
    own = EDGES.t().tolist()
    if name == "multinomial":
        users = set(batch.user.tolist())
        lse = np.log(np.exp(scores).sum(1))
        return sum(lse[u] - scores[u, i] for u, i in own if u in users)
    if name == "item_multinomial":
        items = set(batch.positive.tolist())
        if with_negatives:
            items |= set(batch.negative.flatten().tolist())
        lse = np.log(np.exp(scores).sum(0))
        return sum(lse[i] - scores[u, i] for u, i in own if i in items)
    total = 0.0
    negatives = batch.negative.view(len(batch), -1).tolist()
    for u, p, ns in zip(batch.user.tolist(), batch.positive.tolist(), negatives, strict=True):
        positive = scores[u, p]
        total += {"bce": np.log1p(np.exp(-positive)), "mse": (1 - positive) ** 2}.get(name, 0)
        for n in ns:
            negative = scores[u, n]
            total += {
                "bpr": np.log1p(np.exp(negative - positive)),
                "cml": max(0.0, 1 - positive + negative),
                "bce": np.log1p(np.exp(negative)),
                "mse": negative**2,
            }[name]
    return total


Vectors = list[tuple[torch.Tensor, torch.Tensor]]


def draw() -> Vectors:
    """Vectors of all users and items for each head."""
    return [
        tuple(torch.randn(n, d, dtype=torch.double, requires_grad=True) for n in (USERS, ITEMS))
        for d in (3, 2, 3, 2, 4, 3)
    ]


def losses_of(vectors: Vectors, batch: Batch, **options: bool) -> torch.Tensor:
    rows = [
        (
            user if name == "item_multinomial" else user[batch.unique_users],
            item if name == "multinomial" else item[batch.unique_items],
        )
        for name, (user, item) in zip(NAMES, vectors, strict=True)
    ]
    return branch_losses(NAMES, rows, batch, Observed.of(graph()), **options)


@pytest.mark.parametrize("num_negatives", [None, 1, 3])
def test_against_the_definitions(num_negatives: int | None) -> None:
    user, positive = torch.tensor([[0, 3, 3, 0, 1], [1, 0, 4, 1, 2]])
    shape = (5,) if num_negatives is None else (5, num_negatives)
    batch, vectors = Batch(user, positive, torch.randint(ITEMS, shape)), draw()
    losses = losses_of(vectors, batch)
    losses.sum().backward()
    rng = np.random.default_rng(0)
    for name, pair, loss in zip(NAMES, vectors, losses.tolist(), strict=True):
        values = [v.detach().numpy() for v in pair]
        assert loss == pytest.approx(oracle(name, *values, batch), rel=1e-10)
        for _ in range(3):  # in random directions
            steps = [1e-6 * rng.standard_normal(v.shape) for v in values]
            high, low = (
                oracle(name, *(v + s * d for v, d in zip(values, steps, strict=True)), batch)
                for s in (1, -1)
            )
            slope = sum((v.grad.numpy() * d).sum() for v, d in zip(pair, steps, strict=True))
            assert slope == pytest.approx((high - low) / 2, rel=1e-5)


@pytest.mark.parametrize("num_negatives", [None, 2])
def test_items_of_the_reference_are_those_of_the_whole_batch(num_negatives: int | None) -> None:
    # Item 3 is a negative alone, and has an edge; item 6 has none.
    negative = torch.tensor([6, 3, 3]) if num_negatives is None else torch.tensor([[6, 3]] * 3)
    batch, vectors = Batch(torch.tensor([0, 3, 1]), torch.tensor([1, 0, 2]), negative), draw()
    losses = losses_of(vectors, batch, with_negatives=True)
    for name, pair, loss in zip(NAMES, vectors, losses.tolist(), strict=True):
        values = [v.detach().numpy() for v in pair]
        assert loss == pytest.approx(oracle(name, *values, batch, with_negatives=True), rel=1e-10)
    assert losses[-1] > 1.01 * losses_of(vectors, batch)[-1]


def test_observed() -> None:
    observed = Observed.of(graph())
    sides = (observed.by_user, EDGES, USERS), (observed.by_item, EDGES.flip(0), ITEMS)
    for csr, (row, col), size in sides:
        assert csr.ptr.dtype == csr.col.dtype == torch.int32 and len(csr.ptr) == size + 1
        for r in range(size):
            found = csr.col[csr.ptr[r] : csr.ptr[r + 1]].tolist()
            assert sorted(found) == sorted(col[row == r].tolist())
    assert observed.num_visits == EDGES.size(1)


def test_a_repeated_interaction_counts_once_and_is_visited_each_time() -> None:
    once, twice = (Observed.of(graph(e)) for e in (EDGES, torch.cat([EDGES, EDGES[:, 2:5]], 1)))
    for side in ("by_user", "by_item"):
        assert all(map(torch.equal, getattr(once, side), getattr(twice, side)))
    assert twice.num_visits == once.num_visits + 3
