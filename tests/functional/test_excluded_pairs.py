from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from pyg_kd.functional.excluded_pairs import excluded_pairs
from pyg_kd.graph import sorted_neighbors


def test_pairs():
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


def test_fake_tensors():
    with FakeTensorMode():
        ptr, col, rows = (torch.empty(n, dtype=torch.long, device="cuda") for n in (5, 7, 2))
        lists = torch.empty(2, 3, dtype=torch.int32, device="cuda")
        assert excluded_pairs(ptr, col, rows, lists).shape == (2, 13)
        with pytest.raises(RuntimeError, match=r"one device .*'cpu', 'cuda:0'"):
            excluded_pairs(ptr, torch.empty(7, dtype=torch.long), rows, lists)
