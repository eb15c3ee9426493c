"""How the students of :func:`pyg_kd.compress` learn."""

from __future__ import annotations

import math
from typing import Any

#: Items that the denominator of the student's loss is drawn from.
DRAWN = 8_400

#: How a student learns from an ensemble, found on CiteULike's validation targets: an item's share
#: is the square of its fused score.
FUSED: dict[str, Any] = {
    "num_listed": 150,
    "target": "score",
    "temperature_score": 0.5,
    "own": "mask",
}
#: How it learns from one teacher, of which the ranks alone are known.
LABELS: dict[str, Any] = {
    "num_listed": 150,
    "temperature": (8.0, 40.0),
    "mixture": (0.3, 0.7),
    "own": "mask",
}
RECIPE: dict[str, Any] = {
    "batch_by": "user",
    "batch_size": 256,
    "lr": 0.02,
    "schedule": "cosine",
    "warmup": 0.05,
    "base_weight": 0.0,
    "patience": None,
}

#: Standard deviation of the student's first embeddings: larger than BPR would want.
INIT_STD = 0.1

#: Epochs of the student, those where users are many, and its least steps: small data needs more
#: epochs.
EPOCHS, EPOCHS_OF_MANY, MANY_USERS, STEPS = 190, 95, 10_000, 1_000


def student_labels(num_items: int, *, fused: bool = True) -> dict[str, Any]:
    """Options of :class:`~pyg_kd.SoftLabel` for a student of a catalogue.

    Args:
        num_items: Size of the catalogue.
        fused: Whether the lists are an ensemble's, with fused scores.

    Example:
        >>> student_labels(84_000)["share"]
        0.1
    """
    return {**(FUSED if fused else LABELS), "share": min(1.0, DRAWN / num_items)}


def student_training(num_users: int, epochs: int | None = None) -> dict[str, Any]:
    """Options of :class:`~pyg_kd.Trainer` for a student of some users.

    Example:
        >>> training = student_training(1_000)
        >>> training["max_epochs"], training["evaluate_every"]
        (250, 50)
    """
    if epochs is None:
        least = math.ceil(STEPS / math.ceil(num_users / RECIPE["batch_size"]))
        epochs = max(EPOCHS if num_users < MANY_USERS else EPOCHS_OF_MANY, least)
    return {**RECIPE, "max_epochs": epochs, "evaluate_every": max(epochs // 5, 1)}
