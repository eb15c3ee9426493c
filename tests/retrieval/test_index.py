from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyg_kd.retrieval import TopKIndex, UnknownId

USERS, ITEMS = 7, 12
SEEN = {0: [3, 1], 1: [], 2: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], 5: [11]}


def _index(kind: str = "position", **options: object) -> TopKIndex:
    rng = np.random.default_rng(1)
    # Few distinct values, so that there are many ties.
    x_user, x_item = (rng.integers(-2, 3, (n, 3)).astype(np.float32) for n in (USERS, ITEMS))
    lists = [SEEN.get(user, []) for user in range(USERS)]
    ids = {
        "position": {},
        "integer": {"user_ids": np.arange(USERS) * 10 - 5, "item_ids": 100 - np.arange(ITEMS)},
        "text": {
            "user_ids": [f"u{n}" for n in range(USERS)],
            "item_ids": [f"ü{n}" for n in range(ITEMS)],
        },
    }[kind]
    seen = (np.cumsum([0, *map(len, lists)]), [i for items in lists for i in items])
    return TopKIndex(x_user, x_item, **{"seen": seen, **ids, **options})


def _best(scores: np.ndarray, k: int, hidden: set[int], allowed: set[int]) -> list[int]:
    """Row by row: sorted by score, then by id."""
    left = [i for i in range(len(scores)) if i in allowed and i not in hidden]
    ranked = sorted(left, key=lambda i: (-scores[i], i))[:k]
    return ranked + [-1] * (k - len(ranked))


SETS = st.none() | st.lists(st.integers(-2, ITEMS + 1))


@given(
    users=st.lists(st.integers(0, USERS - 1), max_size=4),
    k=st.integers(1, ITEMS + 3),
    exclude_seen=st.booleans(),
    exclude=SETS,
    candidates=SETS,
    unavailable=st.lists(st.integers(0, ITEMS - 1)),
    named=SETS,
    kind=st.sampled_from(["position", "integer", "text"]),
)
def test_every_combination_of_filters(
    users, k, exclude_seen, exclude, candidates, unavailable, named, kind
) -> None:
    index = _index(kind)
    known = set(range(ITEMS))

    def ids(rows):
        unknown = {"position": -9, "integer": -9, "text": "?"}[kind]
        return [index.items.take(np.array(r)).item() if r in known else unknown for r in rows]

    index.set_unavailable(ids(unavailable))
    if named is not None:
        index.add_filter("named", ids(named))
    items, scores = index.search(
        index.users.take(np.array(users, np.int64)),
        k,
        exclude_seen=exclude_seen,
        exclude=None if exclude is None else ids(exclude),
        candidates=None if candidates is None else ids(candidates),
        filters=None if named is None else "named",
    )
    allowed = known - set(unavailable)
    allowed -= set(exclude or ())
    allowed &= known if candidates is None else set(candidates)
    allowed &= known if named is None else set(named)
    x_user, x_item = index.x_user.values.astype(float), index.x_item.values.astype(float)
    assert items.shape == scores.shape == (len(users), k) and scores.dtype == np.float32
    for place, user in enumerate(users):
        exact = x_item @ x_user[user]
        hidden = set(SEEN.get(user, [])) if exclude_seen else set()
        expected = _best(exact, k, hidden, allowed)
        assert index.items.find(items[place]).tolist() == expected
        padded = [item == (None if kind == "text" else -1) for item in items[place]]
        assert padded == [row < 0 for row in expected]
        assert scores[place].tolist() == [exact[r] if r >= 0 else -np.inf for r in expected]


def test_one_user_is_a_list_of_one() -> None:
    index = _index("text")
    assert np.array_equal(index.search("u3", 4)[0], index.search(["u3"], 4)[0])
    assert index.search([], 4)[0].shape == (0, 4)


def test_unknown_users_and_users_without_items() -> None:
    index = _index("integer")
    with pytest.raises(UnknownId, match=r"'users' must be known user ids.*got 7"):
        index.search([-5, 7])
    popular = index.most_popular(3)
    # Seen by users 0, 2 and 5: items 1, 3 and 11 twice; ids are 100 - row.
    assert popular[0].tolist() == [99, 97, 89] and popular[1].tolist() == [2, 2, 2]
    items, scores = index.search([-5, 7, 5], 3, unknown="popular")
    assert items[1].tolist() == items[2].tolist() == popular[0].tolist()  # 5 is user 1: no items
    assert scores[1].tolist() == [2, 2, 2]
    assert items[0].tolist() == index.search([-5], 3)[0][0].tolist()
    index.set_unavailable([97])
    assert index.search([7], 3, unknown="popular", exclude=[89])[0].tolist() == [[99, 100, 98]]


