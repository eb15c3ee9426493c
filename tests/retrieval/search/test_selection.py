from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pyg_kd.retrieval.search.selection import EMPTY, Pool, key_scores, make_keys, unpack_keys

scores_of_any_size = arrays(np.float32, st.integers(0, 40), elements=st.floats(width=32))


@given(scores_of_any_size.filter(lambda x: not np.isnan(x).any()))
def test_keys_sort_by_score_then_row(scores):
    rows = np.arange(len(scores))[::-1] + 2**32 - len(scores) - 1  # the largest that fit
    keys = make_keys(scores, rows)
    assert (keys < EMPTY).all()
    wanted = sorted(zip((-scores).tolist(), rows.tolist(), strict=True))
    found_rows, found_scores = unpack_keys(np.sort(keys))
    assert found_rows.tolist() == [row for _, row in wanted]
    np.testing.assert_array_equal(found_scores, [-score for score, _ in wanted])
    np.testing.assert_array_equal(key_scores(keys), scores)


@given(st.integers(1, 4), st.integers(1, 5), st.data())
def test_a_pool_keeps_the_best(num_lists, k, data):
    pool, kept, row = Pool(num_lists, k), [[] for _ in range(num_lists)], 0
    for _ in range(data.draw(st.integers(0, 5))):
        size = data.draw(st.integers(0, 40))
        lists = data.draw(arrays(np.int64, size, elements=st.integers(0, num_lists - 1)))
        scores = data.draw(arrays(np.float32, size, elements=st.sampled_from([-1.5, 0, 2, 7])))
        keys = make_keys(scores, np.arange(row, row + size))
        row += size
        above = scores >= pool.floor[lists]
        pool.add(lists[above], keys[above])
        for at, key in zip(lists, keys, strict=True):
            kept[at].append(int(key))
        if data.draw(st.booleans()):
            pool.shrink()
    wanted = [sorted(keys)[:k] for keys in kept]
    wanted = [keys + [int(EMPTY)] * (k - len(keys)) for keys in wanted]
    assert pool.best().tolist() == wanted
