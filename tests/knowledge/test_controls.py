from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import HeteroData

from pyg_kd import (
    DistillationExperts,
    HetComp,
    RelaxedRankingDistillation,
    SoftLabel,
    Trainer,
    UnbiasedDistillation,
    extract_knowledge,
)
from pyg_kd.knowledge import (
    TrajectoryRecorder,
    attach_trajectories,
    control_knowledge,
    fuse,
    load_knowledge,
    own_items_knowledge,
    popularity_knowledge,
    read_lists,
    save_knowledge,
    self_knowledge,
    shuffle_knowledge,
)
from pyg_kd.knowledge.shuffling import cyclic_derangement
from pyg_kd.models import EASE, MF
from pyg_kd.typing import INTERACTS


@pytest.fixture
def graph(data: HeteroData) -> HeteroData:
    """All kinds of knowledge; two users, and an item, have no list."""
    torch.manual_seed(1)
    found = extract_knowledge(MF(data, dim=5), data, num_items=9, num_users=7)
    recorder = TrajectoryRecorder(num_items=6, num_states=2)
    trajectories = []
    for _ in range(2):
        model = MF(data, dim=3)
        recorder(0, model, data)
        model.reset_parameters()
        trajectories.append(recorder.finish(model, data))
    found = attach_trajectories(found, trajectories)
    found["user"].teacher_items[[3, 4]] = -1
    found["user"].teacher_confidence = torch.rand(23, 9) + 0.1
    found["user"].teacher_scores = torch.randn(23, 9)
    return found


def own(data: HeteroData) -> tuple[list[set[int]], list[set[int]]]:
    users: list[set[int]] = [set() for _ in range(23)]
    items: list[set[int]] = [set() for _ in range(31)]
    for user, item in data[INTERACTS].edge_index.t().tolist():
        users[user].add(item)
        items[item].add(user)
    return users, items


def unseen(row: list[int], seen: set[int], length: int) -> list[int]:
    kept = [i for i in row if i >= 0 and i not in seen]
    return kept + [-1] * (length - len(kept))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(0, 10))
def test_derangement(groups: list[int], seed: int) -> None:
    source = cyclic_derangement(torch.tensor(groups), torch.Generator().manual_seed(seed)).tolist()
    assert sorted(source) == list(range(len(groups)))
    for place, other in enumerate(source):
        assert groups[place] == groups[other]
        assert (place == other) == (groups.count(groups[place]) == 1)
        # One cycle through the group: walking on comes back after as many steps as it has members.
        steps, at = 1, other
        while at != place:
            steps, at = steps + 1, source[at]
        assert steps == groups.count(groups[place])


def test_a_derangement_is_as_likely_as_any_other() -> None:
    counts = np.zeros((4, 4))
    for seed in range(900):
        source = cyclic_derangement(torch.zeros(4), torch.Generator().manual_seed(seed))
        counts[range(4), source.numpy()] += 1
    assert (counts.diagonal() == 0).all()
    # 300 expected, deviation sqrt(900 * 1/3 * 2/3) = 14.1
    assert np.abs(counts[~np.eye(4, dtype=bool)] - 300).max() < 4.5 * 14.1


def source_of(graph: HeteroData, shuffled: HeteroData, node_type: str) -> list[int]:
    """Whose vectors everyone has: they are all different."""
    equal = shuffled[node_type].teacher_x[:, None] == graph[node_type].teacher_x[None]
    return equal.all(2).long().argmax(1).tolist()


@pytest.mark.parametrize("groups", [1, 3])
def test_shuffled(data: HeteroData, graph: HeteroData, groups: int) -> None:
    before = copy.deepcopy(graph)
    shuffled = shuffle_knowledge(graph, seed=4, degree_groups=groups)
    source = source_of(graph, shuffled, "user")
    assert sorted(source) == list(range(23))
    assert all(place != other for place, other in enumerate(source))
    users, items = own(data)
    for user, other in enumerate(source):
        for name in ("teacher_items", "teacher_trajectory"):
            wanted = graph["user"][name][other].reshape(-1, graph["user"][name].size(-1))
            found = shuffled["user"][name][user].reshape(wanted.shape)
            for row, expected in zip(found.tolist(), wanted.tolist(), strict=True):
                assert row == unseen(expected, users[user], len(row))
        observed = shuffled["user"].teacher_observed[user].reshape(-1, 6).tolist()
        assert all(row == observed[0] for row in observed)
        kept = [i for i in observed[0] if i >= 0]
        assert set(kept) <= users[user] and len(kept) == min(len(users[user]), 6)
    of_item = source_of(graph, shuffled, "item")
    assert all(place != other for place, other in enumerate(of_item))
    for item, other in enumerate(of_item):
        wanted = unseen(graph["item"].teacher_users[other].tolist(), items[item], 7)
        assert shuffled["item"].teacher_users[item].tolist() == wanted
    # Who has no list is taught nothing still.
    assert (shuffled["user"].teacher_items[[3, 4]] == -1).all()
    assert {source[3], source[4]} == {3, 4}
    for store in ("user", "item"):  # the teacher's is as it was
        for name, value in before[store].items():
            assert not isinstance(value, torch.Tensor) or torch.equal(value, graph[store][name])


