from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from pyg_kd.functional import list_likelihood_loss, list_scores
from pyg_kd.functional.ranked_lists import ranked_lists_forward, ranked_lists_loss
from pyg_kd.functional.row_tables import make_row_table

ROWS, COLS, DIM = 12, 9, 3


def tables(seed: int = 0, dtype: torch.dtype = torch.double, size: float = 1.0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    drawn = (torch.randn(n, DIM, generator=generator).double() * size for n in (ROWS, COLS))
    return [x.to(dtype).requires_grad_() for x in drawn]


def by_hand(x_row, x_col, rows, lists, num_listed, weight, scale):
    """The loss and its gradients, list by list and place by place."""
    loss, g_row, g_col = 0.0, np.zeros_like(x_row), np.zeros_like(x_col)
    for place, row in enumerate(rows):
        score = {c: scale * float(x_row[row] @ x_col[c]) for c in lists[place] if c >= 0}
        tail = [c for c in lists[place][num_listed:] if c >= 0]
        ranked = [(k, c) for k, c in enumerate(lists[place][:num_listed]) if c >= 0]
        slope = dict.fromkeys(score, 0.0)
        for start, (k, column) in enumerate(ranked):
            own = 1.0 if weight is None else float(weight[place][k])
            below = [c for _, c in ranked[start:]] + tail
            total = sum(math.exp(score[c]) for c in below)
            loss += own * (math.log(total) - score[column])
            for c in below:
                slope[c] += own * math.exp(score[c]) / total
            slope[column] -= own
        for c, s in slope.items():
            g_row[row] += scale * s * x_col[c]
            g_col[c] += scale * s * x_row[row]
    return loss, g_row, g_col


@st.composite
def problems(draw):
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**30)))
    rows = sorted(draw(st.sets(st.integers(0, ROWS - 1), max_size=5)))
    width = draw(st.integers(1, 6))
    num_listed, padded = draw(st.integers(1, width)), draw(st.booleans())
    noise = torch.rand(len(rows), COLS, generator=generator)
    lists = noise.argsort(1)[:, :width]
    if padded:
        lists[torch.rand(lists.shape, generator=generator) < 0.4] = -1
    weight = None
    if draw(st.booleans()):
        weight = torch.rand(len(rows), num_listed, generator=generator, dtype=torch.double)
    return torch.tensor(rows, dtype=torch.long), lists.int(), num_listed, weight, padded


@given(problems(), st.sampled_from([1.0, 0.3]), st.integers(0, 2**30))
def test_value_and_gradients(problem, scale, seed):
    rows, lists, num_listed, weight, padded = problem
    x_row, x_col = tables(seed)
    options = {"weight": weight, "scale": scale, "padded": padded}
    loss = ranked_lists_loss(x_row, x_col, rows, lists, num_listed, **options)
    found = torch.autograd.grad(2 * loss, (x_row, x_col))
    constant = (t.detach().numpy() for t in (x_row, x_col))
    weights = None if weight is None else weight.tolist()
    expected = by_hand(*constant, rows.tolist(), lists.tolist(), num_listed, weights, scale)
    assert loss.item() == pytest.approx(expected[0], rel=1e-12, abs=1e-12)
    for a, b in zip(found, expected[1:], strict=True):
        np.testing.assert_allclose(a.numpy(), 2 * b, rtol=1e-9, atol=1e-12)


