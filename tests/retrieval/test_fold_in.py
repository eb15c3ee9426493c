from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.graph import interactions
from pyg_kd.models import EASE, GFCF, MF, ItemAE, LightGCN, MultVAE
from pyg_kd.retrieval.fold_in import (
    FoldIn,
    encoder_of,
    fit_fold_in,
    fit_fold_in_of,
    propagation_source,
)
from pyg_kd.retrieval.fold_in.histories import Histories, histories_of, weighted_sums
from pyg_kd.retrieval.fold_in.regression import BOUNDS, cut, fit_maps, group_of
from pyg_kd.retrieval.fold_in.trial import make_trial
from pyg_kd.retrieval.tables import Table


def csr(lists):
    ptr = np.concatenate([[0], np.cumsum([len(x) for x in lists])]).astype(np.int64)
    return ptr, np.concatenate([np.empty(0, np.int64), *lists]).astype(np.int64)


def random_lists(rng, num_users, num_items, longest):
    return [
        rng.choice(num_items, rng.integers(0, min(longest, num_items) + 1), replace=False)
        for _ in range(num_users)
    ]


def planted(seed=0, num_users=300, num_items=200, dim=4, degree=12, mean=0.5):
    """Users and items of one space, and each user's best items, with noise."""
    rng = np.random.default_rng(seed)
    x_user = rng.normal(size=(num_users, dim)) + mean
    x_item = rng.normal(size=(num_items, dim)) * (rng.random((num_items, 1)) + 0.5)
    scores = x_user @ x_item.T + rng.gumbel(size=(num_users, num_items))
    lists = [np.sort(row) for row in np.argsort(-scores, axis=1)[:, :degree]]
    return x_user, x_item, *csr(lists)


def graph_of(seed=0, num_users=30, num_items=25, num_edges=200):
    sizes = {"num_users": num_users, "num_items": num_items, "num_edges": num_edges}
    return SyntheticInteractions(None, **sizes, seed=seed)[0]


def histories_in(graph):
    seen = interactions(graph).by_user()
    return seen.ptr.numpy(), seen.col.numpy()


# Ridge regression.


def objective(u, y, history, weight, rule):
    own, unseen = y[history] @ u, (y @ u) ** 2
    alpha = rule["alpha"]
    penalty = rule["regularization"] * np.trace(y.T @ y) / y.shape[1]
    fit = (weight * ((1 + alpha) * (1 - own) ** 2 - own**2)).sum()
    return fit + unseen.sum() + penalty * (u**2).sum()


def ridge(y, history, weight, rule):
    """The minimum of the objective, by the normal equations of implicit ALS."""
    dim, own = y.shape[1], y[history]
    penalty = rule["regularization"] * np.trace(y.T @ y) / dim
    left = y.T @ y + penalty * np.eye(dim) + rule["alpha"] * own.T @ (own * weight[:, None])
    return np.linalg.solve(left, (1 + rule["alpha"]) * own.T @ weight)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 40), st.sampled_from([0.0, 0.5, 9]))
def test_ridge_solves_the_normal_equations(seed, dim, num_items, alpha):
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(num_items, dim))
    lists = random_lists(rng, 7, num_items, 30)
    ptr, col = csr(lists)
    weight = rng.random(len(col)) + 0.1
    fold_in = FoldIn("ridge", y, settings={"alpha": alpha, "regularization": 0.3})
    for given_weight in (None, weight):
        found = fold_in(ptr, col, given_weight)
        used = np.ones(len(col)) if given_weight is None else given_weight
        for row, history in enumerate(lists):
            want = ridge(y, history, used[ptr[row] : ptr[row + 1]], fold_in.settings)
            np.testing.assert_allclose(found[row], want, rtol=2e-4, atol=2e-5)


def test_ridge_minimises_its_objective():
    rng = np.random.default_rng(0)
    y, history = rng.normal(size=(30, 5)), np.array([3, 8, 21])
    fold_in = FoldIn.default(y)
    found = fold_in([0, 3], history)[0].astype(np.float64)
    least = objective(found, y, history, np.ones(3), fold_in.settings)
    for _ in range(50):
        other = found + 0.01 * rng.normal(size=5)
        assert objective(other, y, history, np.ones(3), fold_in.settings) > least