def test_places_go_with_their_items(data: HeteroData, graph: HeteroData) -> None:
    shuffled = shuffle_knowledge(graph, seed=2)
    source = source_of(graph, shuffled, "user")
    for user, other in enumerate(source):
        rank = {int(i): r for r, i in enumerate(graph["user"].teacher_items[other]) if i >= 0}
        for name in ("teacher_scores", "teacher_confidence"):
            for item, value in zip(
                shuffled["user"].teacher_items[user].tolist(),
                shuffled["user"][name][user].tolist(),
                strict=True,
            ):
                expected = 0.0 if item < 0 else float(graph["user"][name][other, rank[item]])
                assert value == expected


def test_shuffled_among_the_equally_active(data: HeteroData, graph: HeteroData) -> None:
    needs = ["teacher_x"]
    shuffled = shuffle_knowledge(graph, needs=needs, degree_groups=11)
    degree = np.bincount(data[INTERACTS].edge_index[0].numpy(), minlength=23)
    source = source_of(graph, shuffled, "user")
    far = shuffle_knowledge(graph, needs=needs)
    apart = [np.abs(degree - degree[s]).mean() for s in (source, source_of(graph, far, "user"))]
    assert apart[0] < 0.5 * apart[1]


def test_only_users_are_shuffled(graph: HeteroData) -> None:
    shuffled = shuffle_knowledge(graph, node_types=("user",))
    assert torch.equal(shuffled["item"].teacher_x, graph["item"].teacher_x)
    assert torch.equal(shuffled["item"].teacher_users, graph["item"].teacher_users)
    assert shuffled.teacher_inner_product
    assert not shuffle_knowledge(graph).teacher_inner_product
    assert shuffle_knowledge(graph, needs=["teacher_x"]).teacher_inner_product


def test_fingerprints(data: HeteroData, graph: HeteroData, tmp_path) -> None:
    made = [
        shuffle_knowledge(graph),
        shuffle_knowledge(graph, seed=1),
        shuffle_knowledge(graph, degree_groups=2),
        shuffle_knowledge(graph, node_types=["user"]),
        popularity_knowledge(graph),
        own_items_knowledge(graph, needs=["teacher_items"]),
        graph,
    ]
    assert len({found.teacher_fingerprint for found in made}) == len(made)
    teachers = {tuple(f.trajectory_fingerprints) for f in made if "teacher_observed" in f["user"]}
    assert len(teachers) == 6
    assert len({found.graph_fingerprint for found in made}) == 1
    again = shuffle_knowledge(graph)
    assert again.teacher_fingerprint == made[0].teacher_fingerprint
    assert torch.equal(again["user"].teacher_items, made[0]["user"].teacher_items)
    save_knowledge(made[0], tmp_path / "shuffled.safetensors")
    loaded = load_knowledge(tmp_path / "shuffled.safetensors", data)
    assert loaded.teacher_fingerprint == made[0].teacher_fingerprint
    assert torch.equal(loaded["user"].teacher_items, made[0]["user"].teacher_items)


def usual_scores(graph: HeteroData) -> list[float]:
    """The mean of each place over users with a list."""
    listed = [u for u in range(23) if u not in (3, 4)]
    return graph["user"].teacher_scores[listed].double().mean(0).tolist()


