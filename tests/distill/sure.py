"""Lists with a confidence in their places, as an oracle reads them."""

from __future__ import annotations

from types import SimpleNamespace

import torch


def unsure(problem: SimpleNamespace) -> SimpleNamespace:
    """Confidence of every size, none in some places, and for one user in the second half."""
    lists = problem.graph["user"].teacher_items
    confidence = 4 * torch.rand(lists.shape)
    confidence[torch.rand(lists.shape) < 0.2] = 0
    confidence[int(problem.batch.user[0]), lists.size(1) // 2 :] = 0
    problem.graph["user"].teacher_confidence = confidence
    return problem


def sure_items(problem: SimpleNamespace, user: int, num: int | None = None) -> dict[int, float]:
    """A user's list without places of no confidence, with the confidence in each item."""
    store = problem.graph["user"]
    items = store.teacher_items[user].tolist()
    confidence = [1.0] * len(items)
    if "teacher_confidence" in store:
        confidence = store.teacher_confidence[user].tolist()
    found = [(i, c) for i, c in zip(items, confidence, strict=True) if i >= 0 and c > 0]
    return dict(found[:num])