def test_all_weights_of_one_are_no_weights_and_item_weights_multiply():
    rng = np.random.default_rng(1)
    y, item_weight = rng.normal(size=(20, 3)), rng.random(20)
    ptr, col = [0, 4, 5], np.array([1, 5, 7, 9, 3])
    for kind in ("ridge", "propagation"):
        plain = FoldIn(kind, y)
        np.testing.assert_allclose(plain(ptr, col), plain(ptr, col, np.ones(5)), rtol=1e-6)
        weighted = FoldIn(kind, y, arrays={"item_weight": item_weight})
        want = plain(ptr, col, 3.0 * item_weight[col])
        np.testing.assert_allclose(weighted(ptr, col, np.full(5, 3.0)), want, rtol=1e-5)


def test_a_stored_root_is_the_one_that_is_computed():
    y = np.random.default_rng(2).normal(size=(40, 4))
    penalty = 3.0 * np.trace(y.T @ y) / 4
    value, vector = np.linalg.eigh(y.T @ y + penalty * np.eye(4))
    stored = FoldIn("ridge", y, arrays={"root": vector / np.sqrt(value) @ vector.T})
    args = [0, 2], [7, 9]
    np.testing.assert_allclose(stored(*args), FoldIn.default(y)(*args), rtol=1e-5)


def test_a_history_as_long_as_the_table_and_longer_than_a_block(monkeypatch):
    monkeypatch.setattr("pyg_kd.retrieval.fold_in.ridge.GATHERED", 64)
    monkeypatch.setattr("pyg_kd.retrieval.fold_in.histories.GATHERED", 64)
    y = np.random.default_rng(0).normal(size=(100, 3))
    ptr, col = csr([np.arange(100), np.array([4]), np.arange(50)])
    fold_in = FoldIn.default(y)
    found = fold_in(ptr, col)
    for row in range(3):
        history = col[ptr[row] : ptr[row + 1]]
        want = ridge(y, history, np.ones(len(history)), fold_in.settings)
        np.testing.assert_allclose(found[row], want, rtol=1e-4)
    sums = weighted_sums(Table.of(y), Histories(ptr, col))
    np.testing.assert_allclose(sums[0], y.sum(0), rtol=1e-4)


# Histories.


@pytest.mark.parametrize("kind", ["ridge", "propagation"])
def test_repeated_items_and_their_order_do_not_count(kind):
    rng = np.random.default_rng(0)
    fold_in = FoldIn(kind, rng.normal(size=(20, 4)))
    once = fold_in([0, 3, 3, 5], [2, 7, 9, 0, 1])
    again = fold_in([0, 6, 6, 8], [9, 7, 2, 7, 9, 9, 1, 0])
    np.testing.assert_array_equal(once, again)
    assert not once[1].any()


def test_of_repeated_items_the_largest_weight_counts():
    fold_in = FoldIn("propagation", np.eye(3), settings={"degree_power": 0})
    found = fold_in([0, 3], [1, 0, 1], weights=[2, 5, 4])
    np.testing.assert_array_equal(found, [[5, 4, 0]])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 8), max_size=12), max_size=6))
def test_histories_hold_each_item_once(lists):
    ptr, col = csr([np.array(x, np.int64) for x in lists])
    found = histories_of(ptr, col, 9)
    assert [
        found.col[a:b].tolist() for a, b in zip(found.ptr[:-1], found.ptr[1:], strict=True)
    ] == [sorted(set(x)) for x in lists]


@pytest.mark.parametrize(
    "ptr, col, weights, message",
    [
        ([0, 1], [3], None, r"'history.col' must lie in 0..2 \(got 3\)"),
        ([0, 1], [-1], None, r"'history.col' must lie in 0..2 \(got -1\)"),
        ([0, 2], [1], None, "'history.ptr' must run from 0 to 1"),
        ([0, 1], [1], [np.nan], r"'weights' must be finite and not negative \(got nan\)"),
        ([0, 1], [1], [-1], "'weights' must be finite and not negative"),
        ([0, 1], [1], [1, 2], r"'weights' must be \[1\] \(got \[2\]\)"),
    ],
)
def test_wrong_histories_are_refused(ptr, col, weights, message):
    with pytest.raises(ValueError, match=message):
        FoldIn.default(np.eye(3))(ptr, col, weights)


