"""What every model keeps that is computed from a graph and not trained."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.knowledge.requirements import model_fingerprint
from pyg_kd.models import MF
from pyg_kd.training import Trainer
from pyg_kd.typing import INTERACTS

DIM = 5


@pytest.fixture
def model(fitted_cls, world):
    return fitted_cls(world.data, DIM)


def scores(model, data: HeteroData) -> Tensor:
    return model.score_block(*model(data).values())


def changed(data: HeteroData, edges: Tensor) -> HeteroData:
    data = data.clone()
    data[INTERACTS].edge_index = edges
    return data


def test_nothing_is_drawn(fitted_cls, model, world) -> None:
    torch.manual_seed(7)
    twin = fitted_cls(world.data, DIM)
    assert torch.equal(scores(twin, world.data), scores(model, world.data))
    assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(7)))
    assert list(model.parameters()) == []


def test_it_is_not_trained(model, world) -> None:
    with pytest.raises(ValueError, match=f"{type(model).__name__} needs no training"):
        Trainer(max_epochs=1, progress=False).fit(model, world.data)


def test_other_edges_are_refused(model, world) -> None:
    edges = world.data[INTERACTS].edge_index
    with pytest.raises(ValueError, match="'data' has other edges than the graph"):
        model(changed(world.data, edges[:, ::2]))
    data = changed(world.data, edges.clone())
    model(data)
    data[INTERACTS].edge_index[1, 0] = (edges[1, 0] + 1) % data["item"].num_nodes
    with pytest.raises(ValueError, match="'data' has other edges than the graph"):
        model(data)


def test_the_order_of_edges_does_not_matter(model, world) -> None:
    data = changed(world.data, world.data[INTERACTS].edge_index.flip(1))
    assert torch.equal(scores(model, data), scores(model, world.data))


def test_repeated_edges_count_once(fitted_cls, model, world) -> None:
    edges = world.data[INTERACTS].edge_index
    data = changed(world.data, torch.cat([edges, edges[:, :9]], dim=1))
    torch.testing.assert_close(scores(fitted_cls(data, DIM), data), scores(model, world.data))


def test_names_of_entities_do_not_matter(fitted_cls, model, world) -> None:
    sizes = [world.data[node_type].num_nodes for node_type in ("user", "item")]
    user, item = (torch.randperm(n, generator=torch.Generator().manual_seed(n)) for n in sizes)
    edges = world.data[INTERACTS].edge_index
    data = changed(world.data, torch.stack([user[edges[0]], item[edges[1]]]).flip(1))
    found = scores(fitted_cls(data, DIM), data)[user][:, item]
    torch.testing.assert_close(found, scores(model, world.data), rtol=1e-3, atol=1e-5)


def test_blocks_are_parts_of_the_whole(model, world) -> None:
    x_user, x_item = model(world.data).values()
    whole = scores(model, world.data)
    users, items = torch.tensor([7, 3, 7]), torch.tensor([100, 2, 50, 2, 9])
    for rows, cols in ((users, items), (items[3:], users), (users[:0], items), (users, items[:0])):
        block = model.score_block(x_user[rows], x_item[cols])
        torch.testing.assert_close(block, whole[rows][:, cols])
    many = model.score_block(x_user, x_item[items])
    torch.testing.assert_close(many, whole[:, items])


def test_entities_without_edges(fitted_cls, world) -> None:
    edges = world.data[INTERACTS].edge_index
    data = changed(world.data, edges[:, (edges[0] != 3) & (edges[1] != 7)])
    found = scores(fitted_cls(data, DIM), data)
    assert bool(found.isfinite().all())
    assert not found[3].any() and not found[:, 7].any()
    assert int(found.any(dim=1).sum()) == len(found) - 1


def test_state_is_the_model(fitted_cls, model, world) -> None:
    edges = world.data[INTERACTS].edge_index
    mirrored = torch.stack([edges[0], world.data["item"].num_nodes - 1 - edges[1]])
    data = changed(world.data, mirrored)
    other = fitted_cls(data, DIM)
    assert model_fingerprint(other) != model_fingerprint(model)
    other.load_state_dict(model.state_dict())
    assert torch.equal(scores(other, world.data), scores(model, world.data))
    assert model_fingerprint(other) == model_fingerprint(model)
    assert model_fingerprint(other) != model_fingerprint(MF(world.data, DIM))


def test_another_state_is_of_another_graph(fitted_cls, model, world) -> None:
    scores(model, world.data)
    edges = world.data[INTERACTS].edge_index
    mirrored = torch.stack([edges[0], world.data["item"].num_nodes - 1 - edges[1]])
    data = changed(world.data, mirrored)
    model.load_state_dict(fitted_cls(data, DIM).state_dict())
    with pytest.raises(ValueError, match="'data' has other edges than the graph"):
        model(world.data)
    scores(model, data)


def test_float64(model, world) -> None:
    found = scores(copy.deepcopy(model).double(), world.data)
    assert found.dtype == torch.double
    torch.testing.assert_close(found.float(), scores(model, world.data), rtol=1e-4, atol=1e-5)
