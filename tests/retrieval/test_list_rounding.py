from __future__ import annotations

import numpy as np
import pytest

from pyg_kd.retrieval import Table, tables_at
from pyg_kd.retrieval import list_rounding as module
from pyg_kd.retrieval.search import top_k
from pyg_kd.retrieval.seen import Seen


def tables(num_users: int, num_items: int, dim: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(dim, dim))  # directions that matter more than others
    return [(rng.normal(size=(n, dim)) @ mix).astype(np.float32) for n in (num_users, num_items)]


def wide(table: Table) -> np.ndarray:
    return table.block(0, len(table)).astype(np.float64)


def weights_of(x_user: np.ndarray, x_item: np.ndarray, seen: list[set[int]]) -> np.ndarray:
    """What each item weighs for each user, ``[U, I]``."""
    found = np.zeros((len(x_user), len(x_item)))
    for u, x in enumerate(x_user.astype(np.float64)):
        order = [i for i in np.argsort(-(x_item @ x), kind="stable") if i not in seen[u]][:150]
        full = np.exp(-np.arange(min(150, len(x_item))) / 40)
        found[u, order] = full[: len(order)] / full.sum()
    return found


def item_curvatures(x_user: np.ndarray, weight: np.ndarray) -> np.ndarray:
    x = x_user.astype(np.float64)
    everyone = sum(np.outer(u, u) for u in x) * 0.1 / len(x)
    return np.stack([sum(w * np.outer(u, u) for w, u in zip(column, x, strict=True)) + everyone
                     for column in weight.T])  # fmt: skip


def user_loss(x, user, items, exact, weight) -> float:
    """What a user's vector loses, by the formula of the docstring."""
    error = items @ x - exact @ user
    share = weight / weight.sum() if weight.sum() else weight
    constant = (share * error).sum()
    return (share * (error - constant) ** 2).sum() + 0.03 / len(items) * np.square(error).sum()


def seen_sets(num_users: int, num_items: int) -> tuple[list[set[int]], Seen]:
    rng = np.random.default_rng(1)
    sets = [set(rng.choice(num_items, 5, replace=False).tolist()) for _ in range(num_users)]
    ptr = np.arange(num_users + 1) * 5
    return sets, Seen(ptr, np.concatenate([sorted(s) for s in sets]), num_items)


def test_no_other_integer_of_an_item_loses_less() -> None:
    x_user, x_item = tables(30, 200, 6)
    sets, seen = seen_sets(30, 200)
    found = tables_at(x_user, x_item, "int4", seen)[1]
    curvature = item_curvatures(x_user, weights_of(x_user, x_item, sets))
    scale = found.scale.astype(np.float64) * found.unit
    rows, nearest = wide(found), wide(Table.of(x_item, "int4"))
    improved = 0.0
    for i in range(200):
        error = rows[i] - x_item[i]
        loss, before = (e @ curvature[i] @ e for e in (error, nearest[i] - x_item[i]))
        assert loss <= before * (1 + 1e-4)
        improved += 1 - loss / before
        for j in range(6):
            if j == np.abs(x_item[i]).argmax():
                continue
            for step in (-1, 1):
                if abs(rows[i, j] / scale[i] + step) < 7.5:
                    other = error.copy()
                    other[j] += step * scale[i]
                    assert other @ curvature[i] @ other >= loss * (1 - 1e-3)
    assert improved / 200 > 0.2


def test_no_other_integer_of_a_user_loses_less() -> None:
    x_user, x_item = tables(40, 180, 5)
    sets, seen = seen_sets(40, 180)
    users, items = tables_at(x_user, x_item, "int4", seen)
    weight = weights_of(x_user, x_item, sets)
    exact, rounded, rows = x_item.astype(np.float64), wide(items), wide(users)
    nearest = wide(Table.of(x_user, "int4"))
    scale = users.scale.astype(np.float64) * users.unit
    losses = []
    for u in range(40):
        given = x_user[u].astype(np.float64), rounded, exact, weight[u]
        loss = user_loss(rows[u], *given)
        losses.append((loss, user_loss(nearest[u], *given)))
        free = [j for j in range(5) if abs(rows[u, j] / scale[u]) < 6.5]
        for j in free:
            for step in (-1, 1):
                other = rows[u].copy()
                other[j] += step * scale[u]
                assert user_loss(other, *given) >= loss * (1 - 1e-3)
    assert np.mean(losses, 0)[0] < 0.7 * np.mean(losses, 0)[1]


