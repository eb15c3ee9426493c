from __future__ import annotations

import numpy as np
import pytest
import torch

from pyg_kd.training.row_records import in_large_pages, put_rows, take_rows

TABLES = {
    "float": torch.randn(9, 5),
    "double": torch.randn(9, 3, dtype=torch.double),
    "half": torch.randn(9, 5).bfloat16(),
    "transposed": torch.randn(5, 9).t(),
    "no columns": torch.zeros(9, 0),
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("rows", [[7, 0, 8], []])
def test_rows_are_those_of_indexing(name: str, rows: list[int]) -> None:
    table, index = TABLES[name].clone(), torch.tensor(rows, dtype=torch.long)
    taken = take_rows(table, index)
    assert taken.dtype == table.dtype
    assert torch.equal(taken, table[index])
    taken.fill_(3.0)  # a tensor of its own
    expected = table.clone()
    assert torch.equal(table, TABLES[name])
    expected[index] = 2 * table[index] + 1
    put_rows(table, index, 2 * table[index] + 1)
    assert torch.equal(table, expected)


def test_values_may_be_views() -> None:
    table, values = torch.zeros(4, 2), torch.arange(6.0).view(2, 3).t()
    put_rows(table, torch.tensor([3, 0, 2]), values)
    assert table.tolist() == [[1, 4], [0, 0], [2, 5], [0, 3]]


def test_large_pages_hold_a_copy() -> None:
    table = torch.randn(6, 2)
    copy = in_large_pages(table)
    assert torch.equal(copy, table)
    assert not np.shares_memory(copy.numpy(), table.numpy())
    half = table.bfloat16()
    assert in_large_pages(half) is half
