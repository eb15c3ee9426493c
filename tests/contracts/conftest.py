"""The contracts find what is exported by themselves: a new method or model needs no line here."""

from __future__ import annotations

import ast
import copy
import inspect
import itertools
import re
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

import pyg_kd
from pyg_kd import models as model_room
from pyg_kd.distill import Distillation
from pyg_kd.knowledge import TrajectoryRecorder, attach_trajectories, extract_knowledge
from pyg_kd.models import MF, Recommender
from pyg_kd.typing import INTERACTS, Batch

TEACHER_DIM, DIM = 12, 6


def methods() -> list[type[Distillation]]:
    """Every exported method."""
    exported = (getattr(pyg_kd, name) for name in pyg_kd.__all__)
    classes = [v for v in exported if isinstance(v, type) and issubclass(v, Distillation)]
    return [cls for cls in classes if cls is not Distillation]


def recommenders() -> list[type[Recommender]]:
    """Every exported model."""
    exported = (getattr(model_room, name) for name in model_room.__all__)
    classes = [v for v in exported if isinstance(v, type) and issubclass(v, Recommender)]
    return [cls for cls in classes if cls is not Recommender]


def choices(cls: type[Distillation], name: str) -> tuple[str, ...]:
    """What an option allows, by the message that refuses anything else."""
    with pytest.raises(ValueError, match=name) as caught:
        cls(**{name: "no such choice"})
    found = re.search(r"one of (\(.*?\))", str(caught.value))
    assert found, f"the message lists no choices: {caught.value}"
    allowed: tuple[str, ...] = ast.literal_eval(found[1])
    return allowed


class Variant:
    """A method with one combination of its named choices."""

    def __init__(self, cls: type[Distillation], kwargs: dict[str, str | bool]) -> None:
        self.cls, self.kwargs = cls, kwargs

    def __call__(self) -> Distillation:
        return self.cls(**self.kwargs)


def variants() -> Iterator[Variant]:
    """Every method with every combination of choices that it accepts and that its repr tells."""
    for cls in methods():
        parameters = inspect.signature(cls).parameters.values()
        axes = {p.name: choices(cls, p.name) for p in parameters if isinstance(p.default, str)}
        axes |= {p.name: (False, True) for p in parameters if isinstance(p.default, bool)}
        seen = set()
        for values in itertools.product(*axes.values()):
            variant = Variant(cls, dict(zip(axes, values, strict=True)))
            try:
                text = repr(variant())
            except ValueError:
                continue
            if text not in seen:
                seen.add(text)
                yield variant


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "make" in metafunc.fixturenames:
        found = list(variants())
        ids = ["-".join([v.cls.__name__, *map(str, v.kwargs.values())]) for v in found]
        metafunc.parametrize("make", found, ids=ids)
    if "method_cls" in metafunc.fixturenames:
        metafunc.parametrize("method_cls", methods(), ids=lambda cls: cls.__name__)
    if "model_cls" in metafunc.fixturenames:
        metafunc.parametrize("model_cls", recommenders(), ids=lambda cls: cls.__name__)
    for name, trainable in (("learner_cls", True), ("fitted_cls", False)):
        if name in metafunc.fixturenames:
            found = [cls for cls in recommenders() if cls.trainable is trainable]
            metafunc.parametrize(name, found, ids=lambda cls: cls.__name__)


def with_trajectories(graph: HeteroData, num_ranked: int) -> HeteroData:
    """A graph with the trajectories of two teachers over three states."""
    trajectories = []
    for teacher in range(2):
        recorder = TrajectoryRecorder(range(2), num_items=num_ranked, num_states=3)
        for epoch in range(3):
            model = MF(graph, TEACHER_DIM + teacher, init_std=1.0)
            recorder(epoch, model, graph)
        trajectories.append(recorder.finish(model, graph))
    return attach_trajectories(graph, trajectories)


class World:
    """A graph with all knowledge, representations of a student, and a batch."""

    with_trajectories = staticmethod(with_trajectories)

    def __init__(
        self, num_users: int, num_items: int, num_ranked: int, batch_size: int, degree: int = 8
    ) -> None:
        generator = torch.Generator().manual_seed(0)
        user = torch.arange(num_users).repeat_interleave(degree)
        item = torch.rand(num_users, num_items, generator=generator).topk(degree).indices.flatten()
        data = HeteroData()
        data["user"].num_nodes, data["item"].num_nodes = num_users, num_items
        data[INTERACTS].edge_index = torch.stack([user, item])
        torch.manual_seed(0)
        self.data, self.dim = data, DIM
        teacher, num_users = MF(data, TEACHER_DIM, init_std=1.0), num_ranked // 2
        graph = extract_knowledge(teacher, data, num_items=num_ranked, num_users=num_users)
        self.graph = with_trajectories(graph, num_ranked)
        edges = torch.randperm(user.numel(), generator=generator)[:batch_size]
        negative = torch.randint(num_items, (batch_size,), generator=generator)
        self.batch = Batch(user[edges], item[edges], negative)

    def x_dict(self, seed: int = 0) -> dict[str, Tensor]:
        """Representations of a student, leaves that want gradient."""
        generator = torch.Generator().manual_seed(seed)
        return {
            node_type: torch.randn(
                self.graph[node_type].num_nodes, self.dim, generator=generator
            ).requires_grad_()
            for node_type in ("user", "item")
        }

    def bind(self, make: Callable[[], Distillation], seed: int = 0) -> Distillation:
        """A method with weights and draws of a seed."""
        torch.manual_seed(seed)
        method = make().bind(self.graph, self.dim)
        self.settle(method, {key: x.detach() for key, x in self.x_dict(seed=9).items()})
        return method

    def settle(self, method: Distillation, x_dict: dict[str, Tensor]) -> None:
        """Let the epochs go by after which a method that teaches itself has something to teach."""
        for epoch in range(getattr(method, "first_epoch", -1) + 1):
            method.on_epoch_start(epoch, epoch + 1, x_dict)

    def loss(
        self,
        method: Distillation,
        x_dict: dict[str, Tensor],
        batch: Batch | None = None,
        seed: int = 1,
    ) -> Tensor:
        """The loss, with everything random in it following from a seed."""
        torch.manual_seed(seed)
        return method(x_dict, self.graph, self.batch if batch is None else batch)

    def copy(self) -> HeteroData:
        """The graph, for a test that changes it."""
        return copy.copy(self.graph)


@pytest.fixture(scope="session")
def all_methods() -> list[type[Distillation]]:
    """Every exported method, for a test of them together."""
    return methods()


@pytest.fixture(scope="session")
def world() -> World:
    """Few more items than a default method lists and draws for a user."""
    return World(num_users=40, num_items=120, num_ranked=60, batch_size=48)


@pytest.fixture(scope="session")
def large_world() -> World:
    """Users times items outnumber the entries of everything legitimate."""
    return World(num_users=600, num_items=700, num_ranked=60, batch_size=64)


@pytest.fixture(scope="session")
def full_world() -> World:
    """What is neither seen nor ranked is fewer than what is drawn: all of it is drawn."""
    return World(num_users=40, num_items=80, num_ranked=60, batch_size=48)
