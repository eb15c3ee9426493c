"""What every distillation method keeps, found by looking at what the package exports."""

from __future__ import annotations

import copy
import inspect
import math
import re

import pytest
import torch
from torch import Tensor

import pyg_kd
from pyg_kd.knowledge import extract_knowledge
from pyg_kd.knowledge.requirements import KNOWLEDGE, graph_fingerprint
from pyg_kd.models import MF
from pyg_kd.training import Trainer, TrainingDiverged
from pyg_kd.typing import INTERACTS, Batch


def gradients(x_dict: dict[str, Tensor], method: torch.nn.Module) -> list[Tensor]:
    found = [*x_dict.values(), *method.parameters()]
    return [torch.zeros_like(v) if v.grad is None else v.grad for v in found]


def detached(x_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: x.detach() for key, x in x_dict.items()}


def select(batch: Batch, index: list[int] | Tensor) -> Batch:
    return Batch(batch.user[index], batch.positive[index], batch.negative[index])


def test_repr_names_every_option(make) -> None:
    method, names = make(), list(inspect.signature(make.cls).parameters)
    values = ", ".join(f"{name}={getattr(method, name)!r}" for name in names)
    assert repr(method) == f"{make.cls.__name__}({values})"
    again = eval(repr(method), vars(pyg_kd))
    assert repr(again) == repr(method) and "\n" not in repr(method)


def test_repr_does_not_change_with_use(make, world) -> None:
    text = repr(make())
    method = world.bind(make)
    method.on_epoch_start(1, 2, detached(world.x_dict()))
    world.loss(method, world.x_dict()).backward()
    assert repr(method) == text


def test_needs_are_known_and_documented(method_cls) -> None:
    # Without knowledge of a teacher a method teaches itself, once epochs have gone by.
    assert method_cls.needs or hasattr(method_cls, "first_epoch")
    assert set(method_cls.needs) <= set(KNOWLEDGE)
    assert method_cls.__doc__ and "<https://" in method_cls.__doc__


def test_unknown_option(method_cls) -> None:
    with pytest.raises(TypeError, match="no_such_option"):
        method_cls(no_such_option=1)


@pytest.mark.parametrize("value", [-1, math.nan, math.inf])
def test_option_out_of_range_names_the_option(method_cls, value: float) -> None:
    parameters = inspect.signature(method_cls).parameters.values()
    for name in [p.name for p in parameters if type(p.default) in (int, float)]:
        with pytest.raises(ValueError, match=f"'{name}'.*{value}"):
            method_cls(**{name: value})


def test_a_count_is_an_integer(method_cls) -> None:
    parameters = inspect.signature(method_cls).parameters.values()
    for name in [p.name for p in parameters if type(p.default) is int]:
        with pytest.raises(ValueError, match=rf"'{name}' must be an? .*integer.* \(got 1\.5\)"):
            method_cls(**{name: 1.5})


def test_finite_scalar_with_gradient(make, world) -> None:
    method, x_dict = world.bind(make), world.x_dict()
    loss = world.loss(method, x_dict)
    assert loss.shape == () and loss.dtype == torch.float32 and bool(loss.isfinite())
    loss.backward()
    user, item = x_dict["user"].grad, x_dict["item"].grad
    assert bool(user.isfinite().all()) and bool(item.isfinite().all())
    # Every user of the batch learns; which items do is the method's own affair.
    assert bool((user[world.batch.unique_users].abs().sum(1) > 0).all())
    assert int((item.abs().sum(1) > 0).sum()) > 10


#: Methods that keep some of what depends on the student out of their gradient.
HOLDING = {"PreferenceConsistentDistillation"}


