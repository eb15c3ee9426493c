from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyg_kd.datasets import from_interactions
from pyg_kd.transforms import LeaveOneOut
from pyg_kd.typing import INTERACTS

EDGES = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(0, 5)),
    min_size=1,
    max_size=30,
    unique_by=lambda edge: edge[:2],
)


@given(EDGES, st.integers(0, 3))
def test_last_by_time(edges: list[tuple[int, int, int]], seed: int) -> None:
    user, item, time = map(list, zip(*edges, strict=True))
    data = from_interactions([user, item], time=time)
    raw_user = data["user"].raw_id.tolist()
    train, val, test = (g[INTERACTS] for g in LeaveOneOut(seed, by_time=True)(data))
    for u, raw in enumerate(raw_user):
        times = sorted(t for who, _, t in edges if who == raw)
        held_out = test.edge_label_time[test.edge_label_index[0] == u].tolist()
        validated = val.edge_label_time[val.edge_label_index[0] == u].tolist()
        trained = sorted(train.time[train.edge_index[0] == u].tolist())
        # Compared by time: among equal times any edge may be the last.
        assert held_out == (times[-1:] if len(times) >= 2 else [])
        assert validated == (times[-2:-1] if len(times) >= 3 else [])
        assert trained == times[: len(times) - len(held_out) - len(validated)]


@given(EDGES, st.booleans())
def test_counts(edges: list[tuple[int, int, int]], own_targets: bool) -> None:
    user, item, _ = map(list, zip(*edges, strict=True))
    data = from_interactions([user, item])
    if own_targets:
        data[INTERACTS].edge_label_index = torch.tensor([[0], [0]])
    train, val, test = (g[INTERACTS] for g in LeaveOneOut()(data))
    for u, raw in enumerate(data["user"].raw_id.tolist()):
        degree = user.count(raw)
        num_test = 0 if own_targets else int(degree >= 2)
        num_val = int(degree >= (2 if own_targets else 3))
        assert int((val.edge_label_index[0] == u).sum()) == num_val
        assert int((train.edge_index[0] == u).sum()) == degree - num_val - num_test
        if not own_targets:
            assert int((test.edge_label_index[0] == u).sum()) == num_test
    if own_targets:
        assert test.edge_label_index.tolist() == [[0], [0]]


def test_seed_decides_among_equal_times() -> None:
    data = from_interactions([[0] * 20, [*range(20)]], time=[7] * 20)
    chosen = {
        int(LeaveOneOut(seed, by_time=True)(data)[2][INTERACTS].edge_label_index[1])
        for seed in range(20)
    }
    assert len(chosen) > 5


@pytest.mark.parametrize("by_time", [False, True])
def test_repr(by_time: bool) -> None:
    assert repr(LeaveOneOut(3, by_time)) == f"LeaveOneOut(seed=3, by_time={by_time})"
