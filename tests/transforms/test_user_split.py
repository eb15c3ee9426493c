from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyg_kd.datasets import from_interactions
from pyg_kd.transforms import UserSplit
from pyg_kd.typing import INTERACTS


def _quota(count: int, fraction: str) -> int:
    return int((count * Decimal(fraction)).to_integral_value(ROUND_HALF_UP))


@given(
    degrees=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    fractions=st.sampled_from([("0.1", "0.1"), ("0.29", "0.35"), ("0", "0.5"), ("0.45", "0.54")]),
    seed=st.integers(0, 5),
)
def test_counts_follow_the_rounding_rule(
    degrees: list[int], fractions: tuple[str, str], seed: int
) -> None:
    user = [u for u, degree in enumerate(degrees) for _ in range(degree)]
    item = [i for degree in degrees for i in range(degree)]
    data = from_interactions([user, item])
    val, test = fractions
    graphs = UserSplit(float(val), float(test), seed=seed)(data)
    train, validation, held_out = (graph[INTERACTS] for graph in graphs)
    for u, degree in enumerate(degrees):
        num_test = min(_quota(degree, test), degree - 1)
        num_val = min(_quota(degree, val), degree - 1 - num_test)
        assert int((held_out.edge_label_index[0] == u).sum()) == num_test
        assert int((validation.edge_label_index[0] == u).sum()) == num_val
        assert int((train.edge_index[0] == u).sum()) == degree - num_val - num_test >= 1


def test_own_targets_leave_all_edges_to_training_and_validation() -> None:
    data = from_interactions([[0] * 10, [*range(10)]])
    data[INTERACTS].edge_label_index = torch.tensor([[0], [3]])
    train, val, test = (graph[INTERACTS] for graph in UserSplit(val=0.2, test=0.5)(data))
    assert (train.edge_index.size(1), val.edge_label_index.size(1)) == (8, 2)
    assert test.edge_index.size(1) == 10
    assert test.edge_label_index.tolist() == [[0], [3]]


def test_choice_does_not_depend_on_item_ids() -> None:
    # Half of the held-out items come from the lower half of the ids.
    data = from_interactions([[u for u in range(200) for _ in range(10)], [*range(10)] * 200])
    _, _, test = UserSplit(val=0.1, test=0.2)(data)
    low = (test[INTERACTS].edge_label_index[1] < 5).float().mean()
    assert low.item() == pytest.approx(0.5, abs=0.08)


def test_repr() -> None:
    assert repr(UserSplit()) == "UserSplit(val=0.1, test=0.1, seed=0)"
    assert repr(UserSplit(0.2, 0, seed=4)) == "UserSplit(val=0.2, test=0, seed=4)"


def test_a_part_of_the_users_validates() -> None:
    user = torch.arange(200).repeat_interleave(10)
    data = from_interactions(torch.stack([user, torch.arange(10).repeat(200)]))
    whole = UserSplit(0.2, 0.3, seed=3)(data)
    part = UserSplit(0.2, 0.3, seed=3, val_users=0.1)(data)
    targets = [split[1]["user", "item"].edge_label_index for split in (whole, part)]
    chosen, counts = targets[1][0].unique(return_counts=True)
    assert len(chosen) == 20 and counts.unique().tolist() == [2]
    assert chosen.tolist() != list(range(20))
    mine = torch.isin(targets[0][0], chosen)
    assert torch.equal(targets[0][:, mine], targets[1])  # the same targets of the same users
    assert torch.equal(
        whole[2]["user", "item"].edge_label_index, part[2]["user", "item"].edge_label_index
    )
    assert part[0]["user", "item"].num_edges == 2000 - 600 - 40
    assert repr(UserSplit(val_users=0.5)).endswith("seed=0, val_users=0.5)")
    for share in (0, -0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"'val_users' must lie in 0..1, 0 excluded"):
            UserSplit(val_users=share)