@pytest.mark.parametrize("dim", [8, 20])
def test_lists_change_less_than_by_the_nearest(dim: int) -> None:
    x_user, x_item = tables(300, 500, dim)
    pair = tables_at(x_user, x_item, "int4")
    lists, _ = top_k(x_user, Table.of(x_item), 20)
    kept = []
    for users, items in (pair, (Table.of(x_user, "int4"), Table.of(x_item, "int4"))):
        found, _ = top_k(users.block(0, 300), items, 20)
        kept.append(np.mean([np.isin(a, b).mean() for a, b in zip(found, lists, strict=True)]))
    assert 1 - kept[0] < 0.75 * (1 - kept[1])


def test_what_comes_out_goes_in_unchanged() -> None:
    x_user, x_item = tables(60, 90, 7)
    first = tables_at(x_user, x_item, "int4")
    given = [t.block(0, len(t)) for t in first]
    for again in (tables_at(*given, "int4"), [Table.of(x, "int4") for x in given]):
        for table, x in zip(again, given, strict=True):
            assert np.array_equal(table.block(0, len(table)), x)


def test_the_nearest_above_four_bits() -> None:
    x_user, x_item = tables(20, 30, 4)
    for dtype in ("float32", "float16", "int8"):
        for found, x in zip(tables_at(x_user, x_item, dtype), (x_user, x_item), strict=True):
            assert found.dtype == dtype
            assert np.array_equal(found.values, Table.of(x, dtype).values)


def test_many_users_and_few_entries_at_once(monkeypatch) -> None:
    x_user, x_item = tables(50, 80, 5)
    whole = tables_at(x_user, x_item, "int4")
    monkeypatch.setattr(module, "ENTRIES", 900)
    parts = tables_at(x_user, x_item, "int4")
    for one, other in zip(whole, parts, strict=True):
        assert np.mean(one.values == other.values) > 0.99  # sums in another order
    monkeypatch.setattr(module, "SAMPLE", 10)
    sampled = tables_at(x_user, x_item, "int4")[1]
    assert np.array_equal(sampled.values, tables_at(x_user[::5], x_item, "int4")[1].values)


def test_rows_of_zeros_empty_lists_and_no_rows() -> None:
    x_user, x_item = tables(6, 9, 3)
    x_user[2] = 0
    x_item[4] = 0
    everything = Seen(np.array([0, 9, 9, 9, 9, 9, 9]), np.arange(9), 9)
    users, items = tables_at(x_user, x_item, "int4", everything)
    assert not wide(users)[2].any() and not wide(items)[4].any()
    assert np.isfinite(wide(users)).all() and wide(users)[0].any()
    for shapes in ((0, 9), (6, 0), (0, 0)):
        found = tables_at(x_user[: shapes[0]], x_item[: shapes[1]], "int4")
        assert tuple(map(len, found)) == shapes
    x_user[:, 1] = 0  # a direction that no user looks into
    assert np.isfinite(wide(tables_at(x_user, x_item, "int4")[1])).all()


def test_bad_input() -> None:
    x_user, x_item = tables(4, 5, 3)
    with pytest.raises(ValueError, match=r"must have one width \(got 2 and 3\)"):
        tables_at(x_user[:, :2], x_item, "int4")
    with pytest.raises(ValueError, match="'dtype' must be one of"):
        tables_at(x_user, x_item, "int3")
    with pytest.raises(ValueError, match="'x_item' must be finite"):
        tables_at(x_user, x_item * np.nan, "int4")
    with pytest.raises(TypeError, match="'x_user' must be floating point"):
        tables_at(x_user.astype(int), x_item, "int4")
