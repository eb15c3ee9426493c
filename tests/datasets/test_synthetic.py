from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.graph import interactions
from pyg_kd.transforms import UserSplit
from pyg_kd.typing import INTERACTS, ITEM, USER


@st.composite
def _options(draw: st.DrawFn) -> dict[str, int]:
    users, items = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    return {
        "num_users": users,
        "num_items": items,
        "num_edges": draw(st.integers(users, users * items)),
        "num_groups": draw(st.integers(1, 20)),
        "seed": draw(st.integers(0, 3)),
    }


@given(_options())
def test_exact_size_for_every_shape(options: dict[str, int]) -> None:
    data = SyntheticInteractions(**options)[0]
    edge_index, num_users, num_items = interactions(data)
    assert (num_users, num_items) == (options["num_users"], options["num_items"])
    edges = list(map(tuple, edge_index.t().tolist()))
    assert len(edges) == options["num_edges"]
    assert edges == sorted(set(edges))
    least = min(3, options["num_edges"] // num_users)
    assert int(torch.bincount(edge_index[0], minlength=num_users).min()) >= least
    assert data[INTERACTS].time.shape == (options["num_edges"],)
    assert data[USER].group.shape == (num_users, 2)
    assert set(data[USER].group.flatten().tolist()) <= set(data[ITEM].group.tolist())


def test_seed_alone_decides() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = SyntheticInteractions(seed=3)[0]
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    second, third = SyntheticInteractions(seed=3)[0], SyntheticInteractions(seed=4)[0]
    for kind, key in ((INTERACTS, "edge_index"), (INTERACTS, "time"), (ITEM, "group")):
        assert torch.equal(first[kind][key], second[kind][key])
        assert not torch.equal(first[kind][key], third[kind][key])


def test_long_tails_and_times() -> None:
    data = SyntheticInteractions()[0]
    user, item = data[INTERACTS].edge_index
    activity, popularity = torch.bincount(user), torch.bincount(item, minlength=1_000)
    assert activity.max() > 8 * activity.median()
    top = popularity.sort(descending=True).values
    assert top[:100].sum() > 0.35 * top.sum()
    time = data[INTERACTS].time
    assert time.dtype == torch.long
    assert int(time.min()) >= 1_500_000_000
    assert int(time.max()) < 1_500_000_000 + 2 * 366 * 86_400
    assert time.unique().numel() > 0.9 * time.numel()


def _recall(scores: np.ndarray, train: np.ndarray, test: np.ndarray, k: int = 20) -> float:
    top = np.argsort(np.where(train, -np.inf, scores), axis=1, kind="stable")[:, -k:]
    hits = np.take_along_axis(test, top, axis=1).sum(axis=1)
    users = test.any(axis=1)
    return float((hits[users] / np.minimum(test.sum(axis=1), k)[users]).mean())


def test_held_out_items_are_predictable_from_neighbours_not_from_popularity_alone() -> None:
    data = SyntheticInteractions(num_users=800, num_items=500, num_edges=16_000)[0]
    train_graph, _, test_graph = UserSplit(val=0.0, test=0.2)(data)
    train, test = np.zeros((2, 800, 500), dtype=bool)
    train[tuple(train_graph[INTERACTS].edge_index.numpy())] = True
    test[tuple(test_graph[INTERACTS].edge_label_index.numpy())] = True
    popularity = train.sum(axis=0)
    together = train.T.astype(float) @ train
    cosine = together / np.sqrt(np.outer(popularity, popularity).clip(min=1))
    np.fill_diagonal(cosine, 0)
    learned = _recall(train @ cosine, train, test)
    assert learned > 1.6 * _recall(np.broadcast_to(popularity, train.shape), train, test)
    # Without any taste there is nothing to learn beyond popularity.
    assert learned > 0.3


def test_root_is_not_touched(tmp_path: Path) -> None:
    dataset = SyntheticInteractions(tmp_path / "root", num_users=5, num_items=5, num_edges=10)
    assert repr(dataset) == "SyntheticInteractions()"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_users": 3, "num_items": 4, "num_edges": 13}, r"'num_edges' .* 3..12.*got 13"),
        ({"num_users": 3, "num_items": 4, "num_edges": 2}, r"'num_edges' must lie in 3..12.*got 2"),
        ({"num_users": 0}, r"'num_users' must be at least 1 \(got 0\)"),
        ({"num_items": -1}, r"'num_items' must be at least 1 \(got -1\)"),
        ({"num_groups": 0}, r"'num_groups' must be at least 1 \(got 0\)"),
        ({"num_users": 2**32, "num_items": 2**32, "num_edges": 2**32}, r"fewer than 2\*\*63 pairs"),
        ({"affinity": 1.5}, r"'affinity' must lie in 0..1 \(got 1.5\)"),
    ],
)
def test_options_are_checked(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SyntheticInteractions(**options)


def test_millions_of_edges_are_quick_and_exact() -> None:
    data = SyntheticInteractions(num_users=100_000, num_items=10_000, num_edges=1_000_000)[0]
    edge_index = data[INTERACTS].edge_index
    assert edge_index.size(1) == 1_000_000
    assert torch.bincount(edge_index[0], minlength=100_000).min() >= 3