def world(padded: bool = False) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    lists = torch.rand(4, COLS, generator=generator).argsort(1)[:, :6].int()
    if padded:
        lists[0], lists[1, 2:4], lists[2, 3:] = -1, -1, -1  # nothing, a gap, no tail
    return torch.tensor([1, 4, 5, 10]), lists


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("size", [0.5, 30.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_it_is_the_loss_of_the_scores(dtype, size, padded):
    # Scores that are moderate, near the ends of float32, and beyond them.
    x_row, x_col = tables(2, dtype, size)
    rows, lists = world(padded)
    scores = list_scores(x_row[rows], x_col, lists)
    expected = list_likelihood_loss(scores[:, :4], scores[:, 4:])
    loss = ranked_lists_loss(x_row, x_col, rows, lists, 4, padded=padded)
    torch.testing.assert_close(loss, expected)
    for a, b in zip(
        torch.autograd.grad(loss, (x_row, x_col)),
        torch.autograd.grad(expected, (x_row, x_col)),
        strict=True,
    ):
        assert a.isfinite().all()
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5 * size)


def test_gradcheck():
    rows, lists = world(padded=True)
    weight = torch.rand(4, 4, dtype=torch.double)
    assert torch.autograd.gradcheck(
        lambda *x: ranked_lists_loss(*x, rows, lists, 4, weight=weight, scale=0.5), tables(3)
    )


@pytest.mark.parametrize("wanted", [0, 1])
def test_only_what_asks_gets_a_gradient(wanted):
    both, (rows, lists) = tables(4), world()
    expected = torch.autograd.grad(ranked_lists_loss(*both, rows, lists, 4), both)[wanted]
    alone = [x if place == wanted else x.detach() for place, x in enumerate(both)]
    (found,) = torch.autograd.grad(ranked_lists_loss(*alone, rows, lists, 4), alone[wanted])
    assert torch.equal(found, expected)


def test_a_second_pass_through_a_graph_is_the_same():
    both, (rows, lists) = tables(5), world()
    loss = ranked_lists_loss(*both, rows, lists, 4)
    first = torch.autograd.grad(loss, both, retain_graph=True)
    for a, b in zip(first, torch.autograd.grad(loss, both), strict=True):
        assert torch.equal(a, b)


def test_half_precision_is_float32_inside():
    halves, (rows, lists) = tables(6, torch.bfloat16), world()
    loss = ranked_lists_loss(*halves, rows, lists, 4)
    wide = [x.detach().float().requires_grad_() for x in halves]
    expected = ranked_lists_loss(*wide, rows, lists, 4)
    assert loss.dtype == torch.bfloat16
    torch.testing.assert_close(loss.float(), expected, rtol=1e-2, atol=0)
    for a, b in zip(
        torch.autograd.grad(loss, halves), torch.autograd.grad(expected, wide), strict=True
    ):
        assert a.dtype == torch.bfloat16
        torch.testing.assert_close(a.float(), b, rtol=5e-2, atol=5e-2)


def test_nan_is_not_hidden():
    x_row, x_col = tables(7)
    rows, lists = world()
    with torch.no_grad():
        x_row[4] = torch.nan
    for padded in (False, True):
        assert ranked_lists_loss(x_row, x_col, rows, lists, 4, padded=padded).isnan()


def test_padding_that_was_denied_is_refused():
    rows, lists = world(padded=True)
    with pytest.raises(ValueError, match=r"'col' .*\(got .*-1"):
        ranked_lists_loss(*tables(8), rows, lists, 4, padded=False)


class Sizes(TorchDispatchMode):
    """Entries of everything that is made."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        parts = out if isinstance(out, tuple) else (out,)
        made = [t.numel() for t in parts if isinstance(t, Tensor) and t.layout == torch.strided]
        self.largest = max([self.largest, *made])
        return out


def test_nothing_with_an_entry_for_every_row_and_column_is_made():
    generator = torch.Generator().manual_seed(0)
    x_row, x_col = (torch.randn(500, 2, generator=generator).requires_grad_() for _ in range(2))
    rows, lists = torch.arange(0, 500, 10), torch.randint(500, (50, 6), generator=generator)
    with Sizes() as sizes:
        ranked_lists_loss(x_row, x_col, rows, lists, 4).backward()
    assert sizes.largest == 500 * 2


def test_the_operator_is_sound():
    rows, lists = world(padded=True)
    x_row, x_col = (x.detach() for x in tables(9, torch.float))
    weight, lists = torch.rand(4, 4), lists.int()
    args = (x_row[rows], x_col, lists.clamp(min=0), lists < 0, weight, 4, 0.5)
    torch.library.opcheck(ranked_lists_forward, args)
    args = (x_row[rows], x_col, lists.clamp(min=0), None, None, 4, 1.0)
    torch.library.opcheck(ranked_lists_forward, args)


def test_other_devices_have_their_shapes():
    with FakeTensorMode():
        x_row, x_col = (torch.empty(n, DIM, device="cuda") for n in (ROWS, COLS))
        rows = torch.empty(4, dtype=torch.long, device="cuda")
        lists = torch.empty(4, 6, dtype=torch.int32, device="cuda")
        loss = ranked_lists_loss(x_row, x_col, rows, lists, 4)
        assert loss.device.type == "cuda" and loss.shape == ()
        with pytest.raises(RuntimeError, match="one device"):
            ranked_lists_loss(x_row, torch.empty(COLS, DIM), rows, lists, 4)


def test_padding_asks_for_no_row_of_its_own():
    (x_row, x_col), (rows, lists) = tables(10), world(padded=True)
    lists[lists == 0] = 1
    asked: list[Tensor] = []

    def reader(index: Tensor) -> tuple[Tensor, Tensor]:
        asked.append(index)
        return x_col, index

    table = x_col.detach()
    make_row_table(table, reader)
    found = ranked_lists_loss(x_row, table, rows, lists, 4)
    torch.testing.assert_close(found, ranked_lists_loss(x_row, x_col, rows, lists, 4))
    list_scores(x_row[rows], table, lists)
    listed = set(lists.flatten().tolist()) - {-1}
    assert [set(ids.flatten().tolist()) for ids in asked] == [listed, listed]
