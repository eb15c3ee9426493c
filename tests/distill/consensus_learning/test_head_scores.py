from __future__ import annotations

import torch

from pyg_kd.distill.consensus_learning.head_scores import head_scores
from pyg_kd.functional.edge_scores import list_scores

ITEMS = torch.tensor([[3, 0, -1], [1, 1, 6], [-1, -1, -1], [2, 5, 4]])


def vectors() -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [
        tuple(torch.randn(n, d, dtype=torch.double, requires_grad=True) for n in (4, 7))
        for d in (2, 5, 3)
    ]


def test_each_head_as_if_alone() -> None:
    heads, weight = vectors(), torch.randn(3, 4, 3).double()
    found = head_scores(heads, ITEMS.int())
    expected = torch.stack([list_scores(*pair, ITEMS) for pair in heads])
    torch.testing.assert_close(found, expected)
    flat, grads = [x for pair in heads for x in pair], []
    for scores in (found, expected):
        value = (torch.where(ITEMS < 0, 0.0, scores) * weight).sum()
        grads.append(torch.autograd.grad(value, flat))
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other)
        assert one.any()


def test_columns_of_one_matrix() -> None:
    x_user, x_item = torch.randn(4, 6, requires_grad=True), torch.randn(7, 6)
    parts = [(x_user[:, a:b], x_item[:, a:b]) for a, b in ((0, 2), (2, 6))]
    scores = head_scores(parts, ITEMS)
    torch.testing.assert_close(scores[1, 3, 1], x_user[3, 2:] @ x_item[5, 2:])
    scores[1, 3, 1].backward()
    assert x_user.grad[:, :2].eq(0).all() and x_user.grad[:3].eq(0).all()
    torch.testing.assert_close(x_user.grad[3, 2:], x_item[5, 2:])
