"""Every method and every model that propagates meets sampled subgraphs, by global ids."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.functional.row_tables import make_row_table
from pyg_kd.loader import LinkNeighborLoader, sampling_graph
from pyg_kd.typing import Batch

KINDS = ("user", "item")


def around(data: HeteroData, user: Tensor, item: Tensor, num_neighbors: list[int]) -> HeteroData:
    """The subgraph around some users and items, the seeds of each type in a random order."""
    size = max(len(user), len(item))
    pairs = torch.stack([ids.repeat(-(-size // len(ids)))[:size] for ids in (user, item)])
    loader = LinkNeighborLoader(data, num_neighbors, pairs, batch_size=size)
    return shuffled(next(iter(loader)))


def shuffled(batch: HeteroData) -> HeteroData:
    """The same subgraph with its seeds in another order."""
    place = {}
    for kind in KINDS:
        num, all_nodes = batch[kind].num_sampled_nodes[0], batch[kind].num_nodes
        order = torch.cat([torch.randperm(num), torch.arange(num, all_nodes)])
        place[kind] = order.argsort()
        for name, value in batch[kind].items():
            if isinstance(value, Tensor) and len(value) == all_nodes:
                batch[kind][name] = value[order]
    for source, _, target in batch.edge_types:
        store = batch[source, target]
        start, end = store.edge_index
        ends = [place[source][start], place[target][end]]
        store.edge_index = torch.stack(ends)
        if "edge_label_index" in store:
            del store.edge_label_index
    return batch


def rows_read(world, method) -> dict[str, Tensor]:
    """The rows of the student that a batch reads; all of a type of which whole tables are."""
    x_dict, read = world.x_dict(), {kind: [] for kind in KINDS}
    tables = {}
    for kind, x in x_dict.items():
        tables[kind] = x
        if kind in method.row_wise:
            tables[kind] = x.detach().clone()

            def reader(index: Tensor, x: Tensor = x, found: list = read[kind]):
                rows = index[index >= 0].unique()
                found.append(rows)
                return x[rows], torch.searchsorted(rows, index.long().clamp(min=int(rows.min())))

            make_row_table(tables[kind], reader)
    world.loss(method, tables)
    return {
        kind: torch.cat(read[kind]).unique() if kind in method.row_wise else torch.arange(len(x))
        for kind, x in x_dict.items()
    }


def local(world, batch: HeteroData) -> tuple[dict[str, Tensor], dict[str, Tensor], Batch]:
    """Representations of all nodes, those of the subgraph's seeds, and the batch by local ids."""
    x_dict, rows, place = world.x_dict(), {}, {}
    for kind, x in x_dict.items():
        n_id, num = batch[kind].n_id, batch[kind].num_sampled_nodes[0]
        unknown = torch.full((len(n_id) - num, x.size(1)), torch.nan)
        rows[kind] = torch.cat([x[n_id[:num]], unknown])
        place[kind] = torch.full((len(x),), -1).index_copy(0, n_id, torch.arange(len(n_id)))
    whole = world.batch
    part = Batch(
        place["user"][whole.user], place["item"][whole.positive], place["item"][whole.negative]
    )
    return x_dict, rows, part


def loss_of(world, method, rows, batch, part) -> Tensor:
    torch.manual_seed(1)
    loss: Tensor = method(rows, batch, part)
    return loss


def seeds(world, method) -> dict[str, Tensor]:
    """What the method reads, and what the batch names."""
    read, batch = rows_read(world, method), world.batch
    return {
        "user": torch.cat([read["user"], batch.unique_users]).unique(),
        "item": torch.cat([read["item"], batch.unique_items]).unique(),
    }


