from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import pyg_kd
from pyg_kd import DistillationExperts, RelaxedRankingDistillation, TopologyDistillation
from pyg_kd.distill.base import Distillation
from pyg_kd.knowledge import extract_knowledge
from pyg_kd.metrics.agreement import cka, effective_rank, neighbourhood_agreement, overlap_at_k
from pyg_kd.models import EASE, MF, NGCF
from pyg_kd.models.inference import best_unseen
from pyg_kd.training import Trainer
from pyg_kd.training.diagnostics import Diagnostics, plot_diagnostics
from pyg_kd.training.diagnostics.figure import panels
from pyg_kd.training.diagnostics.measures import effective_number
from pyg_kd.training.history import History
from pyg_kd.training.objective import Objective
from pyg_kd.typing import Batch

OPTIONS = {"batch_size": 256, "accelerator": "cpu", "progress": False, "max_epochs": 3}
RRD = "RelaxedRankingDistillation"


def fit(graph, methods, callbacks=(), model=MF, **options):
    torch.manual_seed(0)
    student = model(graph, dim=6)
    trainer = Trainer(**OPTIONS | options)
    return student, trainer.fit(student, graph, distillations=methods, callbacks=callbacks)


@pytest.fixture
def taught(train):
    torch.manual_seed(5)
    teacher = MF(train, dim=16)
    Trainer(**OPTIONS | {"max_epochs": 5, "lr": 0.05}).fit(teacher, train)
    return extract_knowledge(teacher, train, num_items=50, num_users=60)


def test_columns_are_what_they_say(taught):
    rrd = RelaxedRankingDistillation(num_interesting=6, num_uninteresting=6)
    student, history = fit(taught, [(rrd, 0.1)], [Diagnostics(every=2)])
    lists, _ = best_unseen(student, taught, 50, None)
    users = torch.arange(len(lists))
    overlap = overlap_at_k(lists, taught["user"].teacher_items[users].long(), 20).mean()
    assert history["overlap@20"][-1] == pytest.approx(float(overlap))
    assert len(history["overlap@20"]) == 2  # after the first epoch and the third
    with torch.no_grad():
        x = student(taught)
    for node_type in ("user", "item"):
        teacher = taught[node_type].teacher_x
        active = taught["user", "item"].edge_index[int(node_type == "item")].unique()
        near = neighbourhood_agreement(x[node_type], teacher, 10, rows=active).mean()
        assert history[f"neighbours {node_type}"][-1] == pytest.approx(float(near))
        assert history[f"cka {node_type}"][-1] == pytest.approx(
            cka(x[node_type], teacher, debiased=True)
        )
        assert history[f"effective rank {node_type}"][-1] == pytest.approx(
            effective_rank(x[node_type])
        )
    assert "loss" in history.columns and "seconds" in history.columns


def methods() -> list[type[Distillation]]:
    found = (getattr(pyg_kd, name) for name in pyg_kd.__all__)
    return [
        cls
        for cls in found
        if isinstance(cls, type)
        and issubclass(cls, Distillation)
        and cls is not Distillation
        and set(cls().needs) <= {"teacher_x", "teacher_items", "teacher_users"}
    ]


