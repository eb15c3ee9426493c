from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from pyg_kd import DistillationExperts, TopologyDistillation
from pyg_kd.typing import Batch

NODES = ("user", "item")


def array(x) -> np.ndarray:
    return x.detach().double().numpy()


def rho(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def entities(batch: Batch) -> dict[str, np.ndarray]:
    items = np.unique(np.concatenate([batch.positive, batch.negative.flatten()]))
    return {"user": np.unique(batch.user), "item": items}


def stack(x_dict: dict[str, np.ndarray], batch: Batch) -> np.ndarray:
    return np.concatenate([x_dict[node_type][entities(batch)[node_type]] for node_type in NODES])


def groups_of(method: TopologyDistillation, problem) -> list[int]:
    """Users in the first half of the groups, items in the second."""
    found: list[int] = []
    for node_type, offset in zip(NODES, (0, method.num_groups), strict=True):
        net = method.experts.mixture[node_type].selection
        for e in entities(problem.batch)[node_type]:
            t = array(problem.graph[node_type].teacher_x[e])
            found.append(offset + int((array(net.weight) @ t + array(net.bias)).argmax()))
    return found


def full(s: np.ndarray, t: np.ndarray) -> float:
    n = range(len(s))
    return sum((rho(t[i], t[j]) - rho(s[i], s[j])) ** 2 for i in n for j in n)


def levels(
    method: TopologyDistillation, group: list[int], s: np.ndarray, t: np.ndarray, fixed: np.ndarray
) -> float:
    """Entity level plus group level; ``fixed`` is where detached prototypes come from."""
    n, total = range(len(s)), 0.0
    for i in n:
        for j in n:
            alike = rho(t[i], t[j])
            if group[i] == group[j] and not (method.positive_pairs_only and alike <= 0):
                total += (alike - rho(s[i], s[j])) ** 2
    source = fixed if method.detach_prototypes else s
    present = sorted(set(group))
    members = {k: [i for i in n if group[i] == k] for k in present}
    p_t = {k: t[members[k]].mean(0) for k in present}
    p_s = {k: source[members[k]].mean(0) for k in present}
    for k in present:
        if method.level == "prototype-prototype":
            total += sum((rho(p_t[k], p_t[o]) - rho(p_s[k], p_s[o])) ** 2 for o in present)
            continue
        for j in n:
            if not (method.exclude_own_group and group[j] == k):
                total += (rho(p_t[k], t[j]) - rho(p_s[k], s[j])) ** 2
    return total


def check_slope(loss: Callable[[np.ndarray], float], problem, step: float = 1e-6) -> None:
    """The gradient found, against the derivative of an oracle along a random direction."""
    rng = np.random.default_rng(3)
    way = {key: rng.standard_normal(x.shape) for key, x in problem.x_dict.items()}
    ahead, back = (
        loss(
            stack(
                {key: array(x) + sign * step * way[key] for key, x in problem.x_dict.items()},
                problem.batch,
            )
        )
        for sign in (1, -1)
    )
    found = sum((array(problem.x_dict[key].grad) * way[key]).sum() for key in NODES)
    assert found == pytest.approx((ahead - back) / (2 * step), rel=1e-6, abs=1e-4)


def student_and_teacher(problem) -> tuple[np.ndarray, np.ndarray]:
    student = {key: array(x) for key, x in problem.x_dict.items()}
    teacher = {key: array(problem.graph[key].teacher_x) for key in NODES}
    return stack(student, problem.batch), stack(teacher, problem.batch)


def first(batch: Batch, n: int) -> Batch:
    return Batch(batch.user[:n], batch.positive[:n], batch.negative[:n])


@pytest.mark.parametrize("size", [3, 16])  # fewer entities than teacher dimensions, and more
def test_full(problem, size: int) -> None:
    problem.batch = first(problem.batch, size)
    method = TopologyDistillation("full").bind(problem.graph, 4)
    loss = method(problem.x_dict, problem.graph, problem.batch)
    loss.backward()
    s, t = student_and_teacher(problem)
    assert (len(s) > 10) == (size == 16)
    assert loss.item() == pytest.approx(full(s, t), rel=1e-9)
    check_slope(lambda s: full(s, t), problem)


def test_full_over_all_entities(problem) -> None:
    method = TopologyDistillation("full", entities="all").bind(problem.graph, 4)
    loss = method(problem.x_dict, problem.graph, first(problem.batch, 1))
    s = np.concatenate([array(problem.x_dict[key]) for key in NODES])
    t = np.concatenate([array(problem.graph[key].teacher_x) for key in NODES])
    assert loss.item() == pytest.approx(full(s, t), rel=1e-9)
    loss.backward()
    assert all(bool((x.grad.abs().sum(1) > 0).all()) for x in problem.x_dict.values())


OPTIONS = [
    {},
    {"exclude_own_group": False},
    {"positive_pairs_only": True},
    {"detach_prototypes": True},
    {"level": "prototype-prototype"},
    {"level": "prototype-prototype", "detach_prototypes": True},
    {"variant": "reference"},
    {"variant": "reference", "exclude_own_group": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("num_groups", [1, 3, 30])
def test_levels(problem, options: dict, num_groups: int) -> None:
    method = TopologyDistillation(gamma=1.0, num_groups=num_groups, **options)
    method.bind(problem.graph, 4)
    loss = method(problem.x_dict, problem.graph, problem.batch)
    loss.backward()
    s, t = student_and_teacher(problem)
    group = groups_of(method, problem)
    assert loss.item() == pytest.approx(levels(method, group, s, t, s), rel=1e-9)
    check_slope(lambda moved: levels(method, group, moved, t, s), problem)


def test_a_user_and_an_item_never_share_a_group(problem) -> None:
    # The same nets and the same teacher on both sides: only the kind of node tells them apart.
    problem.graph["user"].teacher_x = problem.graph["item"].teacher_x[:25].clone()
    method = TopologyDistillation(gamma=1.0, num_groups=2).bind(problem.graph, 4)
    nets = method.experts.mixture
    nets["item"].load_state_dict(nets["user"].state_dict())
    group = groups_of(method, problem)
    users = len(entities(problem.batch)["user"])
    assert {g % 2 for g in group[:users]} & {g % 2 for g in group[users:]}
    s, t = student_and_teacher(problem)
    loss = method(problem.x_dict, problem.graph, problem.batch)
    assert loss.item() == pytest.approx(levels(method, group, s, t, s), rel=1e-9)
    together = levels(method, [g % 2 for g in group], s, t, s)
    assert abs(loss.item() - together) > 1


@pytest.mark.parametrize("gamma", [0.0, 0.25, 0.5])
def test_gamma_mixes_levels_and_reconstruction(problem, gamma: float) -> None:
    method = TopologyDistillation(gamma=gamma, num_groups=3).bind(problem.graph, 4)
    method.on_epoch_start(1, 20)
    torch.manual_seed(7)
    loss = method(problem.x_dict, problem.graph, problem.batch)
    torch.manual_seed(7)
    rebuilding = method.experts(problem.x_dict, problem.graph, problem.batch)
    s, t = student_and_teacher(problem)
    both = levels(method, groups_of(method, problem), s, t, s)
    expected = gamma * both + (1 - gamma) * rebuilding.item()
    assert loss.item() == pytest.approx(expected, rel=1e-9)


def test_reconstruction_alone_trains_the_nets(problem) -> None:
    for gamma, trained in ((1.0, False), (0.5, True), (0.0, True)):
        method = TopologyDistillation(gamma=gamma, num_groups=3).bind(problem.graph, 4)
        method(problem.x_dict, problem.graph, problem.batch).backward()
        for name, p in method.named_parameters():
            assert (p.grad is not None and bool(p.grad.any())) == trained, (gamma, name)


def test_groups_change_without_gradient_through_them(problem) -> None:
    method = TopologyDistillation(gamma=1.0, num_groups=2).bind(problem.graph, 4)
    before = method(problem.x_dict, problem.graph, problem.batch)
    with torch.no_grad():
        for net in method.experts.mixture.values():
            net.selection.bias += torch.tensor([100.0, -100.0])  # everyone in the first group
    after = method(problem.x_dict, problem.graph, problem.batch)
    assert before.item() != pytest.approx(after.item(), rel=1e-3)


def test_variants() -> None:
    names = ("exclude_own_group", "positive_pairs_only", "detach_prototypes", "temperature")

    def values(**options: object) -> list[object]:
        method = TopologyDistillation(**options)
        return [getattr(method, name) for name in names]

    assert values() == [True, False, False, (1.0, 1e-10)]
    assert values(variant="reference") == [False, True, True, (1.0, 1e-10)]
    assert values(variant="reference", exclude_own_group=True)[:3] == [True, True, True]
    assert values(variant="reference", temperature=(2.0, 1.0))[3] == (2.0, 1.0)
    assert values(positive_pairs_only=True)[:3] == [True, True, False]


def test_the_reference_anneals_as_run_htd(problem) -> None:
    # Their loop counts epochs from 1; before it the temperature is 1.
    tau, num_epochs = 1.0, 10
    method = TopologyDistillation(variant="reference").bind(problem.graph, 4)
    for epoch in range(num_epochs):
        if epoch >= 1:
            tau = 1.0 * (1e-10 / 1.0) ** ((epoch - 1) / num_epochs)
        method.on_epoch_start(epoch, num_epochs)
        assert method.experts.tau == pytest.approx(tau)
    assert tau == pytest.approx(1e-8)


@pytest.mark.parametrize(("variant", "widths"), [("paper", [7, 5]), ("reference", [7, 10])])
def test_width_of_the_experts(problem, variant: str, widths: list[int]) -> None:
    for dim, width in zip((4, 10), widths, strict=True):  # d_t is 10
        method = TopologyDistillation(variant=variant, num_groups=2).bind(problem.graph, dim)
        assert {net.w1.size(2) for net in method.experts.mixture.values()} == {width}


def test_the_reference_rebuilds_the_unique_items(problem) -> None:
    # Half of the positives and half of the negatives is their DE, not their HTD.
    method = TopologyDistillation(gamma=0.0, num_groups=3, variant="reference")
    twin = DistillationExperts(num_experts=3).bind(problem.graph, 4)
    method.bind(problem.graph, 4).experts.load_state_dict(twin.state_dict())
    losses = []
    for each in (method, twin):
        torch.manual_seed(1)
        losses.append(each(problem.x_dict, problem.graph, problem.batch).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


def test_the_epoch_anneals_the_routing(problem) -> None:
    method = TopologyDistillation(temperature=(1.0, 0.01))
    method.on_epoch_start(5, 10)
    assert method.experts.tau == pytest.approx(0.1)
    TopologyDistillation("full").on_epoch_start(5, 10)


def test_reconstruction_is_that_of_distillation_experts(problem) -> None:
    method = TopologyDistillation(gamma=0.0, num_groups=4).bind(problem.graph, 4)
    twin = DistillationExperts(num_experts=4).bind(problem.graph, 4)
    twin.load_state_dict(method.experts.state_dict())
    losses = []
    for each in (method, twin):
        torch.manual_seed(1)
        losses.append(each(problem.x_dict, problem.graph, problem.batch).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_full_has_no_parameters(problem) -> None:
    assert list(TopologyDistillation("full").bind(problem.graph, 4).parameters()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "half"}, r"'mode' must be one of \('full', 'hierarchical'\) \(got 'half'\)"),
        ({"level": "entity"}, "'level'.*'entity'"),
        ({"variant": "code"}, "'variant'.*'code'"),
        ({"entities": "none"}, "'entities'.*'none'"),
        ({"gamma": 1.5}, r"'gamma' must lie in \[0, 1\] \(got 1.5\)"),
        ({"num_groups": 0}, "'num_groups'.*0"),
        ({"entities": "all"}, r"'entities'.*full mode only \(got mode='hierarchical'\)"),
        ({"temperature": (0.0, 1.0)}, "'temperature'"),
    ],
)
def test_refused_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TopologyDistillation(**options)


@pytest.mark.parametrize("mode", ["full", "hierarchical"])
def test_under_autocast_pairs_are_not_rounded(problem, mode: str) -> None:
    method = TopologyDistillation(mode, num_groups=3, gamma=1.0).bind(problem.graph, 4).float()
    teacher = {t: problem.graph[t].teacher_x.float() for t in ("user", "item")}
    for node_type, x in teacher.items():
        problem.graph[node_type].teacher_x = x
    x_dict = {key: x.detach().float() for key, x in problem.x_dict.items()}
    losses = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            losses.append(method(x_dict, problem.graph, problem.batch).item())
    assert losses[0] == losses[1]
