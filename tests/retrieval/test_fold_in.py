from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyg_kd.retrieval.fold_in import FoldIn
from pyg_kd.retrieval.tables import Table


def patterns(rng, num_users, num_items, longest):
    lists = [
        rng.choice(num_items, rng.integers(0, min(longest, num_items) + 1), replace=False)
        for _ in range(num_users)
    ]
    ptr = np.concatenate([[0], np.cumsum([len(x) for x in lists])]).astype(np.int64)
    return ptr, np.concatenate([np.empty(0, np.int64), *lists]).astype(np.int64), lists


def ridge(y, history, weight, rule):
    """The minimum of the objective in the docstring, by the normal equations."""
    dim = y.shape[1]
    total = rule["unseen_weight"] * y.T @ y
    penalty = rule["regularization"] * np.trace(total) / dim
    own = y[history]
    left = total + penalty * np.eye(dim) + rule["alpha"] * own.T @ (own * weight[:, None])
    return np.linalg.solve(left, rule["target"] * own.T @ weight)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 40), st.sampled_from([0.0, 0.5, 3]))
def test_ridge_solves_the_normal_equations(seed, dim, num_items, alpha):
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(num_items, dim))
    ptr, col, lists = patterns(rng, 7, num_items, 30)
    weight = rng.random(len(col)) + 0.1
    fold_in = FoldIn("ridge", y, settings={"alpha": alpha, "regularization": 0.3})
    for given_weight in (None, weight):
        found = fold_in(ptr, col, given_weight)
        used = np.ones(len(col)) if given_weight is None else given_weight
        for row, history in enumerate(lists):
            want = ridge(y, history, used[ptr[row] : ptr[row + 1]], fold_in.settings)
            np.testing.assert_allclose(found[row], want, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("kind", ["ridge", "propagation"])
def test_repeated_items_and_their_order_do_not_count(kind):
    rng = np.random.default_rng(0)
    fold_in = FoldIn(kind, rng.normal(size=(20, 4)))
    once = fold_in([0, 3, 3, 5], [2, 7, 9, 0, 1])
    again = fold_in([0, 6, 6, 8], [9, 7, 2, 7, 9, 9, 1, 0])
    np.testing.assert_array_equal(once, again)
    assert not once[1].any()


def test_of_repeated_items_the_largest_weight_counts():
    fold_in = FoldIn("propagation", np.eye(3), settings={"degree_power": 0})
    found = fold_in([0, 3], [1, 0, 1], weights=[2, 5, 4])
    np.testing.assert_array_equal(found, [[5, 4, 0]])


@pytest.mark.parametrize(
    "ptr, col, weights, message",
    [
        ([0, 1], [3], None, r"'history.col' must lie in 0..2 \(got 3\)"),
        ([0, 1], [-1], None, r"'history.col' must lie in 0..2 \(got -1\)"),
        ([0, 2], [1], None, "'history.ptr' must run from 0 to 1"),
        ([0, 1], [1], [np.nan], r"'weights' must be finite and not negative \(got nan\)"),
        ([0, 1], [1], [-1], "'weights' must be finite and not negative"),
        ([0, 1], [1], [1, 2], r"'weights' must be \[1\] \(got \[2\]\)"),
    ],
)
def test_wrong_histories_are_refused(ptr, col, weights, message):
    with pytest.raises(ValueError, match=message):
        FoldIn.default(np.eye(3))(ptr, col, weights)


def test_a_table_of_zeros_and_one_column():
    ptr, col = [0, 2, 2], [1, 0]
    for y in (np.zeros((3, 2)), np.zeros((3, 1))):
        np.testing.assert_array_equal(FoldIn.default(y)(ptr, col), np.zeros((2, y.shape[1])))
    assert FoldIn.default(np.ones((3, 1)))(ptr, col)[0, 0] > 0


def test_integer_tables_are_widened():
    y = np.random.default_rng(0).normal(size=(30, 6))
    table = Table.of(y, "int8")
    np.testing.assert_array_equal(
        FoldIn.default(table)([0, 3], [1, 2, 3]),
        FoldIn.default(table.block(0, 30))([0, 3], [1, 2, 3]),
    )


def test_a_table_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="'x_item' must be finite"):
        FoldIn.default(np.array([[np.nan]]))