@pytest.mark.parametrize("cls", methods(), ids=lambda cls: cls.__name__)
def test_training_gives_the_same_bits_with_and_without(cls, taught):
    on, measured = fit(taught, [(cls(), 0.01)], [Diagnostics()])
    off, plain = fit(taught, [(cls(), 0.01)])
    for a, b in zip(on.state_dict().values(), off.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    for name in plain.columns:
        assert name == "seconds" or measured[name] == plain[name]
    assert f"pull {cls.__name__}" in measured.columns


def test_a_model_with_dropout_and_an_average_is_left_alone(taught):
    options = {"average": 0.5, "model": NGCF}
    on, measured = fit(
        taught, [(DistillationExperts(num_experts=3), 0.01)], [Diagnostics()], **options
    )
    off, _ = fit(taught, [(DistillationExperts(num_experts=3), 0.01)], **options)
    for a, b in zip(on.state_dict().values(), off.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert on.training and len(measured["rbo"]) == 3


def test_the_global_random_state_is_not_touched(taught):
    torch.manual_seed(7)
    student, state = MF(taught, dim=4), torch.random.get_rng_state()
    Diagnostics()(0, student, taught)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_conflict_and_pull_are_those_of_the_gradients(taught):
    torch.manual_seed(1)
    student = MF(taught, dim=6)
    objective = Objective(
        student, pyg_kd.training.BPR(), [(TopologyDistillation("full"), 0.3)], base_weight=2.0
    )
    objective.bind(taught)
    found = Diagnostics(num_interactions=100).observe(0, objective, taught)
    batch = Diagnostics(num_interactions=100)._batch(taught)
    gradients = []
    for which in (0, 1):
        term = objective.terms(taught, batch)[which]
        parts = torch.autograd.grad(term, list(student.parameters()))
        gradients.append(np.concatenate([p.double().numpy().ravel() for p in parts]))
    norms = [np.linalg.norm(g) for g in gradients]
    name = "TopologyDistillation"
    cosine = gradients[0] @ gradients[1] / norms[0] / norms[1]
    assert found[f"conflict {name}"] == pytest.approx(cosine, rel=1e-4)
    assert found[f"pull {name}"] == pytest.approx(0.3 * norms[1] / (2 * norms[0]), rel=1e-4)
    assert all(p.grad is None for p in student.parameters())


class Opposed(Distillation):
    """The base loss with its sign turned."""

    def forward(self, x_dict, graph, batch: Batch):
        return -pyg_kd.training.BPR()(x_dict, batch)


def test_a_method_against_the_data_conflicts_with_it(train):
    _, history = fit(train, [(Opposed(), 0.5)], [Diagnostics()])
    assert history["conflict Opposed"] == pytest.approx([-1] * 3, abs=1e-5)
    assert history["pull Opposed"] == pytest.approx([0.5] * 3, rel=1e-5)
    assert "rbo" not in history.columns  # there is no teacher


def test_balance_counts_experts_and_groups(taught):
    method = TopologyDistillation(num_groups=4)
    _, history = fit(taught, [(method, 0.01)], [Diagnostics()])
    for node_type in ("user", "item"):
        teacher = taught[node_type].teacher_x
        share = np.bincount(method.experts.group(node_type, teacher), minlength=4) / len(teacher)
        expected = math.exp(-sum(p * math.log(p) for p in share if p))
        found = history[f"groups TopologyDistillation {node_type}"][-1]
        assert found == pytest.approx(expected)
        net = method.experts.mixture[node_type].selection
        alpha = net(teacher).softmax(1).mean(0).detach().double().numpy()
        expected = math.exp(-(alpha * np.log(alpha)).sum())
        found = history[f"experts TopologyDistillation {node_type}"][-1]
        assert found == pytest.approx(expected, rel=1e-5)
    assert effective_number(torch.tensor([7, 0, 0])) == 1


def test_a_distilled_student_comes_to_agree_with_its_teacher(taught):
    rrd = [(RelaxedRankingDistillation(num_interesting=10, num_uninteresting=10), 1.0)]
    _, history = fit(taught, rrd, [Diagnostics()], max_epochs=15, lr=0.05)
    assert history["rbo"][-1] > history["rbo"][0] + 0.2


def test_lists_alone_are_enough(graph):
    lists = extract_knowledge(EASE(graph), graph, num_items=25)
    assert "teacher_x" not in lists["user"]
    rrd = [(RelaxedRankingDistillation(num_interesting=5, num_uninteresting=5), 0.1)]
    _, history = fit(lists, rrd, [Diagnostics(k=10)])
    assert "overlap@10" in history.columns and "cka user" not in history.columns


def test_a_column_of_another_observer_is_refused(graph):
    with pytest.raises(ValueError, match="must not measure"):
        fit(graph, [], [Diagnostics(), Diagnostics()])


def test_options_are_checked_and_printed():
    assert "every=2" in repr(Diagnostics(every=2))
    with pytest.raises(ValueError, match="'every' must be a positive integer"):
        Diagnostics(every=0)
    with pytest.raises(ValueError, match="'num_interactions' must be an integer of 0 or more"):
        Diagnostics(num_interactions=-1)


def test_one_figure_has_a_panel_for_everything(taught):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    _, history = fit(taught, [(TopologyDistillation(num_groups=4), 0.01)], [Diagnostics()])
    figure = plot_diagnostics(history)
    assert [ax.get_title() for ax in figure.axes] == list(panels(history))
    assert len(figure.axes) == 6
    drawn = {line.get_label() for ax in figure.axes for line in ax.get_lines()}
    assert {"rbo", "cka user", "TopologyDistillation"} <= drawn
    with pytest.raises(ValueError, match="'history' must have columns of Diagnostics"):
        plot_diagnostics(History([{"epoch": 0, "loss": 1.0}]))
