from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyg_kd.graph import Neighbors, sorted_neighbors
from pyg_kd.metrics.ranking_metrics import (
    METRICS,
    check_lengths,
    check_metrics,
    hit_matrix,
    in_sorted,
    ranking_metrics,
)


def oracle(name: str, hits: list[bool], num_targets: int, k: int) -> float:
    """The textbook sums, rank by rank."""
    top = hits[:k]
    if name == "recall":
        return sum(top) / num_targets
    if name == "precision":
        return sum(top) / k
    if name == "hit_rate":
        return float(any(top))
    if name == "mrr":
        return 1 / (top.index(True) + 1) if any(top) else 0.0
    if name == "map":
        return sum(sum(top[: r + 1]) / (r + 1) for r in range(k) if top[r]) / num_targets
    ideal = sum(1 / math.log2(r + 2) for r in range(min(num_targets, k)))
    return sum(1 / math.log2(r + 2) for r in range(k) if top[r]) / ideal


@st.composite
def cases(draw):
    n, k_max = draw(st.integers(1, 5)), draw(st.integers(1, 30))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    hits = rng.random((n, k_max)) < draw(st.sampled_from([0.0, 0.2, 1.0]))
    num_targets = np.maximum(hits.sum(1) + rng.integers(0, 4, n), 1)
    ks = draw(st.lists(st.integers(1, k_max), min_size=1, max_size=4, unique=True))
    return hits, num_targets, ks


@given(cases())
def test_equals_the_textbook(case):
    hits, num_targets, ks = case
    values = ranking_metrics(torch.from_numpy(hits), torch.from_numpy(num_targets), ks)
    assert set(values) == {f"{name}@{k}" for name in METRICS for k in ks}
    for key, value in values.items():
        name, k = key.split("@")
        expected = [
            oracle(name, h.tolist(), int(t), int(k)) for h, t in zip(hits, num_targets, strict=True)
        ]
        assert value.dtype == torch.float64
        np.testing.assert_allclose(value.numpy(), expected, atol=1e-12, err_msg=key)


def test_row_without_targets_is_zero():
    values = ranking_metrics(torch.zeros(1, 5, dtype=torch.bool), torch.tensor([0]), (3,))
    assert all(value.tolist() == [0.0] for value in values.values())


def test_no_rows():
    values = ranking_metrics(torch.zeros(0, 5, dtype=torch.bool), torch.zeros(0).long(), (3,))
    assert all(value.shape == (0,) for value in values.values())


def test_names_follow_the_request():
    hits, num_targets = torch.ones(2, 9, dtype=torch.bool), torch.tensor([9, 9])
    values = ranking_metrics(hits, num_targets, (5, 2, 5), ("ndcg", "recall"))
    assert list(values) == ["ndcg@2", "ndcg@5", "recall@2", "recall@5"]


@given(st.integers(0, 2**32 - 1))
def test_hit_matrix_equals_sets(seed):
    rng = np.random.default_rng(seed)
    member = rng.random((6, 15)) < 0.3
    row, col = torch.from_numpy(member).nonzero().t()
    targets = sorted_neighbors(row, col, 6, 15)
    rows = rng.integers(0, 6, 9)
    ids = rng.integers(-1, 15, (9, 7))
    expected = np.where(ids >= 0, member[rows[:, None], ids], False)
    got = hit_matrix(torch.from_numpy(rows), torch.from_numpy(ids), targets, 15)
    np.testing.assert_array_equal(got.numpy(), expected)


def test_hit_matrix_without_targets():
    targets = Neighbors(torch.zeros(4, dtype=torch.long), torch.zeros(0, dtype=torch.long))
    got = hit_matrix(torch.tensor([2]), torch.tensor([[0, -1]]), targets, 5)
    assert got.tolist() == [[False, False]]


def test_in_sorted():
    keys = torch.tensor([1, 4, 9])
    assert in_sorted(keys, torch.tensor([0, 1, 5, 9, 10])).tolist() == [0, 1, 0, 1, 0]


def test_errors():
    hits, num_targets = torch.ones(2, 5, dtype=torch.bool), torch.tensor([1, 1])
    with pytest.raises(TypeError, match=r"'hits' must be bool \(got torch.float32\)"):
        ranking_metrics(hits.float(), num_targets, (1,))
    with pytest.raises(ValueError, match=r"got \[2, 5\] and \[1\]"):
        ranking_metrics(hits, num_targets[:1], (1,))
    for ks in [(), (0,), (3, 6)]:
        with pytest.raises(ValueError, match=r"'k' must hold lengths in 1..5"):
            ranking_metrics(hits, num_targets, ks)
    with pytest.raises(ValueError, match=r"'metrics' must be some of .*got \('auc',\)"):
        ranking_metrics(hits, num_targets, (1,), ("auc",))


def test_a_name_is_not_a_list_of_letters() -> None:
    with pytest.raises(TypeError, match=r"'metrics' must be a list of names, \('ndcg',\) for one"):
        ranking_metrics(torch.ones(1, 2, dtype=torch.bool), torch.tensor([1]), (1,), "ndcg")


@pytest.mark.parametrize("k", ["10", 10.0, True, [2, "3"], [True, 2], b"12", None, {1, 2}])
def test_a_length_is_an_integer(k) -> None:
    with pytest.raises(TypeError, match=r"'k' must be an integer or a list of integers \(got "):
        check_lengths(k, 100)
    with pytest.raises(TypeError, match=re.escape(f"(got {k!r})")):
        check_lengths(k, 100)


@pytest.mark.parametrize("k", [np.int64(3), [np.int32(3)], range(3, 4), (3, 3)])
def test_lengths_of_other_types(k) -> None:
    assert check_lengths(k, 5) == (3,)


@pytest.mark.parametrize("metrics", [None, 5, iter(["ndcg"])])
def test_metrics_are_a_list(metrics) -> None:
    with pytest.raises(TypeError, match=r"'metrics' must be a list of names \(got "):
        check_metrics(metrics)


@pytest.mark.parametrize("metrics", [([],), np.array(["ndcg", "auc"]), (5,), {}])
def test_what_is_not_a_metric(metrics) -> None:
    with pytest.raises(ValueError, match=r"'metrics' must be some of \('recall', "):
        check_metrics(metrics)


def test_names_in_an_array() -> None:
    check_metrics(np.array(["ndcg", "map"]))


@pytest.mark.parametrize(
    ("num_targets", "error", "message"),
    [
        ([2, 2], TypeError, r"'num_targets' must be a tensor \(got list\)"),
        (torch.tensor([2.0, 2.0]), TypeError, r"must be integers \(got torch.float32\)"),
        (torch.tensor([True, True]), TypeError, r"must be integers \(got torch.bool\)"),
        (torch.tensor([2, 1]), ValueError, r"number of hits, 2 in row 1 \(got 1\)"),
        (torch.tensor([-1, 2]), ValueError, r"number of hits, 2 in row 0 \(got -1\)"),
        (torch.ones(2, dtype=torch.long, device="meta"), ValueError, r"device.*cpu \(got meta\)"),
    ],
)
def test_targets_that_do_not_fit_the_hits(num_targets, error, message) -> None:
    hits = torch.tensor([[True, False, True]] * 2)
    with pytest.raises(error, match=message):
        ranking_metrics(hits, num_targets, (3,))


def test_hits_are_a_tensor() -> None:
    with pytest.raises(TypeError, match=r"'hits' must be a tensor \(got ndarray\)"):
        ranking_metrics(np.ones((1, 2), dtype=bool), torch.tensor([2]), (1,))
