"""Rows that were fetched stand for the table that they are of."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pyg_kd.functional import edge_scores, gather_rows, list_scores
from pyg_kd.sharding.fetched import FetchedRows


def table_and_rows(
    size: int, ids: list[int], generator: torch.Generator
) -> tuple[Tensor, Tensor, FetchedRows]:
    table = torch.randn(size, 3, generator=generator, dtype=torch.double).requires_grad_()
    which = torch.tensor(sorted(set(ids)), dtype=torch.int64)
    rows = table.detach()[which].requires_grad_()
    return table, rows, FetchedRows(rows, which, size, "item")


@given(st.integers(1, 12), st.data())
def test_values_and_gradients_are_those_of_the_table(size: int, draw: st.DataObject) -> None:
    """By plain indexing of a dense table in float64."""
    generator = torch.Generator().manual_seed(draw.draw(st.integers(0, 999)))
    ids = draw.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=12))
    index = torch.tensor(draw.draw(st.lists(st.sampled_from(ids), min_size=1, max_size=9)))
    table, rows, fetched = table_and_rows(size, ids, generator)
    assert (fetched.shape, fetched.dtype, len(fetched)) == (table.shape, table.dtype, size)
    user = torch.randn(len(index), 3, generator=generator, dtype=torch.double)
    weight = torch.randn(len(index), generator=generator, dtype=torch.double)
    edges = torch.stack([torch.arange(len(index)), index])
    lists = index.unsqueeze(1)

    def loss(x: Tensor, pick, score, of_lists) -> Tensor:
        parts = (pick(x) * user).sum(1), score(x), of_lists(x).squeeze(1)
        return torch.stack([(part * weight).sum() for part in parts]).square().sum()

    expected = loss(
        table,
        lambda x: x[index],
        lambda x: (user * x[index]).sum(1),
        lambda x: torch.einsum("bd,bkd->bk", user, x[lists]),
    )
    found = loss(
        fetched,
        lambda x: gather_rows(x, index),
        lambda x: edge_scores(user, x, edges),
        lambda x: list_scores(user, x, lists),
    )
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    expected.backward()
    found.backward()
    assert table.grad is not None and rows.grad is not None
    dense = torch.zeros_like(table).index_copy(0, fetched.ids, rows.grad)
    torch.testing.assert_close(dense, table.grad, rtol=1e-9, atol=1e-9)


def test_padding_is_masked() -> None:
    _, _, fetched = table_and_rows(9, [0, 4], torch.Generator().manual_seed(0))
    scores = list_scores(torch.ones(1, 3, dtype=torch.double), fetched, torch.tensor([[4, -1]]))
    assert scores[0, 1] == -torch.inf and scores[0, 0] == fetched.rows[1].sum()


@pytest.mark.parametrize("missing", [0, 3, 8])
def test_what_was_not_fetched(missing: int) -> None:
    _, _, fetched = table_and_rows(9, [2, 4], torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match=f"row {missing} of 'item' is read, but was not fetched"):
        gather_rows(fetched, torch.tensor([4, missing]))


def test_nothing_was_fetched() -> None:
    fetched = FetchedRows(torch.empty(0, 3), torch.empty(0, dtype=torch.int64), 9, "user")
    assert gather_rows(fetched, torch.empty(0, dtype=torch.int64)).shape == (0, 3)
    with pytest.raises(ValueError, match="row 1 of 'user'"):
        gather_rows(fetched, torch.tensor([1]))


def test_a_table_is_not_read_as_a_whole() -> None:
    _, _, fetched = table_and_rows(9, [2, 4], torch.Generator().manual_seed(0))
    for read in (lambda: fetched.sum(), lambda: fetched[0], lambda: fetched.detach() + 1):
        with pytest.raises(TypeError, match="reads the table of 'item' as a whole"):
            read()
    assert repr(fetched) == "FetchedRows(2 of 9, 'item')"
