from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.datasets.graph import interaction_graph
from pyg_kd.evaluation.full_ranking import PerUser, evaluate
from pyg_kd.evaluation.intervals import fieller_interval, t_interval
from pyg_kd.evaluation.k_means import k_means
from pyg_kd.evaluation.slice_groups import (
    Groups,
    activity_groups,
    cluster_groups,
    popularity_groups,
)
from pyg_kd.evaluation.slicing import slice_targets, slice_users, slices
from pyg_kd.evaluation.target_ranks import target_ranks
from pyg_kd.models import EASE, MF, Recommender
from pyg_kd.transforms import UserSplit


@pytest.fixture(scope="module")
def world():
    data = SyntheticInteractions(num_users=60, num_items=40, num_edges=700)[0]
    train, _, test = UserSplit(val=0.1, test=0.3, seed=0)(data)
    torch.manual_seed(3)
    return train, test, MF(train, dim=6), EASE(train)


def rankings(model, data, target) -> dict[int, list[int]]:
    """Every user's whole ranking, by sorting a full matrix of scores."""
    x = model(data)
    scores = model.score_block(x["user"], x["item"]).detach().double().numpy().copy()
    for graph in (data, target):
        user, item = graph["user", "item"].edge_index.numpy()
        scores[user, item] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")
    return {u: order[u].tolist() for u in range(len(order))}


def targets(target) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for user, item in zip(*target["user", "item"].edge_label_index.tolist(), strict=True):
        found.setdefault(user, []).append(item)
    return found


@pytest.mark.parametrize("batch_size", [None, 7])
def test_ranks_are_those_of_a_full_sort(world, batch_size):
    train, test, model, _ = world
    ranks = target_ranks(model, train, test, 10, batch_size=batch_size)
    order = rankings(model, train, test)
    wanted = [(u, i) for u, items in sorted(targets(test).items()) for i in sorted(items)]
    assert list(zip(ranks.user.tolist(), ranks.item.tolist(), strict=True)) == wanted
    assert ranks.rank.tolist() == [min(order[u].index(i), 10) for u, i in wanted]


def test_ranks_give_the_metrics_of_evaluate(world):
    train, test, model, _ = world
    found = target_ranks(model, train, test, 10).per_user("ndcg@10", "recall@5", "map@3")
    for name in found.values:
        metric, k = name.split("@")
        expected = evaluate(model, train, test, int(k), (metric,), per_user=True)
        assert torch.equal(found.user, expected.user)
        assert torch.allclose(found.values[name], expected.values[name])
        assert found.mean[name] == pytest.approx(expected.mean[name])


def test_everyone_together_is_what_evaluate_tells(world):
    train, test, model, teacher = world
    for metric in ("recall@20", "ndcg@5"):
        tables = slices(model, train, test, reference=teacher, metric=metric)
        name, k = metric.split("@")
        alone, best = (evaluate(m, train, test, int(k), (name,)) for m in (model, teacher))
        row = tables["activity"]["all"]
        assert row.value == pytest.approx(alone[metric])
        assert row.reference == pytest.approx(best[metric])
        assert row.retention == pytest.approx(alone[metric] / best[metric])
    recall = evaluate(model, train, test, 5, ("recall",))["recall@5"]
    assert tables["popularity"]["all"].value == pytest.approx(recall)


def test_targets_are_sliced_by_their_own_popularity(world):
    train, test, model, teacher = world
    groups = popularity_groups(train)
    table = slices(model, train, test, reference=teacher)["popularity"]
    for g, name in enumerate(groups.names):
        expected = []
        for one in (model, teacher):
            order, recalls = rankings(one, train, test), []
            for user, items in targets(test).items():
                own = [i for i in items if int(groups.of[i]) == g]
                if own:
                    recalls.append(len(set(own) & set(order[user][:20])) / len(own))
            expected.append(recalls)
        row = table[name]
        assert row.users == len(expected[0])
        assert row.value == pytest.approx(np.mean(expected[0]))
        assert row.reference == pytest.approx(np.mean(expected[1]))
    assert table.worst.retention == min(r.retention for r in table.rows[1:])