def test_numbers_of_the_wrong_kind_are_refused():
    with pytest.raises(TypeError, match=r"'history\.col' must be integers"):
        FoldIn.default(np.eye(3))([0, 1], [0.5])
    with pytest.raises(TypeError, match="'weights' must be numbers"):
        FoldIn.default(np.eye(3))([0, 1], [0], ["much"])


def test_a_table_of_zeros_and_one_column():
    ptr, col = [0, 2, 2], [1, 0]
    for y in (np.zeros((3, 2)), np.zeros((3, 1))):
        np.testing.assert_array_equal(FoldIn.default(y)(ptr, col), np.zeros((2, y.shape[1])))
    assert FoldIn.default(np.ones((3, 1)))(ptr, col)[0, 0] > 0


def test_integer_tables_are_widened():
    y = np.random.default_rng(0).normal(size=(30, 6))
    table = Table.of(y, "int8")
    for kind in ("ridge", "propagation"):
        np.testing.assert_array_equal(
            FoldIn(kind, table)([0, 3], [1, 2, 3]),
            FoldIn(kind, table.block(0, 30))([0, 3], [1, 2, 3]),
        )


@pytest.mark.parametrize(
    "kind, options, message",
    [
        ("tree", {}, "'kind' must be one of"),
        ("ridge", {"settings": {"beta": 1}}, r"'settings' of 'ridge' must be out of .* \['beta'\]"),
        ("ridge", {"settings": {"alpha": -1.0}}, "'alpha' must be 0 or more"),
        ("ridge", {"settings": {"alpha": np.nan}}, "'alpha' must be 0 or more"),
        ("ridge", {"arrays": {"source": np.eye(3)}}, "'arrays' of 'ridge' must be out of"),
        ("ridge", {"arrays": {"item_weight": np.ones(2)}}, r"'item_weight' must be \[3\]"),
        ("ridge", {"arrays": {"item_weight": -np.ones(3)}}, "'item_weight' must not be negative"),
        ("propagation", {"arrays": {"source": np.full((3, 3), np.inf)}}, "'source' must be finite"),
        ("regression", {}, "'arrays' of 'regression' must be"),
        ("encoder", {}, "'arrays' of 'encoder' must be"),
    ],
)
def test_wrong_rules_are_refused(kind, options, message):
    with pytest.raises(ValueError, match=message):
        FoldIn(kind, np.eye(3), **options)


def test_bounds_of_maps_ascend_from_one():
    maps = {"maps": np.zeros((2, 3, 3)), "offsets": np.zeros((2, 3))}
    for bounds in ([0, 1], [1, 1]):
        with pytest.raises(ValueError, match="'bounds' must ascend from 1"):
            FoldIn("regression", np.eye(3), arrays={"bounds": np.array(bounds), **maps})
    with pytest.raises(TypeError, match="'bounds' has the wrong dtype"):
        FoldIn("regression", np.eye(3), arrays={"bounds": np.array([1.0, 2.0]), **maps})


def test_a_table_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="'x_item' must be finite"):
        FoldIn.default(np.array([[np.nan]]))


# What models do themselves.


@pytest.mark.parametrize("options", [{}, {"hidden_dim": 5}])
def test_users_are_encoded_as_mult_vae_does(options):
    graph = graph_of()
    torch.manual_seed(0)
    model = MultVAE(graph, dim=4, **options).eval()
    x_dict = model(graph)
    arrays = encoder_of(model)
    fold_in = FoldIn("encoder", x_dict["item"].detach().numpy(), arrays=arrays)
    found = fold_in(*histories_in(graph))
    degree = interactions(graph).by_user().degree
    want = x_dict["user"].detach().numpy()[degree > 0]
    np.testing.assert_allclose(found[degree > 0], want, atol=1e-5)
    assert np.isfinite(fold_in([0, 3], [1, 2, 3], weights=[1.0, 0.0, 2.0])).all()
    assert not fold_in([0, 0], []).any()