def test_popularity(data: HeteroData, graph: HeteroData) -> None:
    popular = popularity_knowledge(graph)
    users, items = own(data)
    degree = [len(of) for of in items]
    usual = usual_scores(graph)
    best = sorted(range(31), key=lambda i: (-degree[i], i))
    active = sorted(range(23), key=lambda u: (-len(users[u]), u))
    for user in range(23):
        wanted = [i for i in best if i not in users[user]]
        listed = [-1] * 9 if user in (3, 4) else wanted[:9]
        assert popular["user"].teacher_items[user].tolist() == listed
        expected = [0.0 if i < 0 else usual[r] for r, i in enumerate(listed)]
        assert popular["user"].teacher_scores[user].tolist() == pytest.approx(expected)
        assert (popular["user"].teacher_trajectory[user] == torch.tensor(wanted[:6])).all()
        own_best = [i for i in best if i in users[user]][:6]
        own_best += [-1] * (6 - len(own_best))
        assert (popular["user"].teacher_observed[user] == torch.tensor(own_best)).all()
    for item in range(31):
        wanted = [u for u in active if u not in items[item]][:7]
        assert popular["item"].teacher_users[item].tolist() == wanted
    assert "teacher_confidence" not in popular["user"]
    x_user, x_item = popular["user"].teacher_x.double(), popular["item"].teacher_x.double()
    assert np.linalg.matrix_rank(np.vstack([x_user, x_item])) == 1
    scores = (x_user @ x_item.T).numpy()
    assert np.allclose(scores / scores[:, :1], scores[:1] / scores[0, 0])
    assert np.allclose(scores[0] / scores[0, 0], (1 + np.log1p(degree)) / (1 + np.log1p(degree[0])))
    for node_type in ("user", "item"):
        norms = [g[node_type].teacher_x.square().sum() for g in (graph, popular)]
        assert float(norms[0]) == pytest.approx(float(norms[1]), rel=1e-5)


def test_self_teacher(data: HeteroData, graph: HeteroData) -> None:
    torch.manual_seed(7)
    student = MF(data, dim=2)
    needs = ["teacher_x", "teacher_items", "teacher_users"]
    taught = self_knowledge(graph, student, needs=needs)
    assert "teacher_trajectory" not in taught["user"]
    lists = extract_knowledge(student, data, num_items=9, num_users=7)
    listed = [u for u in range(23) if u not in (3, 4)]
    assert torch.equal(taught["user"].teacher_items[listed], lists["user"].teacher_items[listed])
    assert (taught["user"].teacher_items[[3, 4]] == -1).all()
    assert torch.equal(taught["item"].teacher_users, lists["item"].teacher_users)
    assert torch.equal(taught["item"].teacher_x, lists["item"].teacher_x)
    scores = torch.tensor(usual_scores(graph)).expand(len(listed), -1)
    assert torch.allclose(taught["user"].teacher_scores[listed], scores, atol=1e-6)
    assert (taught["user"].teacher_scores[[3, 4]] == 0).all()
    with pytest.raises(ValueError, match="give 'trajectory'"):
        self_knowledge(graph, student)
    with pytest.raises(ValueError, match="no embeddings for 'teacher_x'"):
        self_knowledge(graph, EASE(data), needs=needs)


def test_self_teacher_with_a_trajectory(data: HeteroData, graph: HeteroData) -> None:
    student, recorder = MF(data, dim=2), TrajectoryRecorder(num_items=6, num_states=2)
    recorder(0, student, data)
    student.reset_parameters()
    trajectory = recorder.finish(student, data)
    taught = self_knowledge(graph, student, trajectory=trajectory)
    assert taught["user"].teacher_trajectory.shape == (23, 1, 2, 6)
    assert torch.equal(taught["user"].teacher_trajectory[:, 0], trajectory.items)
    assert len(taught.trajectory_fingerprints) == 1


def test_self_teacher_of_an_ensemble(data: HeteroData) -> None:
    ensemble = fuse([EASE(data), MF(data, dim=4)], data=data, num_items=8)
    student = MF(data, dim=2)
    taught = self_knowledge(ensemble, student)
    assert "teacher_x" not in taught["user"]
    expected = ensemble["user"].teacher_scores.mean(0)
    assert (ensemble["user"].teacher_items >= 0).all()
    assert torch.allclose(taught["user"].teacher_scores, expected.expand(23, -1), atol=1e-6)
    assert expected.diff().lt(0).all()


def test_own_items(data: HeteroData, graph: HeteroData) -> None:
    found = own_items_knowledge(graph, seed=3, needs=["teacher_items", "teacher_users"])
    users, items = own(data)
    for user in range(23):
        listed = [i for i in found["user"].teacher_items[user].tolist() if i >= 0]
        if user in (3, 4):
            assert not listed
        else:
            assert set(listed) <= users[user] and len(listed) == min(9, len(users[user]))
    assert (found["user"].teacher_scores == 0).all()
    for item in range(31):
        listed = [u for u in found["item"].teacher_users[item].tolist() if u >= 0]
        assert set(listed) <= items[item] and len(listed) == min(7, len(items[item]))
    with pytest.raises(ValueError, match="nothing stands for"):
        own_items_knowledge(graph)


