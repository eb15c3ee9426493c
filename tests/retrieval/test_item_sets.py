from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyg_kd.retrieval.item_sets import ItemSets

ROWS = st.lists(st.integers(0, 5))


@given(ROWS, ROWS, ROWS, st.none() | ROWS, st.none() | ROWS)
def test_an_item_is_listed_if_every_set_allows_it(a, b, out, only, without) -> None:
    sets = ItemSets(6)
    sets.name("a", np.array(a, int))
    sets.name("b", np.array(b, int))
    sets.set_available(np.array(out, int), False)
    found = sets.allowed(
        ["a", "b"],
        only=None if only is None else np.array(only, int),
        without=None if without is None else np.array(without, int),
    )
    left = set(a) & set(b) - set(out) - set(without or ())
    left &= set(range(6)) if only is None else set(only)
    assert set(np.flatnonzero(found).tolist()) == left
    assert sets.unavailable.tolist() == sorted(set(out)) and sets.names == ["a", "b"]


def test_nothing_asked_is_no_mask() -> None:
    sets = ItemSets(3)
    sets.set_available(np.array([1]), False)
    sets.set_available(np.array([1]), True)
    assert sets.allowed() is None and sets.allowed([], without=np.empty(0, int)) is None


@pytest.mark.parametrize("name", ["toys", 3, None, []])
def test_an_unknown_set_is_named(name: object) -> None:
    with pytest.raises(ValueError, match=r"'filters' must be out of \[\]"):
        ItemSets(3).allowed([name])
