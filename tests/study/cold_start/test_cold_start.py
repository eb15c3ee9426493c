from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.models import EASE, MF
from pyg_kd.retrieval.fold_in import fit_fold_in_of, fit_item_fold_in
from pyg_kd.study.cold_start import cold_split, cold_start, k_shot
from pyg_kd.study.cold_start.tables import WARM_COLD
from pyg_kd.training import AlternatingLeastSquares


def pairs_of(edge_index) -> set[tuple[int, int]]:
    return set(zip(*edge_index.tolist(), strict=True))


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.05, 0.2, 0.5]),
    st.integers(1, 6),
    st.integers(0, 3),
)
def test_every_edge_is_trained_on_shown_or_to_be_found(seed, share, user_shots, item_shots):
    data = SyntheticInteractions(num_users=25, num_items=20, num_edges=260, seed=seed % 7)[0]
    split = cold_split(
        data, users=share, items=share, user_shots=user_shots, item_shots=item_shots, seed=seed
    )
    train = pairs_of(split.train["user", "item"].edge_index)
    shown = {
        (u + split.num_users, i)
        for u, i in zip(split.shown_items.row.tolist(), split.shown_items.col.tolist(), strict=True)
    }
    told = {
        (u, i + split.num_items)
        for i, u in zip(split.shown_users.row.tolist(), split.shown_users.col.tolist(), strict=True)
    }
    targets = pairs_of(split.targets)
    parts = [train, shown, told, targets]
    assert sum(map(len, parts)) == len(set().union(*parts))
    back = {(int(split.user[u]), int(split.item[i])) for u, i in set().union(*parts)}
    kept = set(split.user.tolist())
    assert back == {(u, i) for u, i in pairs_of(data["user", "item"].edge_index) if u in kept}
    assert all(u < split.num_users and i < split.num_items for u, i in train)
    assert set(range(split.num_users)) == {u for u, _ in train}
    assert (split.shown_items.degree == user_shots).all()
    assert (split.shown_users.degree <= item_shots).all()
    for user in range(split.num_users, len(split.user)):
        assert any(u == user and i < split.num_items for u, i in targets)
    warm = [(u, i) for u, i in targets if u < split.num_users and i < split.num_items]
    for user in range(split.num_users):
        degree = sum(u == user for u, _ in [*warm, *train])
        assert sum(u == user for u, _ in warm) == min(int(degree * 0.2 + 0.5), degree - 1)


@pytest.fixture(scope="module")
def world():
    data = SyntheticInteractions(num_users=200, num_items=80, num_edges=4_500, num_groups=5)[0]
    split = cold_split(data, users=0.2, items=0.15, user_shots=5, item_shots=4, seed=1)
    als = AlternatingLeastSquares(alpha=10.0, regularization=10.0, progress=False)
    torch.manual_seed(0)
    narrow, wide = (als.fit(MF(split.train, dim=d), split.train) for d in (4, 16))
    return data, split, narrow, wide


def recall(scores: np.ndarray, hidden, targets, k: int) -> float:
    """The mean over users of the share of their targets among the first k, by a full sort."""
    scores, found = scores.copy(), []
    for u, i in hidden:
        scores[u, i] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    for user in sorted({u for u, _ in targets}):
        own = {i for u, i in targets if u == user}
        found.append(len(own & set(order[user].tolist())) / len(own))
    return float(np.mean(found))


def vectors(model, split):
    with torch.no_grad():
        x = model(split.train)
    return x["user"].detach().numpy(), x["item"].detach().numpy()


def test_shots_are_fold_in_and_a_full_sort(world):
    _, split, narrow, wide = world
    table = k_shot(narrow, split, (0, 2, 5), reference=wide, k=10)
    cold = len(split.user) - split.num_users
    shown = [split.shown_items.col[split.shown_items.row == c].tolist() for c in range(cold)]
    hidden = [(c, i) for c in range(cold) for i in shown[c]]
    targets = [
        (u - split.num_users, i)
        for u, i in pairs_of(split.targets)
        if u >= split.num_users and i < split.num_items
    ]
    for count, row in zip((0, 2, 5), table, strict=False):
        found = []
        for model in (narrow, wide):
            x_user, x_item = vectors(model, split)
            fold_in = fit_fold_in_of(model, split.train, x_user, x_item)
            new = [
                fold_in([0, count], shown[c][:count])[0] if count else x_user.mean(0)
                for c in range(cold)
            ]
            found.append(recall(np.stack(new) @ x_item.T, hidden, targets, 10))
        assert row.value == pytest.approx(found[0], abs=1e-6)
        assert row.reference == pytest.approx(found[1], abs=1e-6)
    degree = np.bincount(split.train["user", "item"].edge_index[1], minlength=split.num_items)
    popular = recall(np.tile(degree.astype(float), (cold, 1)), hidden, targets, 10)
    assert table["popularity"].value == pytest.approx(popular)
    assert table["5 items"].value > table["0 items"].value


