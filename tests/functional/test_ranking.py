from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from pyg_kd.functional import ranking
from pyg_kd.functional.ranking import rank_unseen, stable_topk, top_unseen
from pyg_kd.graph import Neighbors, sorted_neighbors


def oracle(scores: np.ndarray, seen: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Sort every row by (score descending, id ascending), user by user."""
    ids = np.full((len(scores), k), -1)
    values = np.full((len(scores), k), -np.inf)
    for row in range(len(scores)):
        order = np.lexsort((np.arange(scores.shape[1]), -scores[row]))
        order = [c for c in order if not seen[row, c] and scores[row, c] > -np.inf][:k]
        ids[row, : len(order)] = order
        values[row, : len(order)] = scores[row, order]
    return values, ids


def neighbors(seen: np.ndarray) -> Neighbors:
    row, col = torch.from_numpy(seen).nonzero().t()
    return sorted_neighbors(row, col, *seen.shape)


def lookup(scores: Tensor):
    return lambda rows, cols: scores[rows, cols]


def collect(*args, **kwargs) -> tuple[Tensor, Tensor, Tensor]:
    rows, values, ids = zip(*rank_unseen(*args, **kwargs), strict=True)
    return torch.cat(rows), torch.cat(values), torch.cat(ids)


def check(scores: Tensor, seen: np.ndarray, k: int, **kwargs) -> None:
    num_rows, num_cols = scores.shape
    rows, values, ids = collect(
        lookup(scores), num_rows, num_cols, k, seen=neighbors(seen), **kwargs
    )
    expected_values, expected_ids = oracle(scores.double().numpy(), seen, k)
    assert rows.tolist() == list(range(num_rows))
    np.testing.assert_array_equal(ids.numpy(), expected_ids)
    np.testing.assert_array_equal(values.double().numpy(), expected_values)


@st.composite
def problems(draw):
    num_rows, num_cols = draw(st.integers(1, 6)), draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from([1, 2, 5, 1000]))
    scores = rng.integers(-levels, levels, (num_rows, num_cols)).astype(np.float64)
    seen = rng.random((num_rows, num_cols)) < draw(st.sampled_from([0.0, 0.3, 0.9, 1.0]))
    return torch.from_numpy(scores), seen


@given(problems(), st.integers(1, 70), st.integers(1, 7), st.integers(1, 61))
def test_order_of_ties_and_padding(problem, k, row_block, col_tile):
    scores, seen = problem
    check(scores, seen, k, row_block=row_block, col_tile=col_tile)


@pytest.mark.parametrize("levels", [1, 3, 40, 10**6])
@pytest.mark.parametrize("num_cols", [2000, 2003])
@pytest.mark.parametrize("col_tile", [None, 700])
def test_wide_rows_go_through_chunks(levels, num_cols, col_tile):
    rng = np.random.default_rng(levels)
    scores = torch.from_numpy(rng.integers(0, levels, (20, num_cols)).astype(np.float32))
    seen = rng.random(scores.shape) < 0.1
    seen[0] = True
    seen[1, 5:] = True
    check(scores, seen, 10, col_tile=col_tile)
    check(scores, seen, 1, col_tile=col_tile, row_block=7)


def test_ties_inside_one_chunk_and_across_chunks():
    scores = torch.zeros(3, 5000)
    scores[0, ::71] = 1.0  # one chunk of the strided view, if it has 71 columns a step
    scores[1, 4000:] = 1.0  # only the end
    check(scores, np.zeros(scores.shape, dtype=bool), 10)


def test_negative_zero_equals_zero():
    scores = torch.tensor([[-1.0, 0.0, -0.0, 0.0, -0.0]])
    assert stable_topk(scores, 3)[1].tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_ranked_in_float32(dtype):
    scores = torch.randn(10, 800).to(dtype)
    seen = np.zeros(scores.shape, dtype=bool)
    check(scores, seen, 20)
    _, values, _ = collect(lookup(scores), 10, 800, 20)
    assert values.dtype == torch.float32


def test_infinite_scores():
    scores = torch.tensor([[1.0, float("inf"), -float("inf"), float("inf")]])
    _, values, ids = collect(lookup(scores), 1, 4, 4)
    assert ids.tolist() == [[1, 3, 0, -1]]
    assert values.tolist() == [[float("inf"), float("inf"), 1.0, -float("inf")]]


def test_some_rows_in_any_order():
    scores = torch.randn(9, 50)
    rows = torch.tensor([7, 2, 2, 0])
    got, values, ids = collect(lookup(scores), 9, 50, 5, rows=rows, row_block=3)
    expected = scores[rows].topk(5)
    assert got.tolist() == rows.tolist()
    assert torch.equal(values, expected.values)
    assert torch.equal(ids, expected.indices)


def test_no_rows():
    assert list(rank_unseen(lookup(torch.zeros(0, 4)), 0, 4, 2)) == []


def test_blocks_and_tiles_do_not_change_the_lists():
    scores = torch.randn(40, 3000).round(decimals=1)
    whole = collect(lookup(scores), 40, 3000, 30)
    for row_block, col_tile in [(1, 3000), (7, 1000), (40, 17), (3, 999)]:
        part = collect(lookup(scores), 40, 3000, 30, row_block=row_block, col_tile=col_tile)
        for a, b in zip(whole, part, strict=True):
            assert torch.equal(a, b)


def test_progress_counts_rows():
    done = []
    list(rank_unseen(lookup(torch.randn(7, 9)), 7, 9, 2, row_block=3, progress=done.append))
    assert done == [3, 3, 1]


def test_gradients_are_not_recorded():
    weight = torch.randn(4, 6, requires_grad=True)
    _, values, _ = collect(lambda rows, cols: (2 * weight)[rows, cols], 4, 6, 2)
    assert not values.requires_grad
    assert torch.is_grad_enabled()


class _SizeLimit(TorchDispatchMode):
    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(value, Tensor):
                assert value.numel() <= self.limit, f"{func} made {list(value.shape)}"
        return out


@pytest.mark.parametrize("levels", [1, 10**6])
def test_nothing_larger_than_a_block(levels):
    x, y = torch.randn(60, 4), torch.randn(900, 4)
    seen = neighbors(np.random.default_rng(0).random((60, 900)) < 0.02)

    def score(rows, cols):
        return ((x[rows] @ y[cols].t()) * levels).round() / levels

    with _SizeLimit(6 * 300):
        collect(score, 60, 900, 10, seen=seen, row_block=6, col_tile=300)


@pytest.mark.parametrize("value", [float("nan"), -float("nan")])
@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("num_cols", [30, 3000])
def test_nan_is_an_error(value, hidden, num_cols):
    scores = torch.randn(5, num_cols)
    scores[3, 17] = value
    seen = np.zeros(scores.shape, dtype=bool)
    seen[3, 17] = hidden
    with pytest.raises(ValueError, match="NaN"):
        collect(lookup(scores), 5, num_cols, 4, seen=neighbors(seen))


@pytest.mark.parametrize("name", ["k", "row_block", "col_tile"])
def test_sizes_are_checked_before_scoring(name):
    def never(rows, cols):
        raise AssertionError("scored")

    sizes = {"k": 2, "row_block": 2, "col_tile": 2} | {name: 0}
    with pytest.raises(ValueError, match=rf"'{name}' must be a positive integer \(got 0\)"):
        rank_unseen(never, 3, 4, **sizes)


def test_other_errors():
    scores = torch.zeros(3, 4)
    with pytest.raises(ValueError, match=r"'rows' must lie in 0..2 \(got 3\)"):
        rank_unseen(lookup(scores), 3, 4, 1, rows=torch.tensor([3]))
    with pytest.raises(ValueError, match=r"'seen' must have 3 rows \(got 2\)"):
        rank_unseen(lookup(scores), 3, 4, 1, seen=neighbors(np.zeros((2, 4), dtype=bool)))
    with pytest.raises(TypeError, match=r"torch.int64"):
        collect(lookup(scores.long()), 3, 4, 1)


def world(num_users: int = 9, num_items: int = 30) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    edges = torch.rand(num_users, num_items).lt(0.3).nonzero().t()
    ptr, col = sorted_neighbors(*edges, num_users, num_items)
    return torch.randn(num_users, 4), torch.randn(num_items, 4), ptr, col


@pytest.mark.parametrize("entries", [2**18, 100, 1])
@pytest.mark.parametrize("k", [1, 10, 40])
def test_order_of_the_unseen(monkeypatch, entries: int, k: int) -> None:
    monkeypatch.setattr(ranking, "BLOCK_ENTRIES", entries)
    monkeypatch.setattr(ranking, "MAX_TILE", 7 if entries == 100 else 2**16)
    x_user, x_item, ptr, col = world()
    ranked = top_unseen(x_user, x_item, ptr, col, k)
    assert ranked.dtype == torch.int32
    scores = x_user.numpy() @ x_item.numpy().T
    for user in range(9):
        seen = set(col[ptr[user] : ptr[user + 1]].tolist())
        expected = [i for i in np.argsort(-scores[user]).tolist() if i not in seen][:k]
        assert ranked[user].tolist() == expected + [-1] * (k - len(expected))


@pytest.mark.parametrize("users", [[], [4], [0, 3, 8]])
def test_some_users_only(users: list[int]) -> None:
    tables = world()
    needed = torch.zeros(9, dtype=torch.bool)
    needed[users] = True
    whole = top_unseen(*tables, 5)
    expected = torch.where(needed.unsqueeze(1), whole, -1)
    assert torch.equal(top_unseen(*tables, 5, needed), expected)


def test_what_is_not_finite_does_not_stop_it() -> None:
    x_user, x_item, ptr, col = world()
    x_user[2, 1], x_item[4, 0], x_item[5] = torch.nan, torch.inf, -torch.inf
    expected = top_unseen(x_user.nan_to_num(0, 0, 0), x_item.nan_to_num(0, 0, 0), ptr, col, 10)
    assert torch.equal(top_unseen(x_user, x_item, ptr, col, 10), expected)


def test_the_operator_keeps_the_rules_of_the_dispatcher() -> None:
    torch.library.opcheck(top_unseen, (*world(), 5))
    with FakeTensorMode():
        x, ptr = torch.empty(9, 4, device="cuda"), torch.empty(10, dtype=torch.long, device="cuda")
        ranked = top_unseen(x, x, ptr, ptr, 3)
        assert (ranked.shape, ranked.dtype, ranked.device.type) == ((9, 3), torch.int32, "cuda")
        for stray in range(4):
            args = [x, x, ptr, ptr]
            args[stray] = torch.empty(args[stray].shape, dtype=args[stray].dtype)
            with pytest.raises(RuntimeError, match="one device"):
                top_unseen(*args, 3)


PATTERN = Neighbors(torch.tensor([0, 1, 1, 2]), torch.tensor([0, 4]))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"k": "2"}, ValueError, r"'k' must be a positive integer \(got '2'\)"),
        ({"k": True}, ValueError, r"'k' must be a positive integer \(got True\)"),
        ({"num_cols": 5.0}, ValueError, r"'num_cols' must be a positive integer \(got 5.0\)"),
        ({"num_rows": -1}, ValueError, r"'num_rows' must be an integer of 0 or more \(got -1\)"),
        ({"row_block": 2.0}, ValueError, r"'row_block' must be a positive integer \(got 2.0\)"),
        ({"col_tile": "9"}, ValueError, r"'col_tile' must be a positive integer \(got '9'\)"),
        ({"rows": torch.tensor([0.0])}, TypeError, r"'rows' must be integers.*torch.float32"),
        ({"rows": torch.ones(3, dtype=torch.bool)}, TypeError, r"'rows' must be .*torch.bool"),
        ({"rows": torch.tensor([[0]])}, ValueError, r"'rows' must be one-dimensional"),
        ({"seen": torch.zeros(2, 3)}, TypeError, r"'seen' must be Neighbors \(got Tensor\)"),
        (
            {"seen": PATTERN._replace(col=torch.tensor([0, 5]))},
            ValueError,
            r"'seen.col' must lie in 0..4 \(got 5\)",
        ),
        ({"score_block": None}, TypeError, r"'score_block' must be a function \(got NoneType\)"),
    ],
)
def test_arguments_that_cannot_be_ranked(change, error, message) -> None:
    given = {"score_block": lambda rows, cols: torch.zeros(len(rows), 5), "num_rows": 3}
    given |= {"num_cols": 5, "k": 2} | change
    with pytest.raises(error, match=message):
        rank_unseen(**given)


@pytest.mark.parametrize("seen", [None, PATTERN])
@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        (torch.zeros(3, 6), ValueError, r"of shape \[3, 5\] \(got \[3, 6\]\)"),
        (torch.zeros(3, 4), ValueError, r"of shape \[3, 5\] \(got \[3, 4\]\)"),
        (torch.zeros(5, 3), ValueError, r"of shape \[3, 5\] \(got \[5, 3\]\)"),
        (torch.zeros(5), ValueError, r"of shape \[3, 5\] \(got \[5\]\)"),
        (None, TypeError, r"must return a tensor \(got NoneType\)"),
    ],
)
def test_scores_of_another_shape(returned, error, message, seen) -> None:
    with pytest.raises(error, match=message):
        next(rank_unseen(lambda rows, cols: returned, 3, 5, 2, seen=seen))


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
def test_one_row_expanded_to_all_is_masked_row_by_row(guard) -> None:
    popularity = torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0])
    with guard():
        for scores in (popularity, popularity.clone()):  # the second is of the mode itself
            ranking = rank_unseen(
                lambda rows, cols, s=scores: s[cols].expand(len(rows), -1), 3, 5, 2, seen=PATTERN
            )
            assert next(ranking).ids.tolist() == [[1, 2], [0, 1], [0, 1]]
            assert scores.tolist() == [5.0, 4.0, 3.0, 2.0, 1.0]


def test_views_of_the_scores_stay_as_they_are() -> None:
    table = torch.rand(3, 5)
    before = table.clone()
    next(rank_unseen(lambda rows, cols: table[:, cols], 3, 5, 2, seen=PATTERN))
    assert torch.equal(table, before)
