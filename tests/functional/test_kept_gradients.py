from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pyg_kd.functional.kept_gradients import (
    end_kept_gradient,
    gradient_of_distinct_rows,
    gradient_of_rows,
    keep_gradient,
    kept_gradient,
)
from pyg_kd.functional.ranked_lists import ranked_lists_loss
from pyg_kd.functional.triples import triple_loss

USER, CANDIDATES = torch.tensor([0, 2, 0]), torch.tensor([[1, 4], [1, 3], [0, 1]])
ROWS, LISTS = torch.tensor([0, 3]), torch.tensor([[4, 1, 0], [2, 1, 3]])


def tables() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(n, 2, generator=generator).double()) for n in (4, 5)]


def loss(x_user, x_item):
    """Terms by operators, and one that comes through autograd alone."""
    triples = triple_loss(x_user, x_item, USER, CANDIDATES)
    lists = ranked_lists_loss(x_user, x_item, ROWS, LISTS, 2, scale=0.5)
    return triples + 2 * lists + x_item[:2].square().sum()


def test_gradients_are_those_of_autograd_in_every_step():
    plain, kept = tables(), tables()
    for x in kept:
        keep_gradient(x)
    for _ in range(2):  # what the memory held before does not count
        expected = torch.autograd.grad(loss(*plain), plain)
        for x in kept:
            x.grad = None
        loss(*kept).backward()
        for x, grad in zip(kept, expected, strict=True):
            torch.testing.assert_close(x.grad, grad, rtol=1e-12, atol=1e-14)


def test_memory_is_used_again_and_steps_without_forgetting_add_up():
    (x, item), places = tables(), set()
    keep_gradient(x)
    for _ in range(3):
        x.grad = None
        triple_loss(x, item, USER, CANDIDATES).backward()
        places.add(x.grad.data_ptr())
    once = x.grad.clone()
    triple_loss(x, item, USER, CANDIDATES).backward()
    assert len(places) == 1
    torch.testing.assert_close(x.grad, 2 * once, rtol=1e-12, atol=0)


def test_a_gradient_that_was_there_before_is_added_to():
    x = tables()[0]
    keep_gradient(x)
    before = x.grad = torch.ones(4, 2, dtype=torch.double)
    assert gradient_of_distinct_rows(x, torch.tensor([3]), x.detach()[:1]) is None
    np.testing.assert_allclose(x.grad[3].numpy(), 1 + x.detach()[0].numpy())
    assert x.grad is before
    x.grad = torch.ones(2, 4, dtype=torch.double).t()  # of another layout
    assert kept_gradient(x) is None


@pytest.mark.parametrize("why", ["hook", "no leaf", "constant", "half", "elsewhere", "ended"])
def test_what_is_not_kept(why):
    x = nn.Parameter(torch.ones(3, 2))
    x = {"no leaf": x * 1, "constant": x.detach(), "half": x.detach().half().requires_grad_()}.get(
        why, x
    )
    if why == "elsewhere":
        x = torch.empty(3, 2, device="meta", requires_grad=True)
    keep_gradient(x)
    if why == "hook":  # whenever it comes
        x.register_hook(lambda grad: grad)
    if why == "ended":
        end_kept_gradient(x)
    assert kept_gradient(x) is None
    if why != "elsewhere":
        value = torch.ones(1, 2, dtype=x.dtype)
        found = gradient_of_rows(x, torch.tensor([[0, 0]]), value, value)
        assert found.dtype == x.dtype and found.tolist() == [[2.0, 2.0], [0.0, 0.0], [0.0, 0.0]]