def test_no_teacher_is_the_likelihood_of_own_items(data: HeteroData) -> None:
    graph = extract_knowledge(MF(data, dim=4), data, num_items=31)
    method = SoftLabel(own="ignore", target="score", num_listed=31)
    lists = read_lists(
        {"user": [*range(23)], "item": [int(i) for i in graph["user"].teacher_items[:, 0]]}, data
    )
    wide = copy.copy(lists)
    wide["user"].teacher_items = graph["user"].teacher_items
    found = control_knowledge("none", wide, methods=[SoftLabel(own="ignore")])
    student = MF(data, dim=3).double()
    x_dict = {k: v.detach() for k, v in student(data).items()}
    method.bind(found, 3)

    class Batch:
        unique_users = torch.arange(23)

    loss = float(method(x_dict, found, Batch()))
    log_p = torch.log_softmax(x_dict["user"] @ x_dict["item"].T, 1)
    users, _ = own(data)
    expected = -sum(float(log_p[u, sorted(users[u])].mean()) for u in range(23) if users[u])
    assert loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("control", ["shuffled", "popularity", "self", "none"])
@pytest.mark.parametrize(
    "methods",
    [
        [RelaxedRankingDistillation(num_interesting=4, num_uninteresting=3)],
        [DistillationExperts(num_experts=2)],
        [SoftLabel(target="score", own="ignore", num_listed=5)],
        [UnbiasedDistillation()],
        [
            DistillationExperts(num_experts=2),
            RelaxedRankingDistillation(num_interesting=4, num_uninteresting=3),
        ],
        [HetComp(num_listed=5)],
    ],
    ids=lambda methods: "+".join(type(m).__name__ for m in methods),
)
def test_methods_learn_from_controls(data, graph, control, methods) -> None:
    student, trajectory = MF(data, dim=3), None
    if any("teacher_observed" in m.needs for m in methods):
        recorder = TrajectoryRecorder(num_items=6, num_states=1)
        trajectory = recorder.finish(student, data)
    options = {"methods": methods, "model": student, "trajectory": trajectory}
    lists_alone = all(set(m.needs) <= {"teacher_items"} for m in methods)
    if control == "none" and not lists_alone:
        if not isinstance(methods[0], SoftLabel):
            with pytest.raises(ValueError, match="nothing stands for"):
                control_knowledge(control, graph, **options)
            return
        for store in (graph["user"], graph["item"]):
            store.pop("teacher_x")
    found = control_knowledge(control, graph, **options)
    trainer = Trainer(max_epochs=1, batch_size=64, progress=False)
    history = trainer.fit(MF(data, dim=3), found, distillations=[(m, 0.1) for m in methods])
    assert np.isfinite(history.rows[0]["loss"])


def test_errors(data: HeteroData, graph: HeteroData) -> None:
    with pytest.raises(ValueError, match=r"'control' must be one of .* \(got 'random'\)"):
        control_knowledge("random", graph)
    with pytest.raises(ValueError, match="needs 'model'"):
        control_knowledge("self", graph)
    with pytest.raises(ValueError, match="own='ignore'"):
        control_knowledge("none", graph, methods=[SoftLabel()])
    with pytest.raises(ValueError, match="carries no knowledge"):
        shuffle_knowledge(data)
    with pytest.raises(ValueError, match="'node_types' must be some of"):
        shuffle_knowledge(graph, node_types=["author"])
    with pytest.raises(ValueError, match="'degree_groups' must be a positive integer"):
        shuffle_knowledge(graph, degree_groups=0)
    with pytest.raises(ValueError, match="'needs' must be some of"):
        popularity_knowledge(graph, needs=["teacher_y"])
    graph["user"].teacher_items[0, 0] = 31
    with pytest.raises(ValueError, match=r"must hold ids in 0\.\.30"):
        shuffle_knowledge(graph)


def test_one_user_cannot_be_shuffled() -> None:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 1, 5
    data[INTERACTS].edge_index = torch.tensor([[0], [2]])
    graph = extract_knowledge(MF(data, dim=2), data, num_items=3)
    with pytest.raises(ValueError, match="two nodes of type 'user' at least"):
        shuffle_knowledge(graph)
