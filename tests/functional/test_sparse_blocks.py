from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.index import index2ptr

from pyg_kd.functional import sparse_blocks
from pyg_kd.functional.sparse import CSR
from pyg_kd.functional.sparse_blocks import product_block


def random_csr(rng: np.random.Generator, rows: int, cols: int) -> tuple[CSR, np.ndarray]:
    dense = rng.normal(size=(rows, cols)) * (rng.random((rows, cols)) < rng.random())
    row, col = torch.from_numpy(dense).nonzero(as_tuple=True)
    ptr = index2ptr(row, rows).to(torch.int32)
    return CSR(ptr, col.to(torch.int32), torch.from_numpy(dense)[row, col]), dense


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(0, 6), st.integers(0, 6), st.integers(1, 9))
def test_blocks_are_parts_of_the_product(seed, num_rows, num_cols, limit) -> None:
    rng = np.random.default_rng(seed)
    (first, a), (second, b) = random_csr(rng, 5, 7), random_csr(rng, 7, 4)
    rows, cols = rng.integers(0, 5, num_rows), rng.integers(0, 4, num_cols)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparse_blocks, "MAX_PRODUCTS", limit)
        found = product_block(first, second, torch.from_numpy(rows), torch.from_numpy(cols), 4)
    np.testing.assert_allclose(found.numpy(), (a @ b)[rows][:, cols], atol=1e-12)


def test_both_ways_are_taken(monkeypatch) -> None:
    taken = []
    for name in ("_columns", "_add_products"):
        whole = getattr(sparse_blocks, name)
        monkeypatch.setattr(
            sparse_blocks, name, lambda *a, n=name, f=whole: (taken.append(n), f(*a))[1]
        )
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(50, 40)), rng.normal(size=(40, 30))
    (first, second) = (
        CSR(
            torch.arange(0, m.size + 1, m.shape[1], dtype=torch.int32),
            torch.arange(m.shape[1], dtype=torch.int32).repeat(len(m)),
            torch.from_numpy(m).flatten(),
        )
        for m in (a, b)
    )
    for rows, cols in ((range(50), [3]), ([7], range(30))):
        index = torch.tensor([*rows]), torch.tensor([*cols])
        found = product_block(first, second, *index, 30)
        np.testing.assert_allclose(found.numpy(), (a @ b)[list(rows)][:, list(cols)], atol=1e-12)
    assert taken == ["_columns", "_add_products"]
