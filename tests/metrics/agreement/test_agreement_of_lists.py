from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyg_kd.metrics.agreement import overlap_at_k, rank_biased_overlap


def rbo(first: list[int], second: list[int], p: float) -> float:
    """Equation 32 of the paper, sum by sum."""
    short, long = sorted((first, second), key=len)
    s, n = len(short), len(long)
    if s == 0:
        return 0.0
    shared = {d: len(set(short[:d]) & set(long[:d])) for d in range(1, n + 1)}
    total = sum(shared[d] / d * p**d for d in range(1, n + 1))
    total += sum(shared[s] * (d - s) / (s * d) * p**d for d in range(s + 1, n + 1))
    return (1 - p) / p * total + ((shared[n] - shared[s]) / n + shared[s] / s) * p**n


@st.composite
def lists(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, catalogue = draw(st.integers(0, 5)), draw(st.integers(1, 15))
    widths = [draw(st.integers(1, 18)) for _ in range(2)]
    tables = []
    for width in widths:
        table = np.full((n, width), -1)
        for row in table:
            length = rng.integers(0, min(width, catalogue) + 1)
            row[:length] = rng.permutation(catalogue)[:length]
        tables.append(table)
    return tables


def trimmed(row: np.ndarray) -> list[int]:
    return [int(item) for item in row if item >= 0]


@given(lists(), st.floats(0.05, 0.98))
def test_rank_biased_overlap_is_the_papers(tables, p):
    found = rank_biased_overlap(*map(torch.from_numpy, tables), p)
    expected = [rbo(trimmed(a), trimmed(b), p) for a, b in zip(*tables, strict=True)]
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found, expected, atol=1e-12)


@given(lists(), st.integers(1, 18))
def test_overlap_counts_common_items(tables, k):
    k = min(k, *(table.shape[1] for table in tables))
    found = overlap_at_k(*map(torch.from_numpy, tables), k)
    for value, a, b in zip(found, *tables, strict=True):
        first, second = set(trimmed(a[:k])), set(trimmed(b[:k]))
        assert value == pytest.approx(len(first & second) / max(len(first), len(second), 1))


def test_equal_lists_agree_and_disjoint_ones_do_not():
    first = torch.arange(40).view(2, 20)
    assert rank_biased_overlap(first, first).tolist() == pytest.approx([1.0, 1.0])
    assert rank_biased_overlap(first, first + 100).tolist() == [0.0, 0.0]
    assert overlap_at_k(first, first.flip(1), 20).tolist() == [1.0, 1.0]


def test_a_long_list_reaches_the_limit_of_its_sum():
    # Of two long rankings that share every second item in the same places, half is agreed on.
    first = torch.arange(400).view(1, -1)
    second = torch.where(first % 2 == 0, first, first + 1000)
    assert float(rank_biased_overlap(first, second, 0.98)) == pytest.approx(
        (1 - 0.98) * sum(-(-d // 2) / d * 0.98 ** (d - 1) for d in range(1, 4000)), abs=1e-4
    )


def test_lists_in_32_bits_are_taken():
    first, second = torch.tensor([[1, 2, -1]]), torch.tensor([[2, 1, 5]])
    assert torch.equal(
        rank_biased_overlap(first.int(), second), rank_biased_overlap(first, second.int())
    )


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (torch.zeros(3, 2, dtype=torch.long), "same rows"),
        (torch.zeros(2, 2), "'second' must be integers"),
        (torch.tensor([[0, 1], [-1, 3]]), "'second' must be padded"),
    ],
)
def test_bad_lists_are_named(second, message):
    with pytest.raises((ValueError, TypeError), match=message):
        rank_biased_overlap(torch.tensor([[0, 1], [2, 3]]), second)


def test_options_are_checked():
    lists = torch.tensor([[0, 1]])
    with pytest.raises(ValueError, match="'p' must lie between 0 and 1"):
        rank_biased_overlap(lists, lists, 1.0)
    with pytest.raises(ValueError, match="'k' must be at most the width"):
        overlap_at_k(lists, lists, 3)