def test_cells_are_those_of_a_full_sort(world):
    _, split, narrow, _ = world
    table = cold_start(narrow, split, shots=3, k=10)
    x_user, x_item = vectors(narrow, split)
    fold_in = fit_fold_in_of(narrow, split.train, x_user, x_item)
    cold = len(split.user) - split.num_users
    shown = [split.shown_items.col[split.shown_items.row == c].tolist() for c in range(cold)]
    new_users = np.stack([fold_in([0, 3], items[:3])[0] for items in shown])
    edges = split.train["user", "item"].edge_index
    order = torch.argsort(edges[1], stable=True)
    ptr = np.concatenate([[0], np.cumsum(np.bincount(edges[1], minlength=split.num_items))])
    items_in = fit_item_fold_in(x_user, x_item, ptr, edges[0][order].numpy())
    told = [
        split.shown_users.col[split.shown_users.row == c].tolist()
        for c in range(len(split.item) - split.num_items)
    ]
    new_items = np.stack([items_in([0, len(users)], sorted(users))[0] for users in told])
    scores = np.concatenate([x_user, new_users]) @ np.concatenate([x_item, new_items]).T
    hidden = pairs_of(edges)
    hidden |= {(split.num_users + c, i) for c, items in enumerate(shown) for i in items}
    hidden |= {(u, split.num_items + c) for c, users in enumerate(told) for u in users}
    every = pairs_of(split.targets)
    assert table["all"].value == pytest.approx(recall(scores, hidden, every, 10), abs=1e-6)
    for u, user in enumerate(("warm", "cold")):
        for i, item in enumerate(("warm", "cold")):
            targets = [
                pair
                for pair in every
                if (pair[0] >= split.num_users) == u and (pair[1] >= split.num_items) == i
            ]
            found = table[f"{user} users, {item} items"].value
            assert found == pytest.approx(recall(scores, hidden, targets, 10), abs=1e-6)
    # Cold items against each other: the others are out of the ranking.
    among = cold_start(narrow, split, shots=3, k=5, among="cold")
    assert [row.name for row in among] == ["all", *(f"{u} users, cold items" for u in WARM_COLD)]
    scores[:, : split.num_items] = -np.inf
    for u, user in enumerate(WARM_COLD):
        targets = [
            pair for pair in every
            if (pair[0] >= split.num_users) == u and pair[1] >= split.num_items
        ]  # fmt: skip
        row = among[f"{user} users, cold items"]
        assert row.value == pytest.approx(recall(scores, hidden, targets, 5), abs=1e-6)
        assert row.users == len({pair[0] for pair in targets})


def test_features_place_items_that_nobody_has_seen(world):
    data = world[0]
    split = cold_split(data, items=0.2, item_shots=0, user_shots=5, seed=3)
    als = AlternatingLeastSquares(alpha=10.0, regularization=10.0, progress=False)
    model = als.fit(MF(split.train, dim=8), split.train)
    truth = torch.nn.functional.one_hot(data["item"].group, 5).float()
    noise = torch.randn(len(truth), 5)
    cell = "warm users, cold items"
    known, unknown = (
        cold_start(model, split, features=x, k=20)[cell].value for x in (truth, noise)
    )
    assert known > unknown + 0.1
    with pytest.raises(ValueError, match="nothing is known of item"):
        cold_start(model, split)


def test_bad_input_is_named(world):
    data, split, narrow, _ = world
    with pytest.raises(ValueError, match="'shots' must be at most what the split shows, 5"):
        k_shot(narrow, split, (6,))
    with pytest.raises(TypeError, match="'model' must be a Recommender whose score"):
        k_shot(EASE(split.train), split, (1,))
    with pytest.raises(ValueError, match="'users' must be below 1"):
        cold_split(data, users=1.0)
    with pytest.raises(ValueError, match="'user_shots' must leave users"):
        cold_split(data, user_shots=79)
    with pytest.raises(ValueError, match="'among'"):
        cold_start(narrow, split, among="warm")
    assert repr(split).startswith("ColdSplit(")
