"""Terms of a loss that say they read only rows of a table do, and say which before they do."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from pyg_kd.functional.row_tables import as_rows, make_row_table
from pyg_kd.training import BPR, CatalogueSoftmax, SampledSoftmax

LOSSES = {
    "bpr": BPR,
    "sampled_softmax": SampledSoftmax,
    "inner": lambda: SampledSoftmax(normalize=False, negatives="both"),
    "catalogue": CatalogueSoftmax,
}


def hidden(table: Tensor) -> Tensor:
    """A table that is NaN, and hands out the rows of another."""
    hidden = nn.Parameter(torch.full_like(table, torch.nan))

    def read(index: Tensor) -> tuple[Tensor, Tensor]:
        assert int(index.min()) >= 0 and int(index.max()) < len(table)
        rows, place = index.unique(return_inverse=True)
        return as_rows(hidden, rows, table.detach()[rows]), place

    make_row_table(hidden, read)
    return hidden


def check(row_wise: tuple[str, ...], world, term: Callable[[dict[str, Tensor]], Tensor]) -> None:
    expected, found = world.x_dict(), world.x_dict()
    found |= {key: hidden(expected[key]) for key in row_wise}
    loss, of_rows = term(expected), term(found)
    torch.testing.assert_close(of_rows, loss)
    loss.backward()
    of_rows.backward()
    for key in row_wise:
        assert found[key].grad is None or found[key].grad.is_sparse
    for key, x in expected.items():
        grad = torch.zeros_like(x) if found[key].grad is None else found[key].grad.to_dense()
        torch.testing.assert_close(grad, torch.zeros_like(x) if x.grad is None else x.grad)


def test_methods(make, world) -> None:
    method = world.bind(make)
    assert set(method.row_wise) <= {"user", "item"}
    if not method.row_wise:
        pytest.skip("it reads whole tables")
    check(method.row_wise, world, lambda x_dict: world.loss(method, x_dict))


@pytest.mark.parametrize("name", LOSSES)
def test_base_losses(name: str, world) -> None:
    loss = LOSSES[name]()

    def term(x_dict: dict[str, Tensor]) -> Tensor:
        torch.manual_seed(1)
        arguments = (world.graph, world.batch) if name == "catalogue" else (world.batch,)
        value: Tensor = loss(x_dict, *arguments)
        return value

    assert loss.row_wise
    check(loss.row_wise, world, term)
