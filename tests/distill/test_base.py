from __future__ import annotations

import pytest
import torch

from pyg_kd import (
    CollaborativeDistillation,
    Distillation,
    RejuvenatedCrossEntropy,
    SoftLabel,
    TopologyDistillation,
    UnbiasedDistillation,
)
from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.knowledge import extract_knowledge
from pyg_kd.models import CML, MF
from pyg_kd.training import Trainer


class Counting(Distillation):
    """Counts how often it is set up; has a parameter on request."""

    needs = ("teacher_x",)

    def __init__(self, trained: bool = True) -> None:
        super().__init__()
        self.trained, self.widths = trained, []

    def setup(self, graph, dim: int) -> None:
        self.widths.append(dim)
        if self.trained:
            self.scale = torch.nn.Parameter(torch.ones(dim))

    def forward(self, x_dict, graph, batch):
        self.ensure_bound(x_dict, graph)
        return x_dict["user"][batch.unique_users].sum()


class Needless(Distillation):
    def forward(self, x_dict, graph, batch):
        self.ensure_bound(x_dict, graph)
        return x_dict["user"][batch.unique_users].square().sum()


def test_setup_runs_once_for_a_graph_and_a_width(problem) -> None:
    method = Counting()
    assert method.bind(problem.graph, 4) is method
    method.bind(problem.graph, 4)
    assert method.widths == [4]
    method.bind(problem.graph, 3)
    assert method.widths == [4, 3]


def test_a_refused_graph_leaves_the_binding_alone(problem) -> None:
    method = Counting().bind(problem.graph, 4)
    graph = problem.graph.clone()
    graph.graph_fingerprint = "0" * 64
    with pytest.raises(ValueError, match="another graph"):
        method.bind(graph, 4)
    assert method(problem.x_dict, problem.graph, problem.batch).item() != 0
    assert method.widths == [4]


def test_without_parameters_the_first_call_binds(problem) -> None:
    method = Counting(trained=False)
    method(problem.x_dict, problem.graph, problem.batch)
    method(problem.x_dict, problem.graph, problem.batch)
    assert method.widths == [4]


def test_with_parameters_the_first_call_is_refused(problem) -> None:
    method = Counting()
    with pytest.raises(RuntimeError, match=r"Counting has parameters: call \.bind\(graph, dim=4\)"):
        method(problem.x_dict, problem.graph, problem.batch)
    loss = method.bind(problem.graph, 4)(problem.x_dict, problem.graph, problem.batch)
    assert bool(loss.isfinite())


def test_a_method_without_needs_takes_any_graph(problem) -> None:
    graph = problem.graph.clone()
    for store in graph.node_stores:
        del store["teacher_x"]
    del graph.graph_fingerprint
    method = Needless()
    users = problem.batch.user.unique()
    expected = problem.x_dict["user"][users].square().sum()
    assert torch.equal(method(problem.x_dict, graph, problem.batch), expected)
    method.on_epoch_start(0, 1)


@pytest.mark.parametrize("needs", [("teacher_x"), ("teacher_y",), ["teacher_x"]])
def test_needs_are_a_tuple_of_known_names(needs) -> None:
    with pytest.raises(TypeError, match=r"Odd\.needs must be a tuple of some of \('teacher_x', "):
        type("Odd", (Distillation,), {"needs": needs})


class MadeTooEarly(Distillation):
    needs = ("teacher_x",)

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))


def test_parameters_are_made_in_setup(problem) -> None:
    with pytest.raises(ValueError, match=r"MadeTooEarly has parameters before.*setup\(\)"):
        MadeTooEarly().bind(problem.graph, 4)


SCORED_BY_THE_TEACHER = [
    CollaborativeDistillation(num_sampled=3, num_candidates=5),
    RejuvenatedCrossEntropy(num_listed=3, num_sampled=3, num_candidates=5),
    SoftLabel(num_listed=3, target="score"),
    UnbiasedDistillation(),
]


@pytest.mark.parametrize("method", SCORED_BY_THE_TEACHER, ids=lambda m: type(m).__name__)
def test_a_teacher_whose_score_is_no_inner_product(method) -> None:
    data = SyntheticInteractions(None, num_users=20, num_items=15, num_edges=80)[0]
    method.unbind().bind(extract_knowledge(MF(data, 5), data, num_items=3), 4)
    graph = extract_knowledge(CML(data, 5), data, num_items=3)
    with pytest.raises(ValueError, match=f"{type(method).__name__} takes inner products.*another"):
        method.bind(graph, 4)
    # By rank, or by vectors, any teacher will do.
    for other in (SoftLabel(num_listed=3), TopologyDistillation()):
        other.bind(graph, 4)


def test_forward_is_to_be_written(problem) -> None:
    with pytest.raises(NotImplementedError):
        Distillation()(problem.x_dict, problem.graph, problem.batch)


class Unmade(Needless):
    def __init__(self, width: int = 3) -> None:
        self.width = width  # and no super().__init__()


def test_a_constructor_calls_that_of_the_base(problem) -> None:
    message = r"^Unmade.__init__ must call super\(\).__init__\(\) first$"
    with pytest.raises(TypeError, match=message):
        Unmade().bind(problem.graph, dim=3)
    trainer = Trainer(max_epochs=1, progress=False)
    with pytest.raises(TypeError, match=message):
        trainer.fit(MF(problem.graph, 3), problem.graph, distillations=[(Unmade(), 1.0)])


class Option(Distillation):
    def __init__(self, *, margin: float = 0.5) -> None:
        super().__init__()
        self.other = margin


def test_an_option_under_another_name() -> None:
    with pytest.raises(TypeError, match=r"Option must keep its option 'margin' as self\.margin"):
        repr(Option())


@pytest.mark.parametrize("value", [torch.ones(2), (torch.ones(2), torch.ones(3))])
def test_a_tensor_that_is_no_buffer(value) -> None:
    method = Needless()
    with pytest.raises(TypeError, match=r"Needless\.table is a tensor but not a buffer.*'table'"):
        method.table = value
    method.register_buffer("table", None, persistent=False)
    method.table = torch.ones(2)


class Drawn(Distillation):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def draw(self) -> None:
        self.count += 1


def test_what_was_drawn_at_binding_serves_the_first_epoch(problem) -> None:
    method, counts = Drawn().bind(problem.graph, 4), []
    for epoch in (0, 0, 1, 2):
        method.on_epoch_start(epoch, 3)
        counts.append(method.count)
    assert counts == [1, 2, 3, 4]
    resumed = Drawn().bind(problem.graph, 4)
    resumed.on_epoch_start(2, 3)
    assert resumed.count == 2
    assert resumed.bind(problem.graph, 4).count == 2  # to the same graph: nothing to do


def test_needs_may_depend_on_options(problem) -> None:
    assert SoftLabel(target="score").needs == ("teacher_items", "teacher_x")
    assert SoftLabel.needs == SoftLabel().needs == ("teacher_items",)
