from __future__ import annotations

import numpy as np
import pytest
import torch

from pyg_kd.functional.multinomial import multinomial_loss
from pyg_kd.functional.sparse import CSR

#: The columns of each of four rows; one has none, and one has all.
COLUMNS = [[1, 4], [], [0, 1, 2, 3, 4], [3]]
OBSERVED = CSR(
    torch.tensor([0, 2, 2, 7, 8], dtype=torch.int32),
    torch.tensor([c for columns in COLUMNS for c in columns], dtype=torch.int32),
    torch.ones(8),
)


def oracle(x_row: np.ndarray, x_col: np.ndarray, rows: list[int]) -> float:
    total = 0.0
    for x, row in zip(x_row, rows, strict=True):
        scores = [float(x @ y) for y in x_col]
        denominator = sum(np.exp(s) for s in scores)
        for column in COLUMNS[row]:
            total -= np.log(np.exp(scores[column]) / denominator)
    return total


@pytest.mark.parametrize("rows", [[2, 0], [1], [3, 1, 0, 2], []])
def test_value_and_gradient(rows):
    x = torch.randn(len(rows), 3, dtype=torch.double, requires_grad=True)
    y = torch.randn(5, 3, dtype=torch.double, requires_grad=True)
    index = torch.tensor(rows, dtype=torch.long)
    loss = multinomial_loss(x, y, index, OBSERVED)
    expected = oracle(x.detach().numpy(), y.detach().numpy(), rows)
    assert loss.shape == () and loss.item() == pytest.approx(expected, rel=1e-10, abs=1e-12)
    assert torch.autograd.gradcheck(lambda x, y: multinomial_loss(x, y, index, OBSERVED), (x, y))


def test_large_scores():
    x, y = torch.full((1, 1), 1e4), torch.tensor([[1.0], [0.5], [0.0], [1.0], [-1.0]])
    x.requires_grad_()
    loss = multinomial_loss(x, y, torch.tensor([3]), OBSERVED)
    assert loss.item() == pytest.approx(np.log(2), abs=1e-2)
    loss.backward()
    assert bool(x.grad.isfinite().all())