def test_without_popularity_nothing_is_made_up() -> None:
    index = TopKIndex(np.eye(2), np.eye(2))
    assert index.popularity is None
    with pytest.raises(ValueError, match="knows no popularity"):
        index.search([5], unknown="popular")
    given = TopKIndex(np.eye(2), np.eye(2), popularity=[0.5, 2.0])
    assert given.search([5], 2, unknown="popular")[0].tolist() == [[1, 0]]


def test_histories_are_folded_in_and_hidden() -> None:
    index = _index("text")
    histories = [["ü3", "ü1", "ü3"], [], ["ü0"]]
    items, scores = index.search_history(histories, 5)
    vectors = index.fold_in(np.array([0, 2, 2, 3]), np.array([1, 3, 0]))
    exact = vectors @ index.x_item.values.T
    for place, hidden in ((0, {1, 3}), (2, {0})):
        rows = index.items.find(items[place])
        assert not hidden & set(rows.tolist()) and len(set(rows.tolist())) == 5
        others = [i for i in range(ITEMS) if i not in hidden and i not in rows]
        assert exact[place, others].max() <= exact[place, rows].min() + 1e-6
        assert np.allclose(exact[place, rows], scores[place], atol=1e-6)
    assert items[1].tolist() == index.most_popular(5)[0].tolist()
    one = index.search_history(["ü3", "ü1"], 5)[0]
    assert one.shape == (1, 5) and one[0].tolist() == items[0].tolist()
    shown = index.search_history(["ü3"], ITEMS, exclude_seen=False)[0]
    assert "ü3" in shown[0].tolist()
    with pytest.raises(UnknownId, match=r"'items' must be known item ids.*got 'x'"):
        index.search_history(["ü3", "x"])


@pytest.mark.parametrize("kind", ["position", "integer", "text"])
def test_clicks_count_at_once(kind: str) -> None:
    index = _index(kind)
    user, items = index.users.take(np.array(3)).item(), index.items.take(np.array([2, 5]))
    before = index.search([user], ITEMS)[0]
    assert set(items.tolist()) <= set(before[0].tolist())
    index.add_interactions(user, items)
    after = index.search([user], ITEMS)[0][0].tolist()
    assert not set(items.tolist()) & set(after)
    folded = index.fold_in(np.array([0, 2]), np.array([2, 5]))
    assert np.array_equal(index.vectors([user]), folded)
    new = {"position": 99, "integer": 99, "text": "eve"}[kind]
    with pytest.raises(UnknownId):
        index.search([new])
    index.add_interactions(new, items)
    assert np.array_equal(index.vectors([new]), folded)
    assert index.search([new], ITEMS)[0][0].tolist() == after
    assert index.search([new], 2, unknown="popular")[0][0].tolist() == after[:2]
    with pytest.raises(UnknownId, match="got 'nobody'"):
        index.search([new, "nobody"])
    # Further clicks add up.
    index.add_interactions(new, index.items.take(np.array([7])))
    assert np.array_equal(
        index.vectors([new]), index.fold_in(np.array([0, 3]), np.array([2, 5, 7]))
    )


def test_a_known_users_vector_moves_by_what_clicks_change() -> None:
    index = _index("integer")
    trained = index.vectors([-5])  # user 0, who has seen 3 and 1
    for clicks in ([100], [93, 100]):  # items 0, then 7
        index.add_interactions(-5, clicks)
    before, after = (
        index.fold_in(np.array([0, len(items)]), np.array(items))
        for items in ([3, 1], [3, 1, 0, 7])
    )
    # Training had seen two of the four items.
    assert np.allclose(index.vectors([-5]), after + 0.5 * (trained - before))
    assert not np.allclose(index.vectors([-5]), trained)
    # What nothing was added to stays as it was trained.
    assert np.array_equal(index.vectors([15]), index.x_user.rows(np.array([2])))


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_clicks_of_many_users_count_as_one_by_one(dtype: str) -> None:
    rng = np.random.default_rng(3)
    x_user, x_item = rng.normal(size=(20, 6)), rng.normal(size=(30, 6))
    ptr, col = np.arange(0, 81, 4), rng.integers(0, 30, 80)
    alone, together = (TopKIndex(x_user, x_item, seen=(ptr, col), dtype=dtype) for _ in range(2))
    for _ in range(3):
        clicks = {
            int(user): rng.integers(0, 30, rng.integers(1, 9)).tolist()
            for user in rng.choice(60, 25, replace=False)
        }
        for user, items in clicks.items():
            alone.add_interactions(user, items)
        together.add_interactions_of(clicks)
        users = [*clicks]
        np.testing.assert_allclose(
            together.vectors(users), alone.vectors(users), rtol=1e-5, atol=1e-6
        )
        seen = (index.seen.of(index.newcomers.find(users)) for index in (alone, together))
        assert len({pattern.col.tobytes() for pattern in seen}) == 1
    with pytest.raises(UnknownId):
        together.add_interactions_of({98: [1], 99: [30]})
    assert together.newcomers.find([98]).tolist() == [-1]


