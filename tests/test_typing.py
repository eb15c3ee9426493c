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
