"""What every model keeps, found by looking at what the package exports."""

from __future__ import annotations

import copy
import inspect

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.functional import interactions, normalized_adjacency
from pyg_kd.training import Trainer
from pyg_kd.training.losses import BASE_LOSSES, OWN
from pyg_kd.typing import INTERACTS, Batch

DIM = 8


@pytest.fixture
def model(model_cls, world):
    return model_cls(world.data, DIM).eval()  # without noise


@pytest.fixture
def learner(learner_cls, world):
    return learner_cls(world.data, DIM).eval()


def size_option(model_cls) -> str:
    """The argument after the graph: a width, or what takes its place."""
    return list(inspect.signature(model_cls).parameters)[1]


def sizes(data: HeteroData) -> tuple[int, int]:
    return data["user"].num_nodes, data["item"].num_nodes


def base_loss(model):
    """The loss that the trainer takes by default."""
    if model.default_loss == OWN:
        return model.own_loss
    loss = BASE_LOSSES["bpr"]()
    return lambda x_dict, data, batch: loss(x_dict, batch)


def test_representations(model, world) -> None:
    x_dict = model(world.data)
    assert set(x_dict) == {"user", "item"}
    for node_type, x in x_dict.items():
        assert x.shape == (world.data[node_type].num_nodes, model.out_dim)
        assert bool(x.isfinite().all()) and x.requires_grad is model.trainable
        # What has no space may be told apart by number.
        assert x.dtype == (torch.float32 if model.trainable or model.latent else torch.int64)


def test_repr(model_cls, world) -> None:
    text = repr(model_cls(world.data, DIM))
    users, items = sizes(world.data)
    assert text.startswith(f"{model_cls.__name__}({users}, {items}, {size_option(model_cls)}={DIM}")
    assert text == repr(model_cls(world.data, DIM)) and "\n" not in text


def test_default_loss_is_known(model_cls) -> None:
    assert model_cls.default_loss in (*BASE_LOSSES, OWN)


def test_pairs_and_blocks_agree(model, world) -> None:
    x_dict = model(world.data)
    edges = world.data[INTERACTS].edge_index[:, :50].flip(1)
    block = model.score_block(x_dict["user"], x_dict["item"])
    assert block.shape == sizes(world.data)
    torch.testing.assert_close(model.score(x_dict, edges), block[edges[0], edges[1]])


def test_recommendations_are_the_best_unseen_items(model, world) -> None:
    model.train()  # which is not how it recommends
    users = [17, 3]
    items, scores = model.recommend(world.data, k=120, users=users)
    assert model.training
    for given in (torch.tensor([17, 3, 17], dtype=torch.int32), np.array([17, 3, 17])):
        again, _ = model.recommend(world.data, k=120, users=given)
        assert torch.equal(again, items[[0, 1, 0]])
    assert items.shape == scores.shape == (2, 120) and items.dtype == torch.int64
    x_dict = model.eval()(world.data)
    block = model.score_block(x_dict["user"][users], x_dict["item"])
    seen = world.data[INTERACTS].edge_index
    for user, row, listed, values in zip(users, block, items, scores, strict=True):
        unseen = sorted(set(range(120)) - set(seen[1, seen[0] == user].tolist()))
        assert sorted(listed[: len(unseen)].tolist()) == unseen
        assert bool((listed[len(unseen) :] == -1).all() and (values[len(unseen) :] < -1e30).all())
        expected = row[unseen].sort(descending=True).values
        torch.testing.assert_close(values[: len(unseen)], expected)
    everyone, _ = model.recommend(world.data, k=5)
    assert everyone.shape == (40, 5) and torch.equal(everyone[users], items[:, :5])
    assert model.recommend(world.data, k=5, users=[])[1].shape == (0, 5)
    for bad in ({"k": 0}, {"k": 121}, {"users": torch.tensor([40])}):
        with pytest.raises(ValueError, match=f"{next(iter(bad))}.*must lie in"):
            model.recommend(world.data, **bad)
    for users, error in (([True], TypeError), ([0.5], TypeError), (3, ValueError)):
        with pytest.raises(error, match="'users' must be"):
            model.recommend(world.data, k=5, users=users)
    with torch.inference_mode():
        loaded = world.data.clone()
        again, _ = model.recommend(loaded, k=5)
    assert torch.equal(again, everyone) and torch.equal(model.recommend(loaded, k=5)[0], everyone)


