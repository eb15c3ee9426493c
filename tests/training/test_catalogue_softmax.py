"""The loss of all items of a user, against a sum in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import HeteroData

from pyg_kd.models import MF
from pyg_kd.training import Trainer
from pyg_kd.training.catalogue_softmax import CatalogueSoftmax
from pyg_kd.typing import Batch

U, I, D = 6, 8, 3  # noqa: E741


def graph(edges: np.ndarray) -> HeteroData:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = U, I
    data["user", "interacts", "item"].edge_index = torch.from_numpy(edges)
    return data


def random_edges(seed: int, num: int = 20) -> np.ndarray:
    """Users 0 to 4 have items, some twice; user 5 has none, and user 0 all."""
    rng = np.random.default_rng(seed)
    drawn = np.stack([rng.integers(1, U - 1, num), rng.integers(0, I, num)])
    return np.concatenate([drawn, np.stack([np.zeros(I, int), np.arange(I)])], 1)


def batch_of(users: list[int]) -> Batch:
    user = torch.tensor(users)
    return Batch(user, torch.zeros_like(user), torch.zeros_like(user))


def oracle(x, edges, users, items, *, temperature, own, balance, cosine) -> float:
    """User by user, item by item. What is sampled counts for what is not."""
    x_user, x_item = (x[key].detach().double().numpy() for key in ("user", "item"))
    if cosine:
        x_user, x_item = (t / np.linalg.norm(t, axis=1, keepdims=True) for t in (x_user, x_item))
    total = 0.0
    for u in set(users):
        mine = sorted({int(i) for v, i in edges.T if v == u})
        score = x_item @ x_user[u] / temperature
        others = [j for j in items if own == "push" or j not in mine]
        log_sum = np.log(np.exp(score[others]).sum() * I / len(items)) if others else 0.0
        total += sum(log_sum - score[i] for i in mine) / max(len(mine), 1) ** balance
    return total


@settings(deadline=None)
@given(
    seed=st.integers(0, 1_000),
    users=st.lists(st.integers(0, U - 1), min_size=1, max_size=8),
    own=st.sampled_from(["mask", "push"]),
    balance=st.sampled_from([0.0, 0.5, 1.0]),
    cosine=st.booleans(),
    temperature=st.sampled_from([0.1, 1.0]),
    num_items=st.sampled_from([None, 3, I, 99]),
)
def test_equals_the_sum_over_users(
    seed, users, own, balance, cosine, temperature, num_items
) -> None:
    generator, edges = torch.Generator().manual_seed(seed), random_edges(seed)
    x = {
        key: torch.randn(n, D, generator=generator, dtype=torch.double, requires_grad=True)
        for key, n in (("user", U), ("item", I))
    }
    options = {"temperature": temperature, "own": own, "balance": balance}
    loss = CatalogueSoftmax(num_items=num_items, normalize=cosine, **options)
    torch.manual_seed(seed)
    part = loss._draw(x["item"])
    items = list(range(I)) if part is None else part.tolist()
    assert len(set(items)) == min(num_items or I, I)
    torch.manual_seed(seed)
    found = loss(x, graph(edges), batch_of(users))
    expected = oracle(x, edges, users, items, cosine=cosine, **options)
    assert found.item() == pytest.approx(expected, rel=1e-5, abs=1e-5)
    found.backward()
    for key in x:
        assert bool(x[key].grad.isfinite().all())
    check_slope(x, found, lambda: oracle(x, edges, users, items, cosine=cosine, **options), seed)


def check_slope(x, loss, value, seed) -> None:
    """The gradient along a random direction is the slope of the oracle."""
    rng = np.random.default_rng(seed)
    ways = {key: torch.from_numpy(rng.normal(size=t.shape)) for key, t in x.items()}
    slope = sum(float((t.grad * ways[key]).sum()) for key, t in x.items())
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            for key, t in x.items():
                t.add_(ways[key], alpha=sign * 1e-6)
            values.append(value())
            for key, t in x.items():
                t.sub_(ways[key], alpha=sign * 1e-6)
    expected = (values[0] - values[1]) / 2e-6
    assert slope == pytest.approx(expected, rel=1e-3, abs=1e-3 * max(1.0, abs(loss.item())))


def test_every_item_is_drawn_equally_often() -> None:
    loss, x_item = CatalogueSoftmax(num_items=2), torch.zeros(I, D)
    torch.manual_seed(0)
    drawn = torch.cat([loss._draw(x_item) for _ in range(4_000)])
    counts = torch.bincount(drawn, minlength=I).double()
    assert ((counts - 1_000).abs() < 5 * (1_000 * (1 - 2 / I)) ** 0.5).all()


def test_the_trainer_gives_it_the_graph(train, val) -> None:
    torch.manual_seed(0)
    options = {"batch_by": "user", "batch_size": 16, "progress": False, "accelerator": "cpu"}
    model = MF(train, dim=8, init_std=0.1)
    loss = CatalogueSoftmax(temperature=0.2, num_items=20)
    history = Trainer(loss=loss, max_epochs=10, lr=0.02, **options).fit(model, train, val_data=val)
    assert history["loss"][-1] < history["loss"][0]
    assert max(history["recall@20"]) > history["recall@20"][0]


def test_a_checkpoint_knows_its_options(train, tmp_path) -> None:
    def fit(**options):
        torch.manual_seed(0)
        loss = CatalogueSoftmax(**options)
        trainer = Trainer(loss=loss, max_epochs=1, checkpoint_dir=tmp_path, progress=False)
        trainer.fit(MF(train, dim=4), train, resume=True)

    fit()
    for name, value in (("balance", 0.5), ("num_items", 7), ("own", "push"), ("temperature", 1.0)):
        with pytest.raises(ValueError, match=rf"another run: loss was .*{name}="):
            fit(**{name: value})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "'temperature' must be positive"),
        ({"num_items": 0}, "'num_items' must be a positive integer"),
        ({"own": "ignore"}, r"'own' must be one of .*'ignore'"),
        ({"balance": -0.5}, "'balance' must be 0 or more"),
    ],
)
def test_bad_options(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        CatalogueSoftmax(**options)