def test_gradient_is_the_slope_in_float64(make, world) -> None:
    """Along random directions of the representations and of the method's own parameters."""
    if make.cls.__name__ in HOLDING or getattr(make(), "detach_prototypes", False):
        pytest.skip("holds a part of its loss constant, which its own test takes into account")
    method = world.bind(make).double()
    x_dict = {key: x.detach().double().requires_grad_() for key, x in world.x_dict().items()}
    leaves = [*x_dict.values(), *method.parameters()]
    world.loss(method, x_dict).backward()
    generator = torch.Generator().manual_seed(5)
    for part in (leaves[:2], leaves[2:]):
        if not part:
            continue
        way = [torch.randn(x.shape, dtype=x.dtype, generator=generator) for x in part]
        found = sum(float((x.grad * w).sum()) for x, w in zip(part, way, strict=True))
        values = []
        for step in (1e-6, -2e-6):
            with torch.no_grad():
                for x, w in zip(part, way, strict=True):
                    x += step * w
            values.append(float(world.loss(method, x_dict).detach()))
        assert found == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5)
        with torch.no_grad():
            for x, w in zip(part, way, strict=True):
                x += 1e-6 * w


def test_every_parameter_learns_over_some_epochs(make, world) -> None:
    method, x_dict = world.bind(make), world.x_dict()
    total = 0.0
    for seed in range(5):
        total = total + world.loss(method, x_dict, seed=seed)
    total.backward()
    assert [n for n, p in method.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_knowledge_is_left_alone(make, world) -> None:
    before = {
        (node_type, name): store[name].clone()
        for node_type, store in world.graph.node_items()
        for name in KNOWLEDGE
        if name in store
    }
    method = world.bind(make)
    method.on_epoch_start(0, 2, detached(world.x_dict()))
    world.loss(method, world.x_dict()).backward()
    for (node_type, name), value in before.items():
        assert torch.equal(world.graph[node_type][name], value)
        assert not world.graph[node_type][name].requires_grad


def test_plain_loop_decreases_the_loss(make, world) -> None:
    method, x_dict = world.bind(make), world.x_dict()
    optimizer = torch.optim.Adam([*x_dict.values(), *method.parameters()], lr=0.03)
    first = world.loss(method, x_dict).item()
    for step in range(30):
        optimizer.zero_grad()
        world.loss(method, x_dict, seed=2 + step).backward()
        optimizer.step()
    assert world.loss(method, x_dict).item() < 0.97 * first


def test_unbound(make, world) -> None:
    bound = world.bind(make)
    method = make()
    if any(True for _ in bound.parameters()):
        for _ in range(2):  # refused again, not only at first
            message = rf"{type(method).__name__}.*bind\(graph, dim=6\)"
            with pytest.raises(RuntimeError, match=message):
                method(world.x_dict(), world.graph, world.batch)
    else:
        torch.manual_seed(0)
        first = method(world.x_dict(), world.graph, world.batch)
        torch.manual_seed(0)
        again = make().bind(world.graph, world.dim)(world.x_dict(), world.graph, world.batch)
        assert torch.equal(first, again)


def test_bind_twice_changes_nothing(make, world) -> None:
    method = world.bind(make)
    state = copy.deepcopy(list(method.parameters()))
    assert method.bind(world.graph, world.dim) is method
    assert all(map(torch.equal, method.parameters(), state))


def test_bind_to_another_width(make, world) -> None:
    method = world.bind(make).bind(world.graph, 4)
    x_dict = {key: x[:, :4].detach() for key, x in world.x_dict().items()}
    assert bool(world.loss(method, x_dict).isfinite())


def test_missing_knowledge(method_cls, world) -> None:
    for need in method_cls.needs:
        for node_type in KNOWLEDGE[need][0]:
            graph = world.copy()
            del graph[node_type][need]
            call = re.escape(KNOWLEDGE[need][1])
            with pytest.raises(ValueError, match=f"{node_type}.*{need}.*{call}"):
                method_cls().bind(graph, world.dim)


def test_knowledge_with_too_few_rows(method_cls, world) -> None:
    for need in method_cls.needs[:1]:
        node_type = KNOWLEDGE[need][0][0]
        graph = world.copy()
        graph[node_type][need] = graph[node_type][need][:-1]
        with pytest.raises(ValueError, match=rf"{need}.*{graph[node_type].num_nodes - 1} rows"):
            method_cls().bind(graph, world.dim)


def test_knowledge_of_another_graph(make, world) -> None:
    if not make.cls.needs:
        pytest.skip("needs no knowledge")
    graph = world.copy()
    graph[INTERACTS].edge_index = graph[INTERACTS].edge_index[:, 1:]
    with pytest.raises(ValueError, match="another graph"):
        make().bind(graph, world.dim)
    # Knowledge of the other graph is right for it, but not what the method was bound to.
    other = extract_knowledge(MF(graph, 12), graph, num_items=60, num_users=30)
    method = world.bind(make)
    with pytest.raises(ValueError, match=f"not the graph.*{type(method).__name__}"):
        method(world.x_dict(), other, world.batch)


def test_knowledge_of_another_teacher(make, world) -> None:
    if not make.cls.needs:
        pytest.skip("needs no knowledge")
    method = world.bind(make)
    torch.manual_seed(5)
    other = extract_knowledge(
        MF(world.data, 9, init_std=1.0), world.data, num_items=60, num_users=30
    )
    other = world.with_trajectories(other, 60)
    with pytest.raises(ValueError, match=f"{type(method).__name__}.*another teacher"):
        method(world.x_dict(), other, world.batch)
    x_dict, losses = world.x_dict(), []
    for bound in (method, make()):
        torch.manual_seed(0)
        bound.bind(other, world.dim)
        torch.manual_seed(1)
        losses.append(bound(x_dict, other, world.batch))
    assert torch.equal(*losses)  # as if it had never seen the first


PRECISIONS = [
    (torch.float64, torch.float32),
    (torch.float32, torch.float64),
    (torch.float32, torch.bfloat16),
    (torch.bfloat16, torch.float32),
]


@pytest.mark.parametrize(("student", "teacher"), PRECISIONS, ids=str)
def test_student_and_teacher_of_other_precisions(make, world, student, teacher) -> None:
    graph, dim = world.copy(), world.dim
    for node_type in ("user", "item"):
        graph[node_type].teacher_x = graph[node_type].teacher_x.to(teacher)
    x_dict = {key: x.detach().to(student).requires_grad_() for key, x in world.x_dict().items()}
    method = make().bind(graph, dim)
    world.settle(method, {key: x.detach() for key, x in x_dict.items()})
    method(x_dict, graph, world.batch).backward()
    for x in x_dict.values():
        assert x.grad is not None and x.grad.dtype == student and bool(x.grad.isfinite().all())


def test_another_width(make, world) -> None:
    method = world.bind(make)
    x_dict = {key: torch.randn(len(x), 5) for key, x in world.x_dict().items()}
    with pytest.raises(ValueError, match=r"width 5.*bound to 6"):
        method(x_dict, world.graph, world.batch)


@pytest.mark.parametrize("node_type", ["user", "item"])
def test_nan_is_not_hidden(make, world, node_type: str) -> None:
    method, x_dict = world.bind(make), world.x_dict()
    with torch.no_grad():
        if node_type == "user":
            x_dict["user"][world.batch.unique_users[3], 2] = torch.nan
        else:  # which items a method looks at is its own affair
            x_dict["item"][:, 2] = torch.nan
    assert bool(world.loss(method, x_dict).isnan())


def test_nan_in_its_parameters_is_not_hidden(make, world) -> None:
    method = world.bind(make)
    for parameter in method.parameters():
        with torch.no_grad():
            before = parameter.clone()
            parameter.fill_(torch.nan)
        # The nets that group entities are read by argmax: the loss that trains them has to tell.
        assert bool(world.loss(method, world.x_dict()).isnan())
        with torch.no_grad():
            parameter.copy_(before)


def test_the_trainer_stops_at_nan(method_cls, world) -> None:
    student = MF(world.data, world.dim, init_std=1.0)
    with torch.no_grad():
        student.item_embedding[:, 2] = torch.nan
    # The base loss is left out, so that the method's own loss has to tell.
    trainer = Trainer(
        max_epochs=1, batch_size=160, accelerator="cpu", progress=False, base_weight=0.0
    )
    with pytest.raises(TrainingDiverged, match=f"{method_cls.__name__}.*not finite"):
        trainer.fit(student, world.graph, distillations=[(method_cls(), 1.0)])


def relabelled(world, user: Tensor, item: Tensor):
    """The graph with user ``u`` called ``user[u]`` and item ``i`` called ``item[i]``."""
    graph, rename = world.copy(), {"user": user, "item": item}
    edges = graph[INTERACTS].edge_index
    edges = torch.stack([user[edges[0]], item[edges[1]]])
    graph[INTERACTS].edge_index = edges[:, torch.randperm(edges.size(1))]
    for node_type, new in rename.items():
        for name, (owners, _) in KNOWLEDGE.items():
            if node_type in owners:
                old = graph[node_type][name]
                if not old.is_floating_point():
                    inside = rename["item" if node_type == "user" else "user"]
                    old = torch.where(old >= 0, inside[old.clamp(min=0)], -1).to(old.dtype)
                graph[node_type][name] = torch.empty_like(old).index_copy_(0, new, old)
    graph.graph_fingerprint = graph_fingerprint(graph)
    return graph


def test_names_of_entities_do_not_matter(make, full_world, monkeypatch) -> None:
    world = full_world
    # Noise belongs to places, not to entities, so it is the same everywhere here. What is drawn
    # from the unlisted items is all of them.
    monkeypatch.setattr(torch.Tensor, "exponential_", lambda self, *_, **__: self.fill_(0.7))
    monkeypatch.setattr(torch, "rand_like", lambda x: torch.full_like(x, 0.5))
    user, item = torch.randperm(40), torch.randperm(80)
    x_dict = world.x_dict()
    losses, grads = [], []
    renamed = {
        "user": torch.empty(40, 6).index_copy_(0, user, x_dict["user"].detach()).requires_grad_(),
        "item": torch.empty(80, 6).index_copy_(0, item, x_dict["item"].detach()).requires_grad_(),
    }
    batch = world.batch
    other = Batch(user[batch.user], item[batch.positive], item[batch.negative])
    for graph, x, b in (
        (world.graph, x_dict, batch),
        (relabelled(world, user, item), renamed, other),
    ):
        torch.manual_seed(3)
        method = make().bind(graph, world.dim)
        world.settle(method, {key: value.detach() for key, value in x.items()})
        losses.append(method(x, graph, b))
        losses[-1].backward()
        grads.append([x["user"].grad, x["item"].grad])
    torch.testing.assert_close(losses[1], losses[0], rtol=2e-5, atol=1e-4)
    torch.testing.assert_close(grads[1][0][user], grads[0][0], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(grads[1][1][item], grads[0][1], rtol=1e-3, atol=1e-4)


def test_order_of_the_batch_does_not_matter(make, world) -> None:
    method, x_dict = world.bind(make), world.x_dict()
    shuffled = select(world.batch, torch.randperm(len(world.batch)))
    assert torch.equal(world.loss(method, x_dict), world.loss(method, x_dict, shuffled))


def test_repeated_triples_count_once(make, world) -> None:
    method, x_dict = world.bind(make), world.x_dict()
    index = torch.arange(len(world.batch)).repeat(2)
    assert torch.equal(
        world.loss(method, x_dict), world.loss(method, x_dict, select(world.batch, index))
    )


def test_batch_of_one(make, world) -> None:
    method, x_dict = world.bind(make), world.x_dict()
    loss = world.loss(method, x_dict, select(world.batch, [5]))
    loss.backward()
    assert bool(loss.isfinite())
    assert all(bool(x.grad.isfinite().all()) for x in x_dict.values())


def test_empty_batch(make, world) -> None:
    method, x_dict = world.bind(make), world.x_dict()
    if torch.equal(
        world.loss(method, x_dict), world.loss(method, x_dict, select(world.batch, [5]))
    ):
        pytest.skip("is about the whole graph, whatever the batch")
    loss = world.loss(method, x_dict, select(world.batch, []))
    assert loss.item() == 0.0
    if loss.requires_grad:
        loss.backward()
    assert not any(bool(g.any()) for g in gradients(x_dict, method))


def test_several_negatives(make, world) -> None:
    method, x_dict = world.bind(make), world.x_dict()
    batch = world.batch
    batch = Batch(batch.user, batch.positive, batch.negative.unsqueeze(1).expand(-1, 3))
    assert torch.equal(world.loss(method, x_dict), world.loss(method, x_dict, batch))


def test_same_seed_same_bits(make, world) -> None:
    results = []
    for _ in range(2):
        method, x_dict = world.bind(make), world.x_dict()
        torch.manual_seed(5)
        method.on_epoch_start(1, 3, detached(world.x_dict()))
        loss = world.loss(method, x_dict)
        loss.backward()
        results.append([loss, *gradients(x_dict, method)])
    assert all(map(torch.equal, *results))


def test_state_dict_round_trip(make, world) -> None:
    losses = []
    source, target = world.bind(make, seed=0), world.bind(make, seed=1)
    target.load_state_dict(source.state_dict())
    for method in (source, target):
        torch.manual_seed(5)
        method.on_epoch_start(1, 3, detached(world.x_dict()))
        losses.append(world.loss(method, world.x_dict()))
    assert torch.equal(*losses)


#: What a method learns of every user while a student trains: pointers that no graph tells.
LEARNT = {"HetComp": {"states.pointer", "states.target"}}


def test_state_dict_holds_no_graph(make, world) -> None:
    if not make.cls.needs:
        pytest.skip("has made of the student what it cannot make again")
    sizes = {world.graph[t].num_nodes for t in ("user", "item")}
    state = world.bind(make).state_dict()
    found = {name for name, value in state.items() if sizes & set(value.shape)}
    assert found == LEARNT.get(make.cls.__name__, set())


def test_deep_copy(make, world) -> None:
    method, x_dict = world.bind(make), world.x_dict()
    twin = copy.deepcopy(method)
    expected = world.loss(method, x_dict)
    assert torch.equal(world.loss(twin, x_dict), expected)
    with torch.no_grad():
        for tensor in (*twin.parameters(), *twin.buffers()):
            tensor.zero_()
    assert torch.equal(world.loss(method, x_dict), expected)


@pytest.mark.parametrize("max_epochs", [1, 4])
def test_every_epoch_may_start(make, world, max_epochs: int) -> None:
    method = world.bind(make)
    for epoch in range(max_epochs):
        x_dict = world.x_dict(seed=epoch)
        method.on_epoch_start(epoch, max_epochs, detached(x_dict))
        loss = world.loss(method, x_dict)
        loss.backward()
        assert bool(loss.isfinite())
        assert all(bool(g.isfinite().all()) for g in gradients(x_dict, method))


def test_edited_knowledge_never_reaches_a_kernel(make, world) -> None:
    graph = copy.copy(world.graph)
    needs = make().needs
    for need in needs:
        for node_type in KNOWLEDGE[need][0]:
            graph[node_type][need] = graph[node_type][need].clone()
    torch.manual_seed(0)
    method = make().bind(graph, world.dim)
    for need in needs:
        for node_type in KNOWLEDGE[need][0]:
            value = graph[node_type][need].flatten()
            for wrong in (torch.nan,) if need == "teacher_x" else (-2, 2**30):
                before = value[-1].clone()
                value[-1] = wrong
                for use in (
                    lambda: method(world.x_dict(), graph, world.batch),
                    lambda: make().bind(graph, world.dim),
                ):
                    with pytest.raises(ValueError, match=f"'graph.*{need}'"):
                        use()
                value[-1] = before
    assert method(world.x_dict(), graph, world.batch).isfinite()


@pytest.mark.parametrize("node_type", ["user", "item"])
def test_representations_of_other_nodes(make, world, node_type: str) -> None:
    method, x_dict = world.bind(make), world.x_dict()
    rows = len(x_dict[node_type])
    for wrong in (x_dict[node_type][:-1], torch.cat([x_dict[node_type]] * 2), x_dict[node_type][0]):
        message = rf"'x_dict\['{node_type}'\]' must have one row for each of the {rows} nodes"
        with pytest.raises(ValueError, match=message):
            world.loss(method, {**x_dict, node_type: wrong})


def test_no_tensor_but_buffers_and_parameters(make, world) -> None:
    method = world.bind(make)
    method.on_epoch_start(1, 2, detached(world.x_dict()))
    world.loss(method, world.x_dict())
    for module in method.modules():
        kept = [name for name, value in vars(module).items() if isinstance(value, Tensor)]
        assert not kept