def test_every_parameter_learns(learner, world) -> None:
    x_dict = learner(world.data)
    if learner.default_loss == OWN:  # a score may be that of a part of the model
        learner.own_loss(x_dict, world.data, world.batch).backward()
    else:
        learner.score(x_dict, world.data[INTERACTS].edge_index).square().sum().backward()
    idle = [name for name, p in learner.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


def test_training_goes_on_after_the_inference_mode(learner, world) -> None:
    data = world.data.clone()  # of whose edges nothing is kept yet
    with torch.inference_mode():
        learner.recommend(data, k=5)
    Trainer(max_epochs=1, progress=False).fit(learner, data)


def test_own_loss_is_of_the_representations_it_is_given(learner, world) -> None:
    if learner.default_loss != OWN or not learner.own_loss_reads:
        pytest.skip("has no loss of its own, or one that reads no representations")
    learner.double()
    for node_type in ("user", "item"):
        x_dict = {k: x.detach().requires_grad_() for k, x in learner(world.data).items()}
        before = learner.own_loss(x_dict, world.data, world.batch)
        assert torch.autograd.grad(before, x_dict[node_type])[0].any()
        x_dict[node_type] = x_dict[node_type] / 2
        assert learner.own_loss(x_dict, world.data, world.batch).item() != before.item()


def test_plain_loop_decreases_the_loss(learner, world) -> None:
    loss = base_loss(learner)
    optimizer = torch.optim.Adam(learner.parameters(), lr=0.05)
    values = []
    for _ in range(30):
        optimizer.zero_grad()
        value = loss(learner(world.data), world.data, world.batch)
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.7 * values[0]


def test_same_seed_same_bits(learner_cls, world) -> None:
    results: list[list[Tensor]] = []
    for _ in range(2):
        torch.manual_seed(3)
        model = learner_cls(world.data, DIM)
        x_dict = model(world.data)
        base_loss(model)(x_dict, world.data, world.batch).backward()
        results.append([*x_dict.values(), *(p.grad for p in model.parameters())])
    assert all(map(torch.equal, *results))


def test_reset_parameters(learner, world) -> None:
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter.add_(1.0)  # what starts at a constant has been trained
    before = [p.detach().clone() for p in learner.parameters()]
    learner.reset_parameters()
    assert not any(map(torch.equal, before, learner.parameters()))


def test_state_dict_round_trip(model_cls, model, world) -> None:
    other = model_cls(world.data, DIM).eval()
    other.load_state_dict(model.state_dict())
    expected = model(world.data)
    assert all(torch.equal(x, expected[key]) for key, x in other(world.data).items())


def test_deep_copy(model, world) -> None:
    expected = {key: x.detach().clone() for key, x in model(world.data).items()}
    twin = copy.deepcopy(model)
    assert all(torch.equal(x, expected[key]) for key, x in twin(world.data).items())
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert all(torch.equal(x, expected[key]) for key, x in model(world.data).items())


@pytest.mark.parametrize("node_type", ["user", "item"])
def test_graph_of_another_size(model, world, node_type: str) -> None:
    model(world.data)
    # Neither a copy nor one that shares the edges.
    for data in (world.data.clone(), copy.copy(world.data)):
        data[node_type].num_nodes += 1
        with pytest.raises(ValueError, match=f"{sizes(data)[0]} users and {sizes(data)[1]} items"):
            model(data)


def test_width_must_be_positive(model_cls, world) -> None:
    name = size_option(model_cls)
    with pytest.raises(
        ValueError, match=rf"'{name}' must be (positive|a positive integer) \(got 0\)"
    ):
        model_cls(world.data, 0)


def test_something_else_than_a_graph(model_cls) -> None:
    with pytest.raises(TypeError, match="'data' must be a HeteroData"):
        model_cls([1, 2], DIM)


def test_entities_without_edges(learner_cls, world) -> None:
    data = world.data.clone()
    edges = data[INTERACTS].edge_index
    data[INTERACTS].edge_index = edges[:, (edges[0] != 3) & (edges[1] != 7)]
    model = learner_cls(data, DIM)
    x_dict = model(data)
    sum(x.square().sum() for x in x_dict.values()).backward()
    assert all(bool(x.isfinite().all()) for x in x_dict.values())
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    assert grads and all(bool(grad.isfinite().all()) for grad in grads)


def test_changed_edges_are_noticed(learner, world) -> None:
    # Whatever a model keeps of a graph must not outlive the graph's edges.
    data = world.data.clone()
    learner(data)
    edges = data[INTERACTS].edge_index
    for change in ("in place", "another tensor"):
        if change == "in place":
            edges[1] = (edges[1] + 1) % data["item"].num_nodes
        else:
            data[INTERACTS].edge_index = edges[:, ::2].clone()
        twin = copy.deepcopy(learner)
        if hasattr(twin, "_cached"):
            twin._cached = None
        expected = twin(data)
        assert all(torch.equal(x, expected[key]) for key, x in learner(data).items())


def test_names_of_entities_do_not_matter(learner, world) -> None:
    num_users, num_items = sizes(world.data)
    rename = {"user": torch.randperm(num_users), "item": torch.randperm(num_items)}
    data = world.data.clone()
    edges = data[INTERACTS].edge_index
    edges = torch.stack([rename["user"][edges[0]], rename["item"][edges[1]]])
    data[INTERACTS].edge_index = edges[:, torch.randperm(edges.size(1))]
    learner.eval()  # without noise
    twin = copy.deepcopy(learner)
    with torch.no_grad():
        for new, size in zip(rename.values(), sizes(world.data), strict=True):
            for ours, other in zip(twin.parameters(), learner.parameters(), strict=True):
                if other.size(0) == size:
                    ours[new] = other
    expected, found = learner(world.data), twin(data)
    for node_type, new in rename.items():
        torch.testing.assert_close(found[node_type][new], expected[node_type])
    batch, loss, renamed_loss = world.batch, base_loss(learner), base_loss(twin)
    user, items = rename["user"][batch.user], rename["item"]
    other = Batch(user, items[batch.positive], items[batch.negative])
    torch.testing.assert_close(renamed_loss(found, data, other), loss(expected, world.data, batch))


def test_float64(learner, world) -> None:
    expected = learner(world.data)
    found = copy.deepcopy(learner).double()(world.data)
    assert all(x.dtype == torch.double for x in found.values())
    for key, x in found.items():
        torch.testing.assert_close(x.float(), expected[key], rtol=1e-4, atol=1e-6)


def test_the_state_is_not_what_the_graph_keeps(model_cls, world) -> None:
    data = world.data.clone()  # with edges of its own
    model = model_cls(data, 4)
    edges = interactions(data)
    before = [part.clone() for part in (*edges.by_user(), *edges.by_item())]
    adjacency = copy.deepcopy(normalized_adjacency(data))
    for tensor in model.state_dict().values():
        tensor.zero_()  # as loading another state would overwrite it
    assert all(map(torch.equal, before, (*edges.by_user(), *edges.by_item())))
    for kept, block in zip(adjacency, normalized_adjacency(data), strict=True):
        assert all(map(torch.equal, kept, block))
