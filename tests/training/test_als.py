from __future__ import annotations

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from pyg_kd import evaluate, extract_knowledge
from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.graph import Neighbors, interactions
from pyg_kd.models import MF, LightGCN
from pyg_kd.training import AlternatingLeastSquares
from pyg_kd.transforms import UserSplit


@pytest.fixture
def data():
    data = SyntheticInteractions(None, num_users=30, num_items=20, num_edges=200)[0]
    edges = data["user", "interacts", "item"].edge_index
    # One user and one item have no edge, and an edge comes twice.
    edges = edges[:, (edges[0] != 4) & (edges[1] != 6)]
    data["user", "interacts", "item"].edge_index = torch.cat([edges, edges[:, :1]], 1)
    return data


def dense(data) -> np.ndarray:
    P = np.zeros((30, 20))
    user, item = data["user", "item"].edge_index
    P[user, item] = 1
    return P


def loss(P: np.ndarray, X: np.ndarray, Y: np.ndarray, alpha: float, l2: float) -> float:
    """The objective, over all pairs."""
    error = (1 + alpha * P) * (P - X @ Y.T) ** 2
    return error.sum() + l2 * ((X**2).sum() + (Y**2).sum())


@pytest.mark.parametrize(("alpha", "l2"), [(40.0, 10.0), (2.0, 0.3)])
def test_enough_steps_solve_every_row_exactly(data, alpha, l2) -> None:
    P, d = dense(data), 5
    x, y = torch.randn(30, d).double(), torch.randn(20, d).double()
    als = AlternatingLeastSquares(alpha=alpha, regularization=l2, steps=3 * d)
    found = als.solve(interactions(data).by_user(), x, y).numpy()
    Y = y.numpy()
    for u in range(30):
        C = np.diag(1 + alpha * P[u])
        exact = np.linalg.solve(Y.T @ C @ Y + l2 * np.eye(d), Y.T @ C @ P[u])
        np.testing.assert_allclose(found[u], exact, rtol=1e-6, atol=1e-9)
    assert not found[4].any()
    items = als.solve(interactions(data).by_item(), y, x).numpy()
    X = x.numpy()
    C = np.diag(1 + alpha * P[:, 3])
    exact = np.linalg.solve(X.T @ C @ X + l2 * np.eye(d), X.T @ C @ P[:, 3])
    np.testing.assert_allclose(items[3], exact, rtol=1e-6, atol=1e-9)


def test_every_iteration_lowers_the_objective(data) -> None:
    P, values = dense(data), []
    for iterations in (1, 2, 4, 8, 16):
        model = MF(data, dim=4)
        AlternatingLeastSquares(iterations=iterations, progress=False).fit(model, data)
        tables = [t.detach().double().numpy() for t in (model.user_embedding, model.item_embedding)]
        values.append(loss(P, *tables, 40.0, 10.0))
    assert values == sorted(values, reverse=True) and values[-1] < 0.99 * values[0]


def test_a_solved_row_stays_solved(data) -> None:
    als = AlternatingLeastSquares(steps=40)
    x, y = torch.randn(30, 3).double(), torch.randn(20, 3).double()
    rows = interactions(data).by_user()
    once = als.solve(rows, x, y)
    torch.testing.assert_close(als.solve(rows, once, y), once)
    assert bool(als.solve(rows, torch.zeros_like(x), torch.zeros_like(y)).isfinite().all())


def test_it_learns_and_teaches() -> None:
    data = SyntheticInteractions(num_users=300, num_items=150, num_edges=9_000)[0]
    train, val, test = UserSplit(seed=0)(data)
    model = MF(train, dim=16)
    before = evaluate(model, train, test, k=10, metrics=("ndcg",))["ndcg@10"]
    assert AlternatingLeastSquares(progress=False).fit(model, train) is model
    assert evaluate(model, train, test, k=10, metrics=("ndcg",))["ndcg@10"] > 2 * before
    extract_knowledge(model, train, num_items=20, val_data=val)
    with pytest.raises(ValueError, match="was fitted on another graph"):
        extract_knowledge(model, data, num_items=20)


def test_same_seed_same_bits(data) -> None:
    tables = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(tables))
        model = MF(data, dim=4)
        AlternatingLeastSquares(iterations=2, seed=seed, progress=False).fit(model, data)
        tables.append(model.item_embedding.detach().clone())
    assert torch.equal(tables[0], tables[1]) and not torch.equal(tables[0], tables[2])


def test_one_device() -> None:
    with FakeTensorMode():
        ptr, col = (torch.empty(n, dtype=torch.long, device="cuda") for n in (4, 9))
        x, y = (torch.empty(n, 5, device="cuda") for n in (3, 7))
        found = AlternatingLeastSquares().solve(Neighbors(ptr, col), x, y)
        assert found.shape == (3, 5) and found.device.type == "cuda"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0.0}, "'alpha' must be positive"),
        ({"regularization": -1.0}, "'regularization' must be positive"),
        ({"iterations": 0}, "'iterations' must be a positive integer"),
        ({"steps": 1.5}, "'steps' must be a positive integer"),
    ],
)
def test_bad_options(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        AlternatingLeastSquares(**options)


def test_bad_models(data) -> None:
    als = AlternatingLeastSquares(progress=False)
    with pytest.raises(TypeError, match=r"'model' must be an MF .got LightGCN"):
        als.fit(LightGCN(data, dim=4), data)
    other = SyntheticInteractions(None, num_users=31, num_items=20, num_edges=200)[0]
    with pytest.raises(ValueError, match="the model was built for"):
        als.fit(MF(other, dim=4), data)