def test_an_encoder_keeps_its_weights_when_training_goes_on():
    graph = graph_of()
    model = MultVAE(graph, dim=4)
    arrays = encoder_of(model)
    before = arrays["item_input"].copy()
    with torch.no_grad():
        model.item_input.add_(1)
    np.testing.assert_array_equal(arrays["item_input"], before)


def test_an_encoder_of_another_table_is_refused():
    graph = graph_of()
    arrays = encoder_of(MultVAE(graph, dim=4, hidden_dim=6))
    with pytest.raises(ValueError, match=r"'item_input' must be \[9, 6\] \(got \[25, 6\]\)"):
        FoldIn("encoder", np.ones((9, 7)), arrays=arrays)


def test_other_models_have_no_encoder_and_say_whether_they_have_vectors():
    graph = graph_of()
    models = [MF(graph, dim=3), LightGCN(graph, dim=3), ItemAE(graph, dim=3), EASE(graph)]
    models.append(GFCF(graph, dim=3))
    assert [encoder_of(model) for model in models] == [None] * 5
    assert [model.inner_product for model in models] == [True, True, True, False, False]
    assert [propagation_source(m, graph) is None for m in models] == [True, False, True, True, True]


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_a_new_user_receives_the_layers_of_its_items(num_layers):
    graph = graph_of()
    torch.manual_seed(0)
    model = LightGCN(graph, dim=4, num_layers=num_layers)
    num_users, num_items = model.num_users, model.num_items
    dense = torch.zeros(num_users, num_items)
    dense[tuple(graph["user", "item"].edge_index)] = 1
    degree_user, degree_item = dense.sum(1).clamp(min=1), dense.sum(0).clamp(min=1)
    normal = dense / degree_user.sqrt()[:, None] / degree_item.sqrt()
    layers = [(model.user_embedding.detach(), model.item_embedding.detach())]
    for _ in range(num_layers):
        user, item = layers[-1]
        layers.append((normal @ item, normal.T @ user))
    # The new user: an embedding of zero, and items' layers as they were.
    history = [2, 5, 11]
    want = torch.zeros(4)
    for _, item in layers[:-1]:
        for i in history:
            want += item[i] / (3 * (dense.sum(0)[i] + 1)).sqrt() / (num_layers + 1)
    source = propagation_source(model, graph)
    x_item = model(graph)["item"].detach().numpy()
    fold_in = FoldIn("propagation", x_item, arrays={"source": source})
    np.testing.assert_allclose(fold_in([0, 3], history)[0], want.numpy(), atol=1e-6)


def test_no_layers_send_nothing():
    graph = graph_of()
    assert propagation_source(LightGCN(graph, dim=4, num_layers=0), graph) is None


# Maps.


def test_a_linear_relation_is_found():
    rng = np.random.default_rng(0)
    y, true, offset = rng.normal(size=(50, 3)), rng.normal(size=(3, 3)), rng.normal(size=3)
    lists = [rng.choice(50, 8, replace=False) for _ in range(400)]
    ptr, col = csr(lists)
    x_user = np.stack([true @ y[x].sum(0) / np.sqrt(8) + offset for x in lists])
    maps = fit_maps(Table.of(y), Table.of(x_user), histories_of(ptr, col, 50), rng)
    # From 13 items on, histories of 8 are not cut.
    whole = maps.bounds >= 13
    np.testing.assert_allclose(maps.maps[whole], np.stack([true] * whole.sum()), atol=0.02)
    np.testing.assert_allclose(maps.offsets[whole], np.stack([offset] * whole.sum()), atol=0.02)
    found = FoldIn("regression", y, arrays=maps._asdict())(ptr, col)
    group = group_of(np.array([8]), maps.bounds)[0]
    for row, history in enumerate(lists[:20]):
        want = maps.maps[group] @ y[history].sum(0) / np.sqrt(8) + maps.offsets[group]
        np.testing.assert_allclose(found[row], want, rtol=1e-4, atol=1e-5)