def test_methods_read_rows_and_knowledge_by_global_ids(make, world) -> None:
    method = world.bind(make)
    batch = around(world.graph, **seeds(world, method), num_neighbors=[2])
    x_dict, rows, part = local(world, batch)
    found = loss_of(world, method, rows, batch, part)
    found.backward()
    gradients = [x_dict[kind].grad for kind in KINDS]
    expected = world.x_dict()
    loss = world.loss(method, expected)
    loss.backward()
    torch.testing.assert_close(found, loss, rtol=1e-5, atol=1e-5)
    for kind, grad in zip(KINDS, gradients, strict=True):
        grad = torch.zeros_like(x_dict[kind]) if grad is None else grad
        torch.testing.assert_close(grad, expected[kind].grad, rtol=1e-4, atol=1e-5)


def test_what_is_read_must_be_a_seed(make, world) -> None:
    method = world.bind(make)
    wanted = seeds(world, method)
    read = rows_read(world, method)
    kind = "item" if len(read["item"]) else "user"
    lost = read[kind][len(read[kind]) // 2]
    wanted[kind] = wanted[kind][wanted[kind] != lost]
    batch = around(world.graph, **wanted, num_neighbors=[-1])
    _, rows, part = local(world, batch)
    message = rf"{make.cls.__name__}|DistillationExperts"
    with pytest.raises(ValueError, match=rf"({message}) reads 1 {kind}s .* no seeds.* {lost}"):
        loss_of(world, method, rows, batch, part)


def test_methods_refuse_local_ids(make, world) -> None:
    method = world.bind(make)
    whole = {kind: torch.arange(world.graph[kind].num_nodes) for kind in KINDS}
    batch = around(world.graph, **whole, num_neighbors=[-1])
    _, rows, part = local(world, batch)
    assert bool(loss_of(world, method, rows, batch, part).isfinite())
    bare = copy.copy(batch)
    del bare["item"].n_id
    with pytest.raises(ValueError, match=r"'data\['item'\]\.n_id' is missing"):
        loss_of(world, method, rows, bare, part)
    unmarked = copy.copy(batch)
    for kind in KINDS:
        del unmarked[kind].n_id, unmarked[kind].num_sampled_nodes
    if make.cls.needs:
        with pytest.raises(ValueError, match="none back"):
            loss_of(world, method, rows, unmarked, part)
    wrong = copy.copy(batch)
    wrong["item"].n_id = wrong["item"].n_id.roll(1)
    with pytest.raises(ValueError, match="'n_id' is wrong"):
        loss_of(world, method, rows, wrong, part)
    with pytest.raises(RuntimeError, match=f"{make.cls.__name__} must be bound to the whole graph"):
        make()(rows, batch, part)


def test_models(model_cls, world) -> None:
    """A model whose users are made of items' rows represents seeds; others do or say no."""
    model = model_cls(world.data, 4).eval()
    batch = around(
        sampling_graph(world.data), torch.tensor([7, 3]), torch.tensor([5, 9, 2]), [-1] * 4
    )
    whole = model(world.data)
    tables = [p for name, p in model.named_parameters() if name.endswith("item_embedding")]
    propagates = False
    if model.trainable and tables and whole["user"].requires_grad:
        (grad,) = torch.autograd.grad(
            whole["user"].sum(), tables, retain_graph=True, allow_unused=True
        )
        propagates = grad is not None and bool(grad.any())
    try:
        found = model(batch)
    except ValueError as error:
        assert f"{model_cls.__name__} does not read sampled subgraphs" in str(error)
        assert not propagates
        return
    for kind in KINDS:
        ids = batch[kind].n_id[: batch[kind].num_sampled_nodes[0]]
        rows = found[kind][: len(ids)]
        torch.testing.assert_close(rows, whole[kind][ids], rtol=1e-5, atol=1e-6)
        assert bool(found[kind][len(ids) :].isnan().all())
    del batch["user"].n_id
    with pytest.raises(ValueError, match=r"'data\['user'\]\.n_id' is missing"):
        model(batch)


def test_lightgcn_and_ngcf_are_among_them(world) -> None:
    from pyg_kd import models
    from pyg_kd.models.sampled import SubgraphModel

    readers = {
        name
        for name in models.__all__
        if getattr(models, name).represent_seeds is not SubgraphModel.represent_seeds
    }
    assert {"LightGCN", "NGCF", "MF", "QuantizationAware"} <= readers