def test_users_are_sliced_by_hand(world):
    train, test, model, teacher = world
    groups = activity_groups(train, 3)
    result, other = (
        evaluate(m, train, test, 10, ("ndcg",), per_user=True) for m in (model, teacher)
    )
    table = slice_users(result, groups, reference=other)
    degree = np.bincount(train["user", "item"].edge_index[0].numpy(), minlength=60)
    for g, name in enumerate(groups.names):
        low, _, high = name.partition(" to ")
        inside = [
            place
            for place, user in enumerate(result.user.tolist())
            if int(low) <= degree[user] <= int(high or low)
        ]
        assert [int(groups.of[result.user[p]]) for p in inside] == [g] * len(inside)
        values = result.values["ndcg@10"][inside].numpy()
        assert table[name].value == pytest.approx(values.mean())
        expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        assert table[name].interval == pytest.approx((expected.low, expected.high))
        paired = stats.ttest_rel(values, other.values["ndcg@10"][inside].numpy())
        assert table[name].difference_interval == pytest.approx(tuple(paired.confidence_interval()))
    assert sum(row.users for row in table.rows[1:]) == table["all"].users == len(result.user)


def test_seeds_are_averaged_user_by_user(world):
    train, test, model, teacher = world
    both = slices([model, teacher], train, test)["activity"]
    single = [slices(m, train, test)["activity"] for m in (model, teacher)]
    for row, *of in zip(both, *single, strict=True):
        assert row.value == pytest.approx(np.mean([r.value for r in of]))