def test_the_fewer_items_the_closer_to_the_mean_user():
    x_user, x_item, ptr, col = planted()
    maps = fit_maps(
        Table.of(x_item), Table.of(x_user), histories_of(ptr, col, 200), np.random.default_rng(0)
    )
    fold_in = FoldIn("regression", x_item, arrays=maps._asdict())
    mean_user, matrix = x_user.mean(0), col.reshape(-1, 12)
    distance = []
    for length in (1, 4, 12):
        found = fold_in(np.arange(0, 300 * length + 1, length), matrix[:, :length].ravel())
        distance.append(np.linalg.norm(found - mean_user, axis=1).mean())
    assert distance[0] < distance[1] < distance[2]


def test_groups_of_lengths():
    degrees = np.array([0, 1, 2, 3, 4, 5, 49, 50, 10**6])
    assert group_of(degrees, np.array(BOUNDS)).tolist() == [0, 0, 1, 2, 2, 3, 6, 7, 7]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_a_cut_history_is_a_part_and_the_rest_is_the_rest(seed):
    rng = np.random.default_rng(seed)
    lists = random_lists(rng, 6, 15, 12)
    histories = histories_of(*csr(lists), 15)
    longest = rng.integers(0, 8, 6)
    kept, rest = cut(histories, longest, rng)
    for row in range(6):
        one, two = (set(h.col[h.ptr[row] : h.ptr[row + 1]].tolist()) for h in (kept, rest))
        assert one | two == set(lists[row].tolist()) and not one & two
        assert len(one) == min(len(lists[row]), longest[row])


# Known users.


