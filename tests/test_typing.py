from __future__ import annotations

import dataclasses

import pytest
import torch

from pyg_kd.typing import INTERACTS, ITEM, USER, Batch


def test_names() -> None:
    assert (USER, ITEM) == ("user", "item")
    assert INTERACTS[0] == USER and INTERACTS[2] == ITEM


@pytest.mark.parametrize("negative", [[4, 1, 4, 0], [[4, 9], [1, 1], [4, 2], [0, 9]]])
def test_unique_entities(negative: list) -> None:
    batch = Batch(torch.tensor([3, 1, 3, 0]), torch.tensor([7, 4, 2, 2]), torch.tensor(negative))
    assert batch.unique_users.tolist() == [0, 1, 3]
    flat = torch.tensor(negative).flatten().tolist()
    assert batch.unique_items.tolist() == sorted({7, 4, 2, *flat})
    assert len(batch) == 4


def test_unique_entities_are_computed_once() -> None:
    batch = Batch(*torch.tensor([[1, 1], [2, 0], [3, 3]]))
    assert batch.unique_users is batch.unique_users and batch.unique_items is batch.unique_items


def test_a_batch_does_not_change() -> None:
    batch = Batch(*torch.tensor([[1, 1], [2, 0], [3, 3]]))
    with pytest.raises(dataclasses.FrozenInstanceError):
        batch.user = torch.tensor([0])


def test_an_empty_batch() -> None:
    batch = Batch(*torch.empty(3, 0, dtype=torch.long))
    assert len(batch) == 0 and batch.unique_users.numel() == batch.unique_items.numel() == 0


def test_former_names_of_a_batch() -> None:
    batch = Batch(*torch.tensor([[1, 1], [2, 0], [3, 3]]))
    assert batch.users is batch.unique_users and batch.items is batch.unique_items
    assert batch.unique_positives.tolist() == [0, 2] and batch.unique_negatives.tolist() == [3]


@pytest.mark.parametrize("num_shares", [1, 2, 3, 5])
def test_shares_hold_every_triple_and_entity_once(num_shares: int) -> None:
    generator = torch.Generator().manual_seed(num_shares)
    batch = Batch(*torch.randint(9, (3, 7), generator=generator))
    shares = [batch.share(rank, num_shares) for rank in range(num_shares)]
    names = ["user", "positive", "negative", "candidates"]
    names += ["unique_users", "unique_items", "unique_positives", "unique_negatives"]
    for name in names:
        parts = [getattr(share, name) for share in shares]
        assert torch.equal(torch.cat(parts), getattr(batch, name))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    drawn = torch.rand(len(batch.unique_users), 2)
    assert torch.equal(torch.cat([share.own(drawn) for share in shares]), drawn)
    assert all(share.whole is batch and share.num_shares == num_shares for share in shares)


def test_a_share_adds_up_by_what_it_is_given() -> None:
    batch = Batch(*torch.tensor([[1, 1], [2, 0], [3, 3]]))
    one = torch.ones(2)
    assert batch.total(one) is one
    assert torch.equal(batch.share(1, 2, lambda x: 2 * x).total(one), 2 * one)
    with pytest.raises(ValueError, match="'total' must be given"):
        batch.share(1, 2).total(one)
