"""What a loss says it reads of the tables is all that it reads."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from pyg_kd.distill import Distillation
from pyg_kd.sharding.fetched import FetchedRows
from pyg_kd.sharding.reading import as_tables, part_of, rows_read
from pyg_kd.training import BPR, CatalogueSoftmax, SampledSoftmax
from pyg_kd.typing import Batch

LOSSES = {
    "bpr": BPR,
    "uniform": lambda: SampledSoftmax(num_negatives=8),
    "in_batch": lambda: SampledSoftmax(negatives="in_batch"),
    "both": lambda: SampledSoftmax(normalize=False, negatives="both", num_negatives=8),
    "catalogue": lambda: CatalogueSoftmax(num_items=20),
}

SHARES = [(0, 1), (2, 3)]


def part_for(world, place: tuple[int, int]) -> Batch:
    """A share whose sums over processes are its own part of them."""
    return world.batch.share(*place, lambda x: x)


def check(world, owner: nn.Module, batch: Batch, term: Callable[[dict[str, Tensor]], Tensor]):
    """A loss of rows that were fetched, and its gradients, are those of whole tables."""
    ids = rows_read([owner], world.graph, batch)
    expected = world.x_dict()
    loss = term(expected)
    leaves = {
        key: (x if ids[key] is None else x[ids[key]]).detach().requires_grad_()
        for key, x in expected.items()
    }
    tables = as_tables(leaves, ids, {key: len(x) for key, x in expected.items()})
    found = term(tables)
    torch.testing.assert_close(found, loss, rtol=0, atol=0)
    if not loss.requires_grad:
        assert not found.requires_grad
        return
    loss.backward()
    found.backward()
    for key, x in expected.items():
        grad = torch.zeros_like(x) if x.grad is None else x.grad
        rows = torch.arange(len(x)) if ids[key] is None else ids[key]
        own = leaves[key].grad
        own = torch.zeros_like(leaves[key]) if own is None else own
        torch.testing.assert_close(torch.zeros_like(x).index_copy(0, rows, own), grad)


@pytest.mark.parametrize("place", SHARES)
def test_methods(make, world, place: tuple[int, int]) -> None:
    method: Distillation = world.bind(make)
    batch = part_of(method, part_for(world, place))

    def term(x_dict: dict[str, Tensor]) -> Tensor:
        torch.manual_seed(1)
        value: Tensor = method(x_dict, world.graph, batch)
        return value

    check(world, method, batch, term)


@pytest.mark.parametrize("place", SHARES)
@pytest.mark.parametrize("name", LOSSES)
def test_base_losses(name: str, world, place: tuple[int, int]) -> None:
    loss, batch = LOSSES[name](), part_for(world, place)

    def term(x_dict: dict[str, Tensor]) -> Tensor:
        torch.manual_seed(1)
        reads_graph = getattr(loss, "reads_graph", False)
        value: Tensor = loss(x_dict, world.graph, batch) if reads_graph else loss(x_dict, batch)
        return value

    check(world, loss, batch, term)


def test_methods_that_read_rows_are_not_given_tables(world) -> None:
    """Lists are fetched item by item, though trainers of one process take the whole table."""
    from pyg_kd import RejuvenatedCrossEntropy, RelaxedRankingDistillation, SoftLabel

    for make in (
        lambda: SoftLabel(num_listed=4, tail="list"),
        lambda: RelaxedRankingDistillation(num_interesting=3, num_uninteresting=3),
        lambda: RejuvenatedCrossEntropy(num_listed=3, num_sampled=3, num_candidates=6),
    ):
        method = world.bind(make)
        method.on_epoch_start(0, 2, {key: x.detach() for key, x in world.x_dict().items()})
        ids = rows_read([method], world.graph, world.batch)
        assert ids["user"] is not None and ids["item"] is not None


def test_a_row_that_was_not_fetched(world) -> None:
    class Liar(BPR):
        def rows_read(self, graph, batch):
            return {"user": batch.user[:1], "item": batch.candidates}

    ids = rows_read([Liar()], world.graph, world.batch)
    leaves = {key: x[ids[key]] for key, x in world.x_dict().items()}
    tables = as_tables(leaves, ids, {key: len(x) for key, x in world.x_dict().items()})
    assert isinstance(tables["user"], FetchedRows)
    with pytest.raises(ValueError, match="of 'user' is read, but was not fetched"):
        Liar()(tables, world.batch)