def test_a_known_user_moves_by_what_new_items_change():
    x_user, x_item, ptr, col = planted()
    fold_in = fit_fold_in(x_item, ptr, col, x_user=x_user)
    before, after = col[:12], np.append(col[:12], [i for i in range(20) if i not in col[:12]][:2])
    old, new = (fold_in([0, len(items)], items)[0] for items in (before, after))
    found = fold_in.updated(x_user[0], before, np.append(after, after[:3]))
    want = new + 12 / 14 * (x_user[0] - old)
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6)
    same = fold_in.updated(x_user[0], before, before[::-1])
    np.testing.assert_allclose(same, x_user[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(fold_in.updated(x_user[0], [], after), new, rtol=1e-6)
    assert not fold_in.updated(x_user[0], [], []).any()
    with pytest.raises(ValueError, match=r"'history\.col' must lie in 0\.\.199 \(got 200\)"):
        fold_in.updated(x_user[0], [3], [3, 200])


def test_users_of_an_encoder_are_what_it_makes_of_all_items():
    graph = graph_of()
    torch.manual_seed(0)
    model = MultVAE(graph, dim=4).eval()
    x_dict = model(graph)
    fold_in = FoldIn("encoder", x_dict["item"].detach().numpy(), arrays=encoder_of(model))
    ptr, col = histories_in(graph)
    row = int(np.flatnonzero(np.diff(ptr) > 1)[0])
    before = col[ptr[row] : ptr[row + 1]]
    after = np.union1d(before, [0, 1, 2])
    found = fold_in.updated(x_dict["user"][row].detach().numpy(), before, after)
    np.testing.assert_allclose(found, fold_in([0, len(after)], after)[0], atol=1e-5)


# Fitting.


def test_a_trial_shows_some_items_and_hides_popular_ones():
    rng = np.random.default_rng(0)
    lists = [np.unique((rng.random(rng.integers(1, 30)) ** 3 * 60).astype(int)) for _ in range(200)]
    histories = histories_of(*csr(lists), 60)
    trial = make_trial(histories, None, Table.of(np.ones((60, 2))), 150, rng)
    popularity = np.bincount(histories.col, minlength=60)
    bar = popularity[trial.hidden.col].min()
    assert popularity[popularity >= bar].sum() >= popularity.sum() / 2
    assert popularity[popularity > bar].sum() < popularity.sum() / 2
    assert (trial.known.degree > 0).all() and (trial.hidden.degree > 0).all()
    assert len(set(trial.users.tolist())) == len(trial.users) <= 150
    for row, user in enumerate(trial.users):
        known, hidden = (h.of(np.array([row])).col for h in (trial.known, trial.hidden))
        assert not set(known) & set(hidden)
        left = set(lists[user]) - set(known)
        assert set(hidden) == {i for i in left if popularity[i] >= bar}
    assert (trial.group == group_of(trial.known.degree, np.array(BOUNDS))).all()


def test_a_trial_with_targets_of_its_own_may_show_everything():
    rng = np.random.default_rng(0)
    histories = histories_of([0, 1, 2, 2, 4], [3, 3, 3, 5], 9)
    targets = histories_of([0, 1, 1, 2, 4], [7, 8, 5, 8], 9)
    for _ in range(20):
        trial = make_trial(histories, targets, Table.of(np.ones((9, 2))), 10, rng)
        assert set(trial.users.tolist()) == {0, 3}  # 1 is told nothing, 2 has nothing
        told = {u: trial.hidden.of(np.array([r])).col.tolist() for r, u in enumerate(trial.users)}
        shown = trial.known.of(np.flatnonzero(trial.users == 3)).col.tolist()
        assert told == {0: [7], 3: [8] if 5 in shown else [5, 8]}


def test_recall_is_that_of_a_full_ranking():
    rng = np.random.default_rng(3)
    x_user, x_item, ptr, col = planted(num_items=80)
    trial = make_trial(histories_of(ptr, col, 80), None, Table.of(x_item), 100, rng)
    queries = x_user[trial.users].astype(np.float32)
    found = trial.recall(Table.of(x_item), queries)
    for row in range(len(trial.users)):
        known, hidden = (h.of(np.array([row])).col for h in (trial.known, trial.hidden))
        scores = x_item.astype(np.float32) @ queries[row]
        scores[known] = -np.inf
        best = np.argsort(-scores, kind="stable")[:20]
        assert found[row] == pytest.approx(np.isin(best, hidden).sum() / len(hidden))


def test_fitting_depends_on_the_seed_alone_and_its_report_is_json():
    x_user, x_item, ptr, col = planted()
    first, again, other = (fit_fold_in(x_item, ptr, col, x_user=x_user, seed=s) for s in (1, 1, 2))
    assert json.loads(json.dumps(first.report)) == first.report == again.report != other.report
    assert first.settings == again.settings and first.kind == again.kind
    for name, array in first.arrays.items():
        np.testing.assert_array_equal(array, again.arrays[name])
    assert first.report["tried"][first.report["chosen"]] == max(first.report["tried"].values())


def test_new_users_of_a_planted_space_are_found_better_than_by_popularity():
    x_user, x_item, ptr, col = planted(num_users=800, dim=6, mean=1.5)
    known = slice(0, 600)
    fitted = fit_fold_in(x_item, ptr[:601], col[: ptr[600]], x_user=x_user[known])
    popularity = np.bincount(col[: ptr[600]], minlength=200)
    recall = dict.fromkeys(("fitted", "default", "popularity", "true"), 0.0)
    for user in range(600, 800):
        history = np.random.default_rng(user).permutation(col[ptr[user] : ptr[user + 1]])
        shown, wanted = history[:3], history[3:]
        vector = {
            "fitted": fitted([0, 3], shown)[0], "default": FoldIn.default(x_item)([0, 3], shown)[0],
            "true": x_user[user],
        }  # fmt: skip
        for name in recall:
            scores = popularity * 1.0 if name == "popularity" else x_item @ vector[name]
            scores[shown] = -np.inf
            recall[name] += np.isin(np.argsort(-scores)[:20], wanted).mean()
    # Much of what these users choose is popular, which one that ignores the mean user misses.
    assert recall["default"] < recall["popularity"] < recall["fitted"] < recall["true"]


def test_validation_items_are_the_targets_where_they_are_given():
    x_user, x_item, ptr, col = planted(degree=13)
    matrix = col.reshape(-1, 13)
    target = np.random.default_rng(0).permuted(matrix, axis=1)[:, 0]
    kept = matrix[matrix != target[:, None]].reshape(-1, 12)
    ptr = np.arange(0, 300 * 12 + 1, 12)
    val = np.arange(301), target
    fold_in = fit_fold_in(x_item, ptr, kept.ravel(), x_user=x_user, val=val)
    assert fold_in.report["targets"] == "validation items"
    assert fold_in.report["users"] == 300
    with pytest.raises(ValueError, match=r"'val' must be of 300 users \(got 2\)"):
        fit_fold_in(x_item, ptr, kept.ravel(), val=([0, 0, 0], []))


def test_vectors_are_as_long_as_those_of_known_users():
    x_user, x_item, ptr, col = planted()
    fold_in = fit_fold_in(x_item, ptr, col, x_user=7 * x_user)
    lengths = [np.linalg.norm(x, axis=1).mean() for x in (fold_in(ptr, col), 7 * x_user)]
    assert 0.5 < lengths[0] / lengths[1] < 1.1


@pytest.mark.parametrize("model_class", [MF, LightGCN, MultVAE, ItemAE])
def test_models_bring_what_they_have(model_class):
    graph = graph_of()
    torch.manual_seed(0)
    model = model_class(graph, dim=4)
    x_dict = model.eval()(graph)
    tables = x_dict["user"].detach().numpy(), x_dict["item"].detach().numpy()
    fold_in = fit_fold_in_of(model, graph, *tables)
    tried = fold_in.report["tried"]
    assert ("encoder" in tried) == (model_class is MultVAE)
    assert ("propagation of layers" in tried) == (model_class is LightGCN)
    assert any(name.startswith("regression") for name in tried)
    found = fold_in([0, 2], [3, 4])
    assert found.shape == (1, model.out_dim) and np.isfinite(found).all()


def test_where_nothing_can_be_hidden_usual_settings_are_taken():
    x_item = np.random.default_rng(0).normal(size=(6, 2))
    for ptr, col in (([0], []), ([0, 0, 0], []), ([0, 1, 2], [3, 4])):
        fold_in = fit_fold_in(x_item, ptr, col, x_user=np.ones((len(ptr) - 1, 2)))
        assert (fold_in.kind, fold_in.report) == ("ridge", None)
        assert fold_in.settings == FoldIn.default(x_item).settings


@pytest.mark.parametrize("num_users", [1, 2, 3])
def test_few_users_and_tables_of_zeros(num_users):
    ptr, col = np.arange(0, 3 * num_users + 1, 3), np.tile([0, 2, 4], num_users)
    for x_item in (np.zeros((6, 2)), np.ones((6, 1))):
        x_user = np.zeros((num_users, x_item.shape[1]))
        fold_in = fit_fold_in(x_item, ptr, col, x_user=x_user)
        assert np.isfinite(fold_in([0, 2], [1, 3])).all()


def test_wrong_arguments_of_the_fit_are_refused():
    x_user, x_item, ptr, col = planted(num_users=20, num_items=30)
    with pytest.raises(ValueError, match=r"'x_user' must be \[20, 4\] \(got \[19, 4\]\)"):
        fit_fold_in(x_item, ptr, col, x_user=x_user[1:])
    with pytest.raises(ValueError, match="'x_user' must be finite"):
        fit_fold_in(x_item, ptr, col, x_user=x_user * np.nan)
    with pytest.raises(ValueError, match="'x_item' must be finite"):
        fit_fold_in(x_item * np.inf, ptr, col)
    with pytest.raises(ValueError, match="'holdout_users' must be a positive integer"):
        fit_fold_in(x_item, ptr, col, holdout_users=0)
    with pytest.raises(ValueError, match=r"'history\.col' must lie in 0\.\.28"):
        fit_fold_in(x_item[:29], ptr, np.where(col == 0, 29, col))


def test_nothing_of_users_times_items_is_allocated():
    rng = np.random.default_rng(0)
    num_users, num_items = 4000, 20_000
    x_user, x_item = rng.normal(size=(num_users, 2)), rng.normal(size=(num_items, 2))
    col = rng.integers(0, num_items, 5 * num_users)
    tracemalloc.start()
    try:
        fit_fold_in(x_item, np.arange(0, len(col) + 1, 5), col, x_user=x_user, holdout_users=1500)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1500 * num_items  # bytes: a quarter of the scores of the users of the trial
