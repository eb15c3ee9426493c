from __future__ import annotations

import json

import numpy as np
import pytest

from pyg_kd.retrieval.fold_in import ItemFoldIn, fit_item_fold_in
from pyg_kd.retrieval.fold_in.items import r_squared


def world(seed=0, num_items=400, num_users=150, dim=3):
    """Items whose users are those that score them best, and features that tell their vectors."""
    rng = np.random.default_rng(seed)
    x_user, x_item = rng.normal(size=(num_users, dim)), rng.normal(size=(num_items, dim))
    users = np.sort(np.argsort(-x_item @ x_user.T, axis=1)[:, :10], axis=1)
    features = x_item @ rng.normal(size=(dim, 6)) + 0.1 * rng.normal(size=(num_items, 6))
    return x_user, x_item, users, features


def fitted(features=None, **options) -> ItemFoldIn:
    x_user, x_item, users, x = world()
    ptr = np.arange(0, users.size + 1, 10)
    given = x if features else None
    return fit_item_fold_in(x_user, x_item, ptr, users.ravel(), features=given, **options)


def test_items_are_found_from_their_users_and_the_better_the_more_there_are():
    _, x_item, users, _ = world()
    fold_in = fitted()
    told = fold_in.report["by users"]
    assert told["1"] < told["3"] < told["8"] and told["13"] is None  # none has 13 users
    found = fold_in(np.arange(0, users.size + 1, 10), users.ravel())
    assert r_squared(x_item, found) > 0.8
    few = fold_in(np.arange(0, 401), users[:, 3])
    assert r_squared(x_item, few) == pytest.approx(told["1"], abs=0.1)


def test_items_without_users_are_found_from_their_features():
    x_user, x_item, users, features = world()
    known = slice(0, 300)
    fold_in = fit_item_fold_in(
        x_user,
        x_item[known],
        np.arange(0, 3001, 10),
        users[known].ravel(),
        features=features[known],
    )
    new = fold_in(np.zeros(101, np.int64), [], features[300:])
    assert r_squared(x_item[300:], new) == pytest.approx(fold_in.report["by features"], abs=0.05)
    assert fold_in.report["by features"] > 0.9
    # Where an item has users, they count, and features of others are still read.
    both = fold_in([0, 10, 10], users[300], features[300:302])
    np.testing.assert_array_equal(both[1], new[1])
    np.testing.assert_array_equal(both[0], fold_in([0, 10], users[300])[0])


def test_features_that_tell_nothing_are_told_so_and_constant_ones_do_no_harm():
    x_user, x_item, users, _ = world()
    noise = np.random.default_rng(1).normal(size=(400, 30))
    noise[:, 3] = 7
    ptr = np.arange(0, 4001, 10)
    fold_in = fit_item_fold_in(x_user, x_item, ptr, users.ravel(), features=noise)
    assert -0.1 < fold_in.report["by features"] < 0.05
    assert np.isfinite(fold_in([0, 0], [], noise[:1])).all()


def test_what_is_not_known_is_said():
    _, _, _, features = world()
    with pytest.raises(ValueError, match="item 1: it has no users, and no features were given"):
        fitted()([0, 1, 1], [4])
    with pytest.raises(ValueError, match="item 0: it has no users, and none were given to the fit"):
        fitted()([0, 0], [], features[:1])


def test_a_fit_depends_on_its_seed_alone():
    first, again, other = (fitted(features=True, seed=seed) for seed in (1, 1, 2))
    assert json.loads(json.dumps(first.report)) == first.report == again.report != other.report
    np.testing.assert_array_equal(first([0, 2], [3, 4]), again([0, 2], [3, 4]))


def test_wrong_arguments_are_refused():
    x_user, x_item, users, features = world()
    ptr, col = np.arange(0, 4001, 10), users.ravel()
    with pytest.raises(ValueError, match=r"must have the same width \(got 3 and 2\)"):
        fit_item_fold_in(x_user, x_item[:, :2], ptr, col)
    with pytest.raises(ValueError, match=r"'ptr' must be of 400 items.* \(got 1 with 1 users\)"):
        fit_item_fold_in(x_user, x_item, [0, 1], [3])
    with pytest.raises(ValueError, match=r"'ptr' must be of 400 items.* \(got 400 with 0 users\)"):
        fit_item_fold_in(x_user, x_item, np.zeros(401, np.int64), [])
    with pytest.raises(ValueError, match=r"'history\.col' must lie in 0\.\.148 \(got 149\)"):
        fit_item_fold_in(x_user[:149], x_item, ptr, np.where(col == col[0], 149, col))
    with pytest.raises(ValueError, match=r"'features' must be \[400, F\] \(got \[399, 6\]\)"):
        fit_item_fold_in(x_user, x_item, ptr, col, features=features[1:])
    with pytest.raises(ValueError, match="'features' must be finite numbers"):
        fit_item_fold_in(x_user, x_item, ptr, col, features=features * np.nan)
    fold_in = fit_item_fold_in(x_user, x_item, ptr, col, features=features)
    with pytest.raises(ValueError, match=r"'features' must be \[1, 6\] \(got \[1, 5\]\)"):
        fold_in([0, 0], [], features[:1, :5])
    assert repr(fold_in) == "ItemFoldIn(Table([150, 3], float32), 6 features)"