def test_a_click_on_an_unknown_item_notes_nothing() -> None:
    index = _index("text")
    with pytest.raises(UnknownId):
        index.add_interactions("eve", ["ü1", "x"])
    with pytest.raises(UnknownId):
        index.search("eve")
    for wrong in (5, None, 1.5):
        with pytest.raises(TypeError, match="'user' must be str"):
            index.add_interactions(wrong, ["ü1"])
    with pytest.raises(ValueError, match="64-bit"):
        _index("integer").add_interactions(2**70, [100])


def test_out_of_stock_items_come_back() -> None:
    index = _index("integer")
    before = index.search([25], 4)[0]
    index.set_unavailable(before[0, :2])
    assert index.sets.unavailable.tolist() == sorted(index.items.find(before[0, :2]).tolist())
    assert not set(before[0, :2]) & set(index.search([25], 4)[0][0])
    index.set_available(before[0, :2])
    assert np.array_equal(index.search([25], 4)[0], before)


def test_readers_never_see_half_a_change() -> None:
    index = TopKIndex(np.ones((1, 1)), np.ones((50, 1)))
    halves, stop, wrong = [np.arange(25), np.arange(25, 50)], threading.Event(), []
    index.add_filter("half", halves[0])

    def read() -> None:
        while not stop.is_set():
            items = index.search([0], 25, filters="half")[0][0]
            if items.tolist() not in (halves[0].tolist(), halves[1].tolist()):
                wrong.append(items)

    thread = threading.Thread(target=read)
    thread.start()
    for turn in range(200):
        index.add_filter("half", halves[turn % 2])
    stop.set()
    thread.join()
    assert not wrong


@pytest.mark.parametrize("dtype", ["float16", "int8", "int4"])
def test_narrow_tables_are_ranked_as_they_are_stored(dtype: str) -> None:
    rng = np.random.default_rng(0)
    x_user, x_item = rng.normal(size=(20, 9)), rng.normal(size=(300, 9))
    index = TopKIndex(x_user, x_item, dtype=dtype)
    items, scores = index.search(np.arange(20), 10)
    stored = [t.block(0, len(t)).astype(np.float64) for t in (index.x_user, index.x_item)]
    exact = stored[0] @ stored[1].T
    assert np.allclose(np.take_along_axis(exact, items, 1), scores, atol=1e-5)
    assert np.allclose(-np.sort(-exact, 1)[:, :10], scores, atol=1e-5)
    assert index.dtype == dtype and index.nbytes < 320 * 9 * 4


def test_a_given_fold_in_is_used() -> None:
    from pyg_kd.retrieval.fold_in import FoldIn

    index = _index()
    doubled = FoldIn.default(index.x_item)
    assert TopKIndex(index.x_user, index.x_item, fold_in=doubled).fold_in is doubled


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "'k' must be a positive integer .got 0"),
        ({"k": 2.0}, "'k' must be a positive integer .got 2.0"),
        ({"filters": "toys"}, r"'filters' must be out of \[\] .got 'toys'"),
        ({"unknown": "ignore"}, "'unknown' must be one of"),
        ({"users": [[1, 2]]}, "one-dimensional|known user ids"),
        ({"users": [1.5]}, "known user ids.*got 1.5"),
        ({"users": [True]}, "known user ids.*got True"),
        ({"users": None}, "known user ids.*got None"),
    ],
)
def test_bad_requests(change: dict[str, object], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        _index("integer").search(**{"users": [5], **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_item": np.ones((4, 2))}, "same width .got 3 and 2"),
        ({"x_item": np.full((4, 3), np.nan)}, "'x_item' must be finite"),
        ({"user_ids": [1, 2]}, "'user_ids' must be 5 ids .got 2"),
        ({"seen": ([0, 1], [2])}, "'seen' must be of 5 users and 4 items .got 1 and 4"),
        ({"popularity": [1.0]}, "'popularity' must be finite"),
        ({"backend": "magic"}, "magic"),
        ({"dtype": "int2"}, "'dtype' must be one of"),
    ],
)
def test_bad_indexes(change: dict[str, object], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        TopKIndex(**{"x_user": np.ones((5, 3)), "x_item": np.ones((4, 3)), **change})
