from __future__ import annotations

import numpy as np
import pytest

from pyg_kd.retrieval.ids import Ids, UnknownId
from pyg_kd.retrieval.newcomers import Newcomers


@pytest.mark.parametrize(
    ("ids", "old", "new"),
    [
        (Ids(["a", "b"], name="user"), ["b"], ["x", "y"]),
        (Ids([7, -1], name="user"), [-1], [5, 2**62]),
        (Ids(size=2, name="user"), [1], [2, 900]),
    ],
)
def test_new_users_are_numbered_behind_the_known(ids: Ids, old: list, new: list) -> None:
    newcomers = Newcomers(ids)
    assert newcomers.find(new).tolist() == [-1, -1]
    assert [newcomers.row(user) for user in [*new, *old, *new]] == [2, 3, 1, 2, 3]
    assert newcomers.find([*old, *new]).tolist() == [1, 2, 3] and len(newcomers) == 2
    assert newcomers.find(new[0]).tolist() == [2]
    with pytest.raises(UnknownId, match=r"'users' must be .*got None"):
        newcomers.rows([*old, *new, None], "users")


def test_a_number_of_numpy_is_that_number() -> None:
    newcomers = Newcomers(Ids([7], name="user"))
    assert newcomers.row(np.int64(9)) == newcomers.row(9) == 1
    assert newcomers.find(np.array([9, 7])).tolist() == [1, 0]


@pytest.mark.parametrize("user", ["9", 9.0, True, None, [9]])
def test_ids_of_another_kind_are_refused(user: object) -> None:
    newcomers = Newcomers(Ids([7], name="user"))
    with pytest.raises((TypeError, ValueError)):
        newcomers.row(user)
    assert len(newcomers) == 0
