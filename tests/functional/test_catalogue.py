from __future__ import annotations

from math import exp, log

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch._library.custom_ops import OPDEFS
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pyg_kd.functional import catalogue, catalogue_logsumexp
from pyg_kd.functional.catalogue import (
    catalogue_gradients,
    catalogue_sums,
    excluded_pairs,
    tile_places,
)
from pyg_kd.graph import sorted_neighbors


def one_by_one(x_user: Tensor, x_item: Tensor) -> np.ndarray:
    """User by user and item by item, in float64, from the largest score."""
    users, items = x_user.detach().double().tolist(), x_item.detach().double().tolist()
    out = []
    for user in users:
        scores = [sum(a * b for a, b in zip(user, item, strict=True)) for item in items]
        out.append(max(scores) + log(sum(exp(s - max(scores)) for s in scores)))
    return np.array(out)


def softmax_gradients(x_user: Tensor, x_item: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    x_user, x_item, grad = (v.detach().double() for v in (x_user, x_item, grad))
    p = (x_user @ x_item.t()).softmax(1) * grad.unsqueeze(1)
    return p @ x_item, p.t() @ x_user


def tables(num_users: int, num_items: int, dim: int, dtype=torch.double, size: float = 1.0):
    generator = torch.Generator().manual_seed(num_users * 100 + num_items)
    x = torch.randn(num_users + num_items, dim, dtype=torch.double, generator=generator)
    x_user, x_item = (size**0.5 * x).to(dtype).split([num_users, num_items])
    return x_user.clone().requires_grad_(), x_item.clone().requires_grad_()


@given(st.integers(0, 7), st.integers(1, 9), st.integers(1, 4), st.integers(1, 10))
def test_value_and_gradient(num_users, num_items, dim, tile):
    x_user, x_item = tables(num_users, num_items, dim)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue, "MAX_ROWS", 3)
        lse = catalogue_logsumexp(x_user, x_item, tile=tile)
        grad = torch.linspace(-1, 2, num_users, dtype=torch.double)
        actual = torch.autograd.grad(lse, (x_user, x_item), grad)
    assert lse.shape == (num_users,)
    np.testing.assert_allclose(lse.detach(), one_by_one(x_user, x_item), rtol=1e-12, atol=1e-12)
    for a, b in zip(actual, softmax_gradients(x_user, x_item, grad), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("tile", [None, 1, 3])
def test_gradcheck(tile):
    assert torch.autograd.gradcheck(
        lambda u, i: catalogue_logsumexp(u, i, tile=tile), tables(4, 7, 3)
    )


@pytest.mark.parametrize("size", [1.0, 100.0, 3e3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.half])
def test_precisions_and_sizes(dtype, size):
    # With 3e3 the largest scores exceed 1e4, and e to that power exceeds every float.
    x_user, x_item = tables(20, 300, 8, dtype, size)
    grad = torch.rand(20)
    lse = catalogue_logsumexp(x_user, x_item, tile=64)
    assert lse.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    expected = one_by_one(x_user, x_item)
    if size > 1e3:
        assert np.abs(expected).max() > 1e4
    wide = torch.promote_types(dtype, torch.float32)
    # A score is off by the spacing of floats at its size.
    tolerance = 8 * torch.finfo(wide).eps * max(size, 1)
    np.testing.assert_allclose(lse.detach().double(), expected, rtol=1e-6, atol=tolerance)
    actual = torch.autograd.grad(lse, (x_user, x_item), grad.to(lse.dtype))
    for a, b in zip(actual, softmax_gradients(x_user, x_item, grad), strict=True):
        assert a.dtype == dtype and bool(a.isfinite().all())
        error = (a.double() - b).norm() / b.norm()
        assert error < 4 * torch.finfo(dtype).eps + tolerance


def test_the_gradients_of_a_user_sum_to_one_at_any_size():
    # The coordinate that all items share has the sum of the softmax as its gradient.
    x_user, x_item = tables(30, 100, 4, torch.float32, 3e3)
    with torch.no_grad():
        x_item[:, 0] = 1.0
    catalogue_logsumexp(x_user, x_item, tile=7).sum().backward()
    torch.testing.assert_close(x_user.grad[:, 0], torch.ones(30), rtol=1e-5, atol=0)


def test_tiles_and_blocks_change_nothing(monkeypatch):
    x_user, x_item = tables(20, 50, 4)
    whole = catalogue_logsumexp(x_user, x_item)
    expected = torch.autograd.grad(whole.square().sum(), (x_user, x_item))
    monkeypatch.setattr(catalogue, "CPU_ENTRIES", 64)
    monkeypatch.setattr(catalogue, "MAX_ROWS", 8)
    lse = catalogue_logsumexp(x_user, x_item)
    torch.testing.assert_close(lse, whole, rtol=1e-12, atol=0)
    actual = torch.autograd.grad(lse.square().sum(), (x_user, x_item))
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


class Sizes(TorchDispatchMode):
    """Entries of everything that is made, also inside of the operators."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        own = OPDEFS.get(func._schema.name) if func.namespace == "pyg_kd" else None
        if own is None:
            out = func(*args, **(kwargs or {}))
        else:
            with self:
                out = own._init_fn(*args, **(kwargs or {}))
        made = [t.numel() for t in tree_leaves(out) if isinstance(t, Tensor)]
        self.largest = max([self.largest, *made])
        return out


def test_nothing_larger_than_a_tile_is_made(monkeypatch):
    monkeypatch.setattr(catalogue, "MAX_ROWS", 40)
    x_user, x_item = tables(100, 300, 2, torch.float32)
    with Sizes() as sizes:
        catalogue_logsumexp(x_user, x_item, tile=25).sum().backward()
    # The largest score and the sum of every tile are 12 numbers a user.
    assert sizes.largest == max(40 * 25, 100 * 12)


def test_only_what_asks_gets_a_gradient():
    x_user, x_item = tables(4, 5, 3)
    both = torch.autograd.grad(catalogue_logsumexp(x_user, x_item).sum(), (x_user, x_item))
    (user,) = torch.autograd.grad(catalogue_logsumexp(x_user, x_item.detach()).sum(), x_user)
    (item,) = torch.autograd.grad(catalogue_logsumexp(x_user.detach(), x_item).sum(), x_item)
    assert torch.equal(user, both[0]) and torch.equal(item, both[1])
    assert not catalogue_logsumexp(x_user.detach(), x_item.detach()).requires_grad


def test_inputs_may_be_views_and_stay_as_they_are():
    x_user, x_item = torch.randn(3, 6).t(), torch.randn(5, 1).expand(5, 3)
    before = x_user.clone(), x_item.clone()
    lse = catalogue_logsumexp(x_user, x_item, tile=2)
    np.testing.assert_allclose(lse, one_by_one(x_user, x_item), rtol=1e-5)
    assert torch.equal(x_user, before[0]) and torch.equal(x_item, before[1])


def masked(x_user: Tensor, x_item: Tensor, excluded: Tensor) -> tuple[Tensor, Tensor]:
    """Scores in float64 with minus infinity for what is excluded, and their log-sum-exp."""
    scores = x_user.double() @ x_item.double().t()
    for row, col in excluded.t().tolist():
        if col >= 0:
            scores[row, col] = -torch.inf
    return scores, scores.logsumexp(1)


def pairs(num_users: int, num_items: int, num: int) -> Tensor:
    """Some pairs, several of them twice and some of them padding."""
    if num_users == 0:
        return torch.empty(2, 0, dtype=torch.long)
    generator = torch.Generator().manual_seed(num)
    rows = torch.randint(num_users, (num,), generator=generator)
    cols = torch.randint(-1, num_items, (num,), generator=generator)
    return torch.stack([rows, cols])


@given(
    st.integers(0, 7), st.integers(1, 9), st.integers(1, 4), st.integers(1, 10), st.integers(0, 90)
)
def test_value_and_gradient_without_some(num_users, num_items, dim, tile, num):
    x_user, x_item = tables(num_users, num_items, dim)
    excluded = pairs(num_users, num_items, num)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue, "MAX_ROWS", 3)
        lse = catalogue_logsumexp(x_user, x_item, excluded=excluded, tile=tile)
        grad = torch.linspace(-1, 2, num_users, dtype=torch.double)
        actual = torch.autograd.grad(lse, (x_user, x_item), grad)
    scores, expected = masked(x_user.detach(), x_item.detach(), excluded)
    torch.testing.assert_close(lse.detach(), expected, rtol=1e-12, atol=1e-12)
    # A user with nothing left has no softmax, and no gradient.
    p = torch.nan_to_num(scores.softmax(1)) * grad.unsqueeze(1)
    for a, b in zip(actual, (p @ x_item, p.t() @ x_user), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("tile", [None, 1, 3])
def test_gradcheck_without_some(tile):
    excluded = pairs(4, 7, 12)
    assert torch.autograd.gradcheck(
        lambda u, i: catalogue_logsumexp(u, i, excluded=excluded, tile=tile), tables(4, 7, 3)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("rest", [-50.0, -20.0, 0.0, 50.0])
def test_what_is_excluded_may_hold_nearly_all_of_the_mass(dtype, rest):
    # Excluded scores are 50; with the others at -50, they hold all but 1e-42 of the sum.
    x_user, x_item = torch.ones(6, 1, dtype=dtype), torch.full((40, 1), rest, dtype=dtype)
    x_user.requires_grad_(), x_item.requires_grad_()
    best = torch.tensor([3, 8, 9, 39])
    with torch.no_grad():
        x_item[best] = 50.0
        x_item[:3] += torch.tensor([[0.5], [-1.0], [0.25]], dtype=dtype)
    excluded = torch.stack([torch.arange(6).repeat_interleave(4), best.repeat(6)])
    lse = catalogue_logsumexp(x_user, x_item, excluded=excluded, tile=7)
    scores, expected = masked(x_user.detach(), x_item.detach(), excluded)
    torch.testing.assert_close(lse.detach().double(), expected, rtol=1e-6, atol=1e-6)
    lse.sum().backward()
    p, tolerance = scores.softmax(1), 1e-2 if dtype == torch.bfloat16 else 1e-5
    expected = p @ x_item.detach().double(), p.t() @ x_user.detach().double()
    for x, grad in zip((x_user, x_item), expected, strict=True):
        torch.testing.assert_close(x.grad.double(), grad, rtol=tolerance, atol=tolerance)
    assert not x_item.grad[best].any()


def test_users_with_nothing_left_and_tiles_with_nothing_left():
    x_user, x_item = tables(4, 9, 3, torch.float32, 100.0)
    nothing = torch.stack([torch.full((9,), 2), torch.arange(9)])
    first_tiles = torch.stack([torch.ones(6, dtype=torch.long), torch.arange(6)])
    excluded = torch.cat([nothing, first_tiles], 1)
    lse = catalogue_logsumexp(x_user, x_item, excluded=excluded, tile=3)
    _, expected = masked(x_user.detach(), x_item.detach(), excluded)
    assert lse[2] == -torch.inf
    torch.testing.assert_close(lse.detach().double(), expected, rtol=1e-5, atol=1e-5)
    lse[[0, 1, 3]].sum().backward()
    assert not x_user.grad[2].any() and bool(x_user.grad[1].any())
    assert bool(x_item.grad.isfinite().all())


def test_excluded_of_any_order_and_integer(monkeypatch):
    x_user, x_item = tables(20, 50, 4)
    excluded = pairs(20, 50, 150)
    whole = catalogue_logsumexp(x_user, x_item, excluded=excluded)
    monkeypatch.setattr(catalogue, "CPU_ENTRIES", 64)
    monkeypatch.setattr(catalogue, "MAX_ROWS", 8)
    shuffled = excluded[:, torch.randperm(150)].to(torch.int32)
    lse = catalogue_logsumexp(x_user, x_item, excluded=shuffled)
    torch.testing.assert_close(lse, whole, rtol=1e-12, atol=0)


def test_nan_is_not_excluded_with_its_item():
    # The representation of a user is NaN in all of its scores.
    x_user, x_item = tables(4, 9, 3)
    with torch.no_grad():
        x_user[2, 1] = torch.nan
    lse = catalogue_logsumexp(x_user, x_item, excluded=pairs(4, 9, 6), tile=2)
    assert lse.isnan().tolist() == [False, False, True, False]


@pytest.mark.parametrize(
    ("excluded", "message"),
    [
        (torch.zeros(3, dtype=torch.long), r"'excluded' must have shape \[2, E\] \(got \[3\]\)"),
        (torch.tensor([[2], [0]]), r"'excluded\[0\]' must lie in 0\.\.1 \(got 2\)"),
        (torch.tensor([[0], [4]]), r"'excluded\[1\]' must lie in 0\.\.3 \(got 4\)"),
        (torch.tensor([[0], [-2]]), r"'excluded\[1\]'.*-2"),
    ],
)
def test_refused_exclusions(excluded, message):
    with pytest.raises(ValueError, match=message):
        catalogue_logsumexp(torch.ones(2, 3), torch.ones(4, 3), excluded=excluded)


@pytest.mark.parametrize("side", [0, 1])
def test_nan_shows(side):
    pair = tables(4, 9, 3)
    with torch.no_grad():
        pair[side][2, 1] = torch.nan
    lse = catalogue_logsumexp(*pair, tile=2)
    assert lse.isnan().tolist() == ([False, False, True, False] if side == 0 else [True] * 4)


@pytest.mark.parametrize("student", [torch.float32, torch.bfloat16])
def test_under_autocast(student):
    x_user, x_item = tables(10, 40, 4, torch.bfloat16)
    x_user, x_item = (x.detach().to(student).requires_grad_() for x in (x_user, x_item))
    with torch.autocast("cpu", torch.bfloat16):
        lse = catalogue_logsumexp(x_user, x_item, tile=16)
        gradients = torch.autograd.grad(lse.sum(), (x_user, x_item))
    assert lse.dtype == torch.float32
    np.testing.assert_allclose(lse.detach(), one_by_one(x_user, x_item), rtol=1e-5)
    expected = softmax_gradients(x_user, x_item, torch.ones(10))
    for a, b in zip(gradients, expected, strict=True):
        assert a.dtype == student
        assert (a.double() - b).norm() < (1e-2 if student == torch.bfloat16 else 1e-5) * b.norm()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_operators_keep_the_rules_of_the_dispatcher(dtype):
    x_user, x_item = (x.detach() for x in tables(4, 9, 3, dtype))
    torch.library.opcheck(catalogue_sums, (x_user, x_item, 2))
    top, total = catalogue_sums(x_user, x_item, 2)
    torch.library.opcheck(catalogue_gradients, (1 / total, top, x_user, x_item, 2))
    hidden = tile_places(*pairs(4, 9, 6), [4, 9], 512, 2)
    torch.library.opcheck(catalogue_sums, (x_user, x_item, 2, *hidden))
    top, total = catalogue_sums(x_user, x_item, 2, *hidden)
    torch.library.opcheck(catalogue_gradients, (1 / total, top, x_user, x_item, 2, *hidden))


def test_fake_tensors_have_the_shape_and_refuse_two_devices():
    with FakeTensorMode():
        x_user = torch.empty(4, 3, device="cuda")
        x_item = torch.empty(9, 3, device="cuda")
        top, total = catalogue_sums(x_user, x_item, 2)
        assert top.shape == total.shape == (4,) and top.device.type == "cuda"
        gradients = catalogue_gradients(total, top, x_user, x_item, 2)
        assert [g.shape for g in gradients] == [(4, 3), (9, 3)]
        with pytest.raises(RuntimeError, match=r"one device .*'cpu', 'cuda:0'"):
            catalogue_sums(x_user, torch.empty(9, 3), 2)
        with pytest.raises(RuntimeError, match=r"one device .*'cpu', 'cuda:0'"):
            catalogue_gradients(torch.empty(4), top, x_user, x_item, 2)


@pytest.mark.parametrize(
    ("user", "item", "tile", "message"),
    [
        ((2, 3), (2, 4), None, r"one width \(got \[2, 3\] and \[2, 4\]\)"),
        ((6,), (2, 3), None, r"matrices .*\(got \[6\] and \[2, 3\]\)"),
        ((2, 3), (0, 3), None, r"'x_item' must hold an item \(got \[0, 3\]\)"),
        ((2, 3), (4, 3), 0, r"'tile' must be positive \(got 0\)"),
    ],
)
def test_refused_inputs(user, item, tile, message):
    with pytest.raises(ValueError, match=message):
        catalogue_logsumexp(torch.ones(user), torch.ones(item), tile=tile)


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(-1, 8)), max_size=30),
    st.integers(1, 8),
    st.integers(1, 10),
)
def test_marks_the_entries_of_every_tile(entries, row_block, col_tile):
    row, col = torch.tensor(entries, dtype=torch.int32).view(-1, 2).t()
    place, count = tile_places(row, col, [7, 9], row_block, col_tile)
    expected = torch.zeros(7, 9, dtype=torch.long)
    for r, c in entries:
        if c >= 0:
            expected[r, c] += 1
    tiles = [t for b in expected.split(row_block) for t in b.split(col_tile, dim=1)]
    assert len(count) == len(tiles)
    for tile, places in zip(tiles, place.split(count.tolist()), strict=True):
        assert torch.equal(places.bincount(minlength=tile.numel()).view(tile.shape), tile)


def test_no_rows():
    place, count = tile_places(*torch.empty(2, 0, dtype=torch.long), [0, 4], 2, 3)
    assert place.tolist() == count.tolist() == []


def test_very_many_tiles():
    row, col = torch.tensor([3, 0, 2]), torch.tensor([99_999, 5, 70_000])
    place, count = tile_places(row, col, [4, 100_000], 4, 2)
    assert count.nonzero().flatten().tolist() == [2, 35_000, 49_999]
    assert place.tolist() == [1, 4, 7]


@pytest.mark.parametrize("entry", [(7, 0), (0, 9), (-1, 0), (0, -2)])
def test_ids_out_of_range(entry):
    with pytest.raises(ValueError, match=r"'excluded\[[01]\]' must lie in"):
        tile_places(torch.tensor(entry[:1]), torch.tensor(entry[1:]), [7, 9], 3, 3)


def test_the_rules_of_the_dispatcher():
    # Shapes do not depend on values where nothing is padding.
    args = torch.tensor([0, 1, 3]), torch.tensor([2, 0, 4]), [4, 5], 2, 3
    torch.library.opcheck(tile_places, args)


def test_fake_tensors():
    with FakeTensorMode():
        row, col = (torch.empty(5, dtype=torch.int32, device="cuda") for _ in range(2))
        place, count = tile_places(row, col, [4, 9], 2, 4)
        assert place.shape == (5,) and count.shape == (6,) and place.device.type == "cuda"
        with pytest.raises(RuntimeError, match=r"one device .*'cpu', 'cuda:0'"):
            tile_places(row, torch.empty(5, dtype=torch.int32), [4, 9], 2, 4)


def test_excluded_pairs() -> None:
    user, item = torch.tensor([0, 0, 2, 2, 2, 3]), torch.tensor([5, 1, 0, 3, 4, 2])
    ptr, col = sorted_neighbors(user, item, 4, 6)
    rows = torch.tensor([2, 1, 0, 2])
    lists = torch.tensor([[5, -1], [0, 1], [2, 3], [-1, -1]], dtype=torch.int32)
    found = excluded_pairs(ptr, col, rows, lists)
    assert found.dtype == torch.int64
    expected = {(0, 0), (0, 3), (0, 4), (0, 5), (1, 0), (1, 1), (2, 1), (2, 5), (2, 2), (2, 3)}
    expected |= {(3, 0), (3, 3), (3, 4)}
    assert {(r, c) for r, c in found.t().tolist() if c >= 0} == expected
    assert found.size(1) == len(expected) + 3


def test_excluded_pairs_of_fake_tensors() -> None:
    with FakeTensorMode():
        ptr, col, rows = (torch.empty(n, dtype=torch.long, device="cuda") for n in (5, 7, 2))
        lists = torch.empty(2, 3, dtype=torch.int32, device="cuda")
        assert excluded_pairs(ptr, col, rows, lists).shape == (2, 13)
        with pytest.raises(RuntimeError, match=r"one device .*'cpu', 'cuda:0'"):
            excluded_pairs(ptr, torch.empty(7, dtype=torch.long), rows, lists)
