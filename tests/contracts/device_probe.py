"""Nothing stays behind on the CPU: all of this runs on an accelerator that need not exist.

Fake tensors carry a device and a shape, and every operation checks the devices. Where there is no
CUDA, a backend made of Python takes its place, without which neither indexing nor autograd works
on such tensors. ``test_device.py`` runs this file in a process of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._pytree import tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend
from torch_geometric.data import HeteroData

from pyg_kd.distill import Distillation
from pyg_kd.distill.het_comp.teacher_states import TeacherStates
from pyg_kd.functional import bpr_loss, gather_rows, list_scores
from pyg_kd.functional.ranking import _candidates, _merge
from pyg_kd.functional.sparse import csr_matmul
from pyg_kd.graph import _kept, version_of
from pyg_kd.knowledge.requirements import KNOWLEDGE, graph_fingerprint
from pyg_kd.training.losses import BASE_LOSSES, OWN
from pyg_kd.typing import INTERACTS, Batch

Convert = Callable[[Tensor], Tensor]

if torch.cuda.is_available():
    TYPE = "cuda"
else:
    TYPE = "fakegpu"
    _setup_privateuseone_for_python_backend(rename=TYPE)
DEVICE = f"{TYPE}:0"


def counts(x: Tensor, minlength: int) -> Tensor:
    """``bincount`` of ids below ``minlength``, whose shape does not depend on the ids."""
    return x.new_zeros(minlength).scatter_add_(0, x, torch.ones_like(x))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Convert]:
    """A world of fake tensors; gives what carries one to the accelerator."""
    monkeypatch.setattr(torch, "bincount", counts)
    # A method looks at this when it has remade its lists, and goes on to its second phase.
    monkeypatch.setattr(TeacherStates, "arrived", property(lambda states: True))
    with FakeTensorMode():
        yield lambda t: torch.empty(
            t.shape, dtype=t.dtype, device=DEVICE, requires_grad=t.requires_grad
        )


def carry_module(module: nn.Module, convert: Convert) -> nn.Module:
    """A copy whose parameters and buffers are elsewhere; what it holds besides stays behind."""
    with unset_fake_temporarily():
        module = copy.deepcopy(module)
    for part in module.modules():
        for name, value in part._parameters.items():
            if value is not None:
                part._parameters[name] = nn.Parameter(convert(value))
        for name, value in part._buffers.items():
            if value is not None:
                part._buffers[name] = convert(value)
    return module


def carry_graph(graph: HeteroData, convert: Convert) -> HeteroData:
    """A copy elsewhere that knows its fingerprint, since making one looks at the ids."""
    moved = copy.copy(graph).apply(convert)
    with unset_fake_temporarily():
        known = {"plain": None, "fingerprint": graph_fingerprint(graph)}
    sizes = graph["user"].num_nodes, graph["item"].num_nodes
    _kept(moved[INTERACTS].edge_index, sizes).update(known)
    return moved


def carry_batch(batch: Batch, convert: Convert) -> Batch:
    moved = Batch(convert(batch.user), convert(batch.positive), convert(batch.negative))
    for name in (
        "unique_users",
        "unique_items",
        "unique_positives",
        "unique_negatives",
    ):  # how many are unique depends on the ids
        with unset_fake_temporarily():
            unique = getattr(batch, name)
        moved.__dict__[name] = convert(unique)
    return moved


def left_behind(tensor: Tensor) -> Tensor:
    stray = torch.empty(tensor.shape, dtype=tensor.dtype, requires_grad=tensor.requires_grad)
    return nn.Parameter(stray) if isinstance(tensor, nn.Parameter) else stray


def carry_dict(x_dict: dict[str, Tensor], convert: Convert) -> dict[str, Tensor]:
    return {key: convert(x) for key, x in x_dict.items()}


@pytest.fixture
def bound(make, world) -> Distillation:
    # Requested before `cuda`, so that it is bound to the real graph.
    return world.bind(make)


def test_methods(bound, gpu, world) -> None:
    method = carry_module(bound, gpu)
    graph, batch = carry_graph(world.graph, gpu), carry_batch(world.batch, gpu)
    x_dict = carry_dict(world.x_dict(), gpu)
    for epoch in (0, 1, 10):
        method.on_epoch_start(epoch, 11, x_dict)
        assert {v.device.type for v in (*method.parameters(), *method.buffers())} <= {TYPE}
        loss = method(x_dict, graph, batch)
        loss.backward()
        for leaf in (*x_dict.values(), *method.parameters()):
            assert leaf.grad is not None and leaf.grad.device.type == TYPE
        assert loss.device.type == TYPE and loss.shape == ()


@pytest.fixture
def unsure(world) -> HeteroData:
    """The graph with a confidence in the places of the lists of items."""
    graph = world.copy()
    graph["user"].teacher_confidence = torch.rand(graph["user"].teacher_items.shape)
    return graph


@pytest.fixture
def bound_to_unsure(make, world, unsure) -> Distillation | None:
    method = make()
    return method.bind(unsure, world.dim) if "teacher_items" in method.needs else None


def test_methods_of_an_unsure_teacher(bound_to_unsure, unsure, gpu, world) -> None:
    if bound_to_unsure is None:
        return
    method = carry_module(bound_to_unsure, gpu)
    graph, batch = carry_graph(unsure, gpu), carry_batch(world.batch, gpu)
    x_dict = carry_dict(world.x_dict(), gpu)
    for epoch in (0, 1, 10):
        method.on_epoch_start(epoch, 11, x_dict)
        loss = method(x_dict, graph, batch)
        loss.backward()
        assert loss.device.type == TYPE and x_dict["user"].grad.device.type == TYPE


#: What methods that take representations read when they are bound, and never again.
READ_AT_BINDING = {
    "UnbiasedDistillation": ("teacher_x",),
    "PreferenceConsistentDistillation": ("teacher_items",),
}


def places(method: Distillation) -> list[str]:
    """Where a tensor may have been left behind, as far as the method has any there."""
    held = [name for name, _ in (*method.named_parameters(), *method.named_buffers())]
    # Rankings are read into buffers when a method is bound; representations are read every time.
    needs = type(method).needs if "teacher_x" in type(method).needs else ()
    read = set(needs) - set(READ_AT_BINDING.get(type(method).__name__, ()))
    needed = [f"{node_type}.{n}" for n in read for node_type in KNOWLEDGE[n][0]]
    return ["user", "item", *needed, *held]


def test_a_stray_tensor_of_a_method_is_noticed(bound, gpu, world) -> None:
    for place in places(bound):
        method = carry_module(bound, gpu)
        graph, batch = carry_graph(world.graph, gpu), carry_batch(world.batch, gpu)
        x_dict = carry_dict(world.x_dict(), gpu)
        if place in x_dict:
            x_dict[place] = left_behind(x_dict[place])
        elif place.startswith(("user.", "item.")):
            node_type, name = place.split(".")
            graph[node_type][name] = left_behind(graph[node_type][name])
        else:
            owner = method.get_submodule(place.rpartition(".")[0])
            name = place.rpartition(".")[2]
            table = owner._parameters if name in owner._parameters else owner._buffers
            table[name] = left_behind(table[name])
        with pytest.raises(RuntimeError, match="device"):
            method(x_dict, graph, batch).backward()
            for epoch in (0, 1, 10):  # those of a variant rank before epoch 1
                method.on_epoch_start(epoch, 11, x_dict)
            method(x_dict, graph, batch).backward()
            pytest.fail(f"{place} was left behind unnoticed")


@pytest.fixture
def model(learner_cls, world) -> nn.Module:
    built = learner_cls(world.data, 4)
    x_dict = built(world.data)
    if built.default_loss == OWN:
        built.own_loss(x_dict, world.data, world.batch)
    return built


def carry_model(model: nn.Module, graph: HeteroData, convert: Convert) -> Any:
    """A copy elsewhere, with what it keeps of the graph, since making that depends on the ids."""
    moved = carry_module(model, convert)
    if moved._cached is not None:
        edges = {kind: store.edge_index for kind, store in graph.edge_items()}
        kept = tree_map_only(Tensor, convert, moved._cached[2])
        moved._cached = (edges, [version_of(e) for e in edges.values()], kept)
    return moved


def base_losses(model: Any, graph: HeteroData, batch: Batch) -> list[Tensor]:
    x_dict = model(graph)
    values = [loss()(x_dict, batch) for loss in BASE_LOSSES.values()]
    if model.default_loss == OWN:
        values.append(model.own_loss(x_dict, graph, batch))
    return values


def test_models_and_base_losses(model, gpu, world) -> None:
    graph, batch = carry_graph(world.data, gpu), carry_batch(world.batch, gpu)
    model = carry_model(model, graph, gpu)
    for value in base_losses(model, graph, batch):
        value.backward(retain_graph=True)
        assert value.device.type == TYPE
    assert {p.grad.device.type for p in model.parameters() if p.grad is not None} == {TYPE}
    x_dict = model(graph)
    assert {x.device.type for x in x_dict.values()} == {TYPE}
    assert model.score_block(x_dict["user"][:5], x_dict["item"]).device.type == TYPE


def test_a_stray_tensor_of_a_model_is_noticed(model, gpu, world) -> None:
    for place, _ in model.named_parameters():
        graph, batch = carry_graph(world.data, gpu), carry_batch(world.batch, gpu)
        moved = carry_model(model, graph, gpu)
        owner, name = moved.get_submodule(place.rpartition(".")[0]), place.rpartition(".")[2]
        owner._parameters[name] = left_behind(owner._parameters[name])
        with pytest.raises(RuntimeError, match="device"):
            base_losses(moved, graph, batch)
            x_dict = moved(graph)
            moved.score_block(x_dict["user"], x_dict["item"])
            pytest.fail(f"{place} was left behind unnoticed")


@pytest.fixture
def fitted(fitted_cls, world) -> nn.Module:
    built = fitted_cls(world.data, 4)
    x_dict = built(world.data)
    if built.default_loss == OWN:
        built.own_loss(x_dict, world.data, world.batch)
    return built


def all_blocks(model: Any, graph: HeteroData) -> list[Tensor]:
    """Scores of few users and of few items."""
    x_user, x_item = model(graph).values()
    return [model.score_block(x_user[:5], x_item), model.score_block(x_user, x_item[:5])]


def test_models_in_closed_form(fitted, gpu, world) -> None:
    graph = carry_graph(world.data, gpu)
    blocks = all_blocks(carry_model(fitted, graph, gpu), graph)
    assert {block.device.type for block in blocks} == {TYPE}


def test_a_stray_tensor_in_closed_form_is_noticed(fitted, gpu, world) -> None:
    for place, _ in fitted.named_buffers():
        graph = carry_graph(world.data, gpu)
        moved = carry_model(fitted, graph, gpu)
        moved._buffers[place] = left_behind(moved._buffers[place])
        with pytest.raises(RuntimeError, match="device"):
            all_blocks(moved, graph)
            pytest.fail(f"{place} was left behind unnoticed")


def test_ranking_up_to_the_first_look_at_values(gpu) -> None:
    # Masking what is seen and settling ties look at values; all before and after runs here.
    scores = torch.empty(7, 400, device=DEVICE)
    values, ids = _candidates(scores, 5)
    merged = _merge((values, ids), values, ids + 400, 5)
    assert {t.device.type for t in (values, ids, *merged)} == {TYPE}
    assert merged[1].shape == (7, 5)


def test_sparse_operators_refuse_two_devices(gpu) -> None:
    x = torch.empty(4, 3, device=DEVICE)
    ptr, col = (torch.empty(n, dtype=torch.int32, device=DEVICE) for n in (3, 5))
    assert csr_matmul(ptr, col, torch.empty(5, device=DEVICE), x).device.type == TYPE
    for stray in range(4):
        args = [ptr, col, torch.empty(5, device=DEVICE), x]
        args[stray] = torch.empty(args[stray].shape, dtype=args[stray].dtype)
        with pytest.raises(RuntimeError, match="device"):
            csr_matmul(*args)


def test_scores_refuse_two_devices(gpu) -> None:
    x, items = torch.empty(4, 3, device=DEVICE), torch.empty(4, 2, dtype=torch.long, device=DEVICE)
    assert list_scores(x, x, items).device.type == TYPE
    for args in ((x, x, items.new_empty(4, 2, device="cpu")), (x, torch.empty(4, 3), items)):
        with pytest.raises(RuntimeError, match="device"):
            list_scores(*args)


def test_the_world_notices_what_it_should(gpu) -> None:
    with pytest.raises(RuntimeError, match=f"{DEVICE}.*cpu"):
        torch.empty(2, device=DEVICE) + torch.ones(2)
    with pytest.raises(RuntimeError, match="device"):
        gather_rows(torch.empty(2, 3), torch.zeros(2, dtype=torch.long, device=DEVICE))
    assert bpr_loss(*torch.empty(2, 3, device=DEVICE)).device.type == TYPE
