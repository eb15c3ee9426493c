from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from pyg_kd import (
    Distillation,
    DistillationExperts,
    RelaxedRankingDistillation,
    SoftLabel,
    TopologyDistillation,
)
from pyg_kd.models import MF
from pyg_kd.training import BPR, Trainer, divergence
from pyg_kd.training.divergence import broken_nodes
from pyg_kd.training.objective import Objective, check_terms
from pyg_kd.typing import Batch


class Pull(Distillation):
    """The squared length of the batch's users: without knowledge, without parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[int, int, bool]] = []

    def forward(self, x_dict, graph, batch):
        return x_dict["user"][batch.unique_users].square().sum()

    def on_epoch_start(self, epoch, max_epochs, x_dict=None):
        self.calls.append((epoch, max_epochs, x_dict["user"].requires_grad))


class Noisy(MF):
    """Its representations are of use in evaluation mode alone."""

    def forward(self, data):
        return {key: x * (0 if self.training else 1) for key, x in super().forward(data).items()}


class Reading(Distillation):
    """Keeps what it sees at the start of an epoch."""

    def on_epoch_start(self, epoch, max_epochs, x_dict=None):
        self.seen = x_dict


def test_methods_see_what_the_model_would_serve(train):
    model, method = Noisy(train, dim=4).train(), Reading()
    Objective(model, BPR(), [(method, 1.0)]).on_epoch_start(train, 0, 1)
    assert torch.equal(method.seen["user"], model.user_embedding) and model.training
    assert not method.seen["item"].requires_grad


def batch() -> Batch:
    return Batch(*parts())


def parts() -> tuple[torch.Tensor, ...]:
    return (torch.tensor([0, 0, 3]), torch.tensor([1, 2, 3]), torch.tensor([4, 5, 6]))


def test_weighted_sum_and_unweighted_terms(train):
    model = MF(train, dim=4, init_std=1.0)
    objective = Objective(model, BPR(), [(Pull(), 0.5), (Pull(), 3)], base_weight=0.25)
    total, terms = objective(train, *parts())
    base = BPR()(model(train), batch())
    pull = model.user_embedding[[0, 3]].square().sum()
    assert total.item() == pytest.approx((0.25 * base + 3.5 * pull).item(), rel=1e-6)
    torch.testing.assert_close(terms.float(), torch.stack([base, pull, pull]).detach())
    assert not terms.requires_grad
    total.backward()
    expected = torch.autograd.grad(
        0.25 * BPR()(model(train), batch()) + 3.5 * model.user_embedding[[0, 3]].square().sum(),
        model.user_embedding,
    )[0]
    torch.testing.assert_close(model.user_embedding.grad, expected)


class Blind(MF):
    """An objective of its own that looks at the tables, not at the representations."""

    default_loss, own_loss_reads = "own", False

    def own_loss(self, x_dict, data, batch):
        return self.user_embedding[batch.unique_users].square().sum() + 0 * len(x_dict)

    def forward(self, data):
        self.calls = getattr(self, "calls", 0) + 1
        return super().forward(data)


def test_representations_that_nobody_reads_are_not_made(train):
    model = Blind(train, dim=4, init_std=1.0)
    objective = Objective(model, None)
    total, _ = objective(train, *parts())
    assert total.item() == pytest.approx(model.user_embedding[[0, 3]].square().sum().item())
    assert not hasattr(model, "calls")
    for reader in (Objective(model, BPR()), Objective(model, None, [(Pull(), 1.0)])):
        model.calls = 0
        reader(train, *parts())
        assert model.calls == 1


def test_a_term_that_is_no_scalar(train):
    class Rows(Pull):
        def forward(self, x_dict, graph, batch):
            return x_dict["user"][batch.unique_users].sum(1)

    class Number(Pull):
        def forward(self, x_dict, graph, batch):
            return 0.0

    model, edges = MF(train, 4), train["user", "item"].edge_index[:, :3]
    for method, message in (
        (Rows(), r"Rows .*\(got shape \["),
        (Number(), r"Number .*\(got 0.0\)"),
    ):
        with pytest.raises(ValueError, match=message):
            Objective(model, BPR(), [(method, 1.0)])(train, *edges, edges[1].flip(0))


def test_a_model_is_looked_at_before_the_first_epoch(train):
    class Wide(MF):
        def forward(self, data):
            return {name: torch.cat([x, x], 1) for name, x in super().forward(data).items()}

    class Pair(MF):
        def forward(self, data):
            return self.user_embedding, self.item_embedding

    with pytest.raises(ValueError, match=r"'user' of width 8, its 'out_dim' is 4: override"):
        Objective(Wide(train, 4), BPR()).bind(train)
    with pytest.raises(TypeError, match=r"'model' must return a dictionary .* \(got tuple\)"):
        Objective(Pair(train, 4), BPR()).bind(train)


def test_weights_of_numpy(train):
    objective = Objective(MF(train, 4), BPR(), [(Pull(), np.float32(0.5)), (Pull(), np.int64(2))])
    assert objective.weights == [0.5, 2.0]


def test_zero_weights_leave_no_gradient(train):
    model = MF(train, dim=4, init_std=1.0)
    total, terms = Objective(model, BPR(), [(Pull(), 0.0)], base_weight=0.0)(train, *parts())
    total.backward()
    assert not bool(model.user_embedding.grad.any())
    assert bool((terms > 0).all())


def test_names_tell_methods_of_one_class_apart(train):
    methods = [(Pull(), 1.0), (TopologyDistillation(), 1.0), (Pull(), 1.0)]
    objective = Objective(MF(train, dim=4), BPR(), methods)
    assert objective.names == ["Pull.0", "TopologyDistillation", "Pull.2"]
    assert objective.distillations == [method for method, _ in methods]


def test_epoch_hook_sees_detached_representations(train):
    pull = Pull()
    Objective(MF(train, dim=4), BPR(), [(pull, 1.0)]).on_epoch_start(train, 3, 9)
    assert pull.calls == [(3, 9, False)]


@pytest.mark.parametrize(
    "method",
    [DistillationExperts(num_experts=3), TopologyDistillation(num_groups=3)],
    ids=lambda m: type(m).__name__,
)
def test_bind_makes_parameters_anew(graph, method):
    objective = Objective(MF(graph, dim=4), BPR(), [(method, 1.0)])
    torch.manual_seed(1)
    objective.bind(graph)
    first = {name: p.clone() for name, p in method.named_parameters()}
    with torch.no_grad():
        for parameter in method.parameters():
            parameter += 1
    torch.manual_seed(1)
    objective.bind(graph)
    again = dict(method.named_parameters())
    assert first.keys() == again.keys() and len(first) > 0
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_bind_names_what_is_missing(train):
    objective = Objective(MF(train, dim=4), BPR(), [(RelaxedRankingDistillation(), 1.0)])
    with pytest.raises(ValueError, match=r"teacher_items', which is missing: call graph = extract"):
        objective.bind(train)


@pytest.mark.parametrize(
    "wrong",
    [
        [Pull()],
        (Pull(), 0.1),
        [(Pull(),)],
        [(Pull(), 0.1, 0.2)],
        [(0.1, Pull())],
        [(Pull(), "0.1")],
        [(nn.Linear(2, 2), 0.1)],
        [[Pull(), 0.1]],
    ],
    ids=repr,
)
def test_entries_are_pairs(train, wrong):
    with pytest.raises(
        TypeError, match=r"'distillations' must hold \(method, weight\) pairs \(got"
    ):
        Objective(MF(train, dim=4), BPR(), wrong)


def test_distillations_are_a_list(train):
    with pytest.raises(TypeError, match=r"'distillations' must be a list of pairs \(got Pull"):
        Objective(MF(train, dim=4), BPR(), Pull())


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf")])
def test_weights_are_checked(train, weight):
    with pytest.raises(ValueError, match=rf"weight of Pull\(\) must .*\(got {weight}\)"):
        Objective(MF(train, dim=4), BPR(), [(Pull(), weight)])


def test_modules_without_decay_have_a_group_of_their_own(train):
    objective = Objective(MF(train, dim=4), BPR())
    (group,) = objective.parameter_groups()
    assert [id(p) for p in group["params"]] == [id(p) for p in objective.parameters()]
    assert set(group) == {"params"}  # the decay of the optimiser

    class Scale(nn.Module):
        decays = False

        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(1, 1, bias=False)

    objective.model.scale = Scale()
    rest, exempt = objective.parameter_groups()
    assert [id(p) for p in rest["params"]] == [id(p) for p in group["params"]]
    assert exempt == {"params": [objective.model.scale.inner.weight], "weight_decay": 0.0}


def test_broken_nodes(train):
    model = MF(train, dim=4, init_std=1.0)
    assert broken_nodes(model, train) is None
    # A large common part is no collapse as long as the rest can be told apart.
    with torch.no_grad():
        model.item_embedding += 100
    assert broken_nodes(model, train) is None
    with torch.no_grad():
        model.item_embedding[:] = model.item_embedding[:1] + 1e-4 * torch.randn(50, 4)
    assert broken_nodes(model, train) == ("item", "all the same")
    with torch.no_grad():
        model.user_embedding[:] = 0
    assert broken_nodes(model, train) == ("user", "all the same")
    with torch.no_grad():
        model.user_embedding[3, 2] = float("nan")
    assert broken_nodes(model, train) == ("user", "not finite")


def test_a_collapse_of_the_first_rows_alone_is_none(train, monkeypatch):
    monkeypatch.setattr(divergence, "FEW", 5)
    model = MF(train, dim=4, init_std=1.0)
    with torch.no_grad():
        model.user_embedding[:5] = model.user_embedding.mean(0)
    assert broken_nodes(model, train) is None


def test_numbers_without_a_square_are_called_so(train):
    model = MF(train, dim=4, init_std=1.0)
    with torch.no_grad():
        model.item_embedding[7, 1] = 1e30
    assert broken_nodes(model, train) == ("item", "too large to be squared")


@pytest.mark.parametrize("distillations", [[], [(Pull(), 0.0)]])
def test_a_sum_without_terms(train, distillations):
    with pytest.raises(ValueError, match=r"nothing would be trained: 'base_weight' is 0"):
        Trainer(base_weight=0, progress=False).fit(
            MF(train, dim=4), train, distillations=distillations
        )


ONLY_DOWN = "nothing raises the training items"


@pytest.mark.parametrize(
    "distillations",
    [
        [(SoftLabel(own="ignore"), 1.0)],
        [
            (SoftLabel(own="ignore"), 1.0),
            (SoftLabel(own="ignore"), 0.1),
            (TopologyDistillation(), 0.0),
        ],
    ],
)
def test_soft_labels_that_only_push_training_items_down(distillations):
    with pytest.warns(UserWarning, match=ONLY_DOWN):
        check_terms(0.0, distillations)


@pytest.mark.parametrize(
    ("base_weight", "distillations"),
    [
        (0.1, [(SoftLabel(own="ignore"), 1.0)]),
        (0.0, [(SoftLabel(), 1.0)]),
        (0.0, [(SoftLabel(own_weight=0.1), 1.0)]),
        (0.0, [(SoftLabel(tail="list"), 1.0)]),
        (0.0, [(SoftLabel(own="ignore"), 1.0), (TopologyDistillation(), 0.1)]),
        (1.0, []),
    ],
)
def test_sums_that_train_something(base_weight, distillations):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_terms(base_weight, distillations)


def test_training_items_fall_under_soft_labels_alone(graph):
    """What the warning says: the training items lose scores, unless own items are a target."""
    own = graph["user", "item"].edge_index

    def change(own_weight: float) -> float:
        torch.manual_seed(0)
        model = MF(graph, dim=6)
        before = model.score(model(graph), own).mean()
        trainer = Trainer(base_weight=0, max_epochs=3, progress=False, accelerator="cpu")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            method = SoftLabel(own="ignore", own_weight=own_weight)
            trainer.fit(model, graph, distillations=[(method, 1.0)])
        assert any(ONLY_DOWN in str(w.message) for w in caught) == (own_weight == 0)
        return float((model.score(model(graph), own).mean() - before).detach())

    assert change(0.0) < 0 < change(1.0)