@given(st.integers(1, 40), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_activity_parts_users_evenly_but_never_equals(num_users, bins, seed):
    rng = np.random.default_rng(seed)
    degree = rng.integers(0, 6, num_users)
    degree[0] = 1
    user = torch.from_numpy(np.repeat(np.arange(num_users), degree))
    item = torch.from_numpy(np.concatenate([np.arange(d) for d in degree]))
    groups = activity_groups(interaction_graph(user, item, num_users, 6), bins)
    of = groups.of.numpy()
    assert (of[degree == 0] == -1).all()
    assert set(of[degree > 0]) == set(range(len(groups.names)))
    for a in range(num_users):
        for b in range(num_users):
            assert degree[a] != degree[b] or of[a] == of[b]
            assert not 0 < degree[a] < degree[b] or of[a] <= of[b]
    if len(set(degree[degree > 0])) == 1:
        assert len(groups.names) == 1


def test_activity_takes_bounds():
    user = torch.tensor([0] * 1 + [1] * 4 + [2] * 9)
    item = torch.tensor([0, *range(4), *range(9)])
    groups = activity_groups(interaction_graph(user, item, 4, 9), (0, 1, 5))
    assert groups.names == ("0", "1 to 4", "5 and more")
    assert groups.of.tolist() == [1, 1, 2, 0]
    with pytest.raises(ValueError, match="'bins' must ascend"):
        activity_groups(interaction_graph(user, item, 4, 9), (5, 1))


def test_popularity_cuts_where_the_shares_end(world):
    train = world[0]
    groups = popularity_groups(train)
    degree = np.bincount(train["user", "item"].edge_index[1].numpy(), minlength=40)
    order = np.argsort(-degree, kind="stable")
    total, before = degree.sum(), 0
    for value in sorted(set(degree) - {0}, reverse=True):
        same = [i for i in order if degree[i] == value]
        middle = (before + len(same) * value / 2) / total
        assert {int(groups.of[i]) for i in same} == {int(middle >= 0.2) + int(middle >= 0.8)}
        before += len(same) * value
    assert len({int(g) for g in groups.of[degree == 0]}) <= 1


def test_clusters_are_found_again():
    torch.manual_seed(1)
    centre = torch.tensor([[10.0, 0], [0, 10], [-10, -10]])
    truth = torch.arange(3).repeat(20)
    x = centre[truth] + torch.randn(60, 2)
    label, found = k_means(x, 3, seed=4)
    for c in range(3):
        assert len(label[truth == c].unique()) == 1
        members = x[label == label[truth == c][0]]
        assert torch.allclose(found[label[truth == c][0]], members.mean(0), atol=1e-5)
    groups = cluster_groups(x, 3)
    assert groups.node_type == "user" and len(groups.of.unique()) == 3


@given(st.integers(1, 12), st.integers(0, 1000))
def test_each_row_is_with_its_nearest_centre(num_clusters, seed):
    state = torch.random.get_rng_state()
    x = torch.from_numpy(np.random.default_rng(seed).integers(0, 3, (12, 2)).astype(np.float64))
    label, centre = k_means(x, num_clusters, seed=seed)
    distance = ((x[:, None] - centre) ** 2).sum(2)
    assert torch.allclose(distance.gather(1, label[:, None])[:, 0], distance.amin(1))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_ratio_lies_in_its_interval_as_often_as_it_says():
    rng, inside, n = np.random.default_rng(0), 0, 60
    for _ in range(2000):
        teacher = rng.gamma(2.0, 0.1, n)
        student = 0.7 * teacher + rng.normal(0, 0.05, n)
        low, high = fieller_interval(student, teacher)
        inside += low <= 0.7 <= high
    assert 0.935 < inside / 2000 < 0.965


def test_fieller_holds_the_ratios_that_a_paired_test_accepts():
    rng = np.random.default_rng(5)
    teacher = rng.gamma(2.0, 0.1, 30)
    student = 0.8 * teacher + rng.normal(0, 0.1, 30)
    for end in fieller_interval(student, teacher):
        assert stats.ttest_1samp(student - end * teacher, 0).pvalue == pytest.approx(0.05)
    assert fieller_interval(student, rng.normal(0, 1, 30)) == (-np.inf, np.inf)
    assert fieller_interval(student[:1], teacher[:1]) is None
    assert t_interval(student) == pytest.approx(
        stats.t.interval(0.95, 29, student.mean(), stats.sem(student))
    )


def test_a_group_that_nobody_is_in_has_no_value(world):
    train, test, model, _ = world
    groups = Groups("user", ("some", "none"), torch.zeros(60, dtype=torch.long))
    table = slices(model, train, test, groups={"mine": groups})["mine"]
    assert table["none"].users == 0 and np.isnan(table["none"].value)
    assert table.worst.name == "some"
    assert "none" in str(table) and table.to_dict()["title"] == "mine"
    with pytest.raises(KeyError, match="'other' is no slice"):
        table["other"]


@pytest.mark.parametrize(
    ("of", "error", "message"),
    [
        ([0] * 60, TypeError, r"'of' of 'mine' must be an int64 tensor.* \(got list\)"),
        (torch.zeros(60), TypeError, r"'of' of 'mine' must be an int64.* \(got torch.float32\)"),
        (torch.arange(60), ValueError, r"'of' of 'mine' must lie in -1\.\.1, .* \(got 59\)"),
        (torch.arange(60) - 60, ValueError, r"must lie in -1\.\.1, .* \(got -60\)"),
    ],
)
def test_groups_are_checked_before_anything_is_ranked(world, of, error, message):
    train, test, _, _ = world
    with pytest.raises(error, match=message):
        slices(None, train, test, groups={"mine": Groups("user", ("a", "b"), of)})


def test_groups_come_by_title(world):
    train, test, _, _ = world
    group = Groups("user", ("a",), torch.zeros(60).long())
    with pytest.raises(TypeError, match=r"'groups' must be a dictionary .* \(got list\)"):
        slices(None, train, test, groups=[group])
    with pytest.raises(TypeError, match=r"'groups' must be a dictionary .* \(got Groups\)"):
        slices(None, train, test, groups=group)
    with pytest.raises(TypeError, match=r"'mine' must be a Groups\(.*\) \(got Tensor\)"):
        slices(None, train, test, groups={"mine": group.of})
    with pytest.raises(TypeError, match=r"'groups' must be a Groups\(.*\) \(got dict\)"):
        slice_users(None, {"mine": group})


def test_bad_groups_and_results_are_named(world):
    train, test, model, _ = world
    with pytest.raises(ValueError, match="'mine' must have a group for each of 60"):
        slices(model, train, test, groups={"mine": Groups("user", ("a",), torch.zeros(3).long())})
    result = PerUser({"a@1": 0.0}, {"a@1": torch.zeros(2)}, torch.arange(2))
    items = Groups("item", ("a",), torch.zeros(2).long())
    with pytest.raises(ValueError, match="'groups' must be of users"):
        slice_users(result, items)
    with pytest.raises(TypeError, match="'result' must be what evaluate"):
        slice_users([1], items._replace(node_type="user"))
    first, second = (target_ranks(model, train, test, k) for k in (5, 6))
    with pytest.raises(ValueError, match="same targets and lists of one length"):
        slice_targets(first, items, reference=second)
    with pytest.raises(ValueError, match=r"'k' must hold lengths in 1\.\.40"):
        target_ranks(Recommender.from_embeddings(train, *model(train).values()), train, test, 41)
