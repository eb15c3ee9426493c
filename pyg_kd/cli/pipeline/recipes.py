"""What is done where the options leave it open: recipes by model and by the size of the data.

They are those of ``docs/results.md``, ``examples/gowalla.py`` and
``benchmarks/compare_methods.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: From so many interactions on, batches are larger and epochs fewer.
LARGE = 500_000

#: Up to so many pairs of a user and an item, a student sees the whole catalogue in every epoch.
MOST_PAIRS = 20_000_000_000

#: From so many users on, the teacher's lists are shorter.
MANY_USERS = 200_000

Options = dict[str, Any]

#: How each model is trained by itself. The first two entries of a pair are for small data.
TRAINING: dict[str, Options] = {
    "lightgcn": {"epochs": 15, "lr": 0.01},
    "ngcf": {"epochs": 15, "lr": 0.01},
    "mf": {"epochs": 40, "lr": 0.003, "batch_size": 1024, "weight_decay": 1e-3},
    "cml": {"epochs": 40, "lr": 0.005, "batch_size": 1024, "num_negatives": 10},
    "neumf": {"epochs": 40, "lr": 0.003, "batch_size": 1024, "num_negatives": 4,
              "weight_decay": 1e-5},
    "multvae": {"epochs": 100, "lr": 0.003, "batch_size": 256, "batch_by": "user"},
    "itemae": {"epochs": 100, "lr": 0.001, "batch_size": 1024},
    "gfcf": {},
    "ease": {},
}  # fmt: skip

#: Soft labels over the whole catalogue need no base loss; batches are of users.
SOFT_LABELS: Options = {
    "epochs": 40,
    "lr": 0.01,
    "batch_size": 512,
    "batch_by": "user",
    "base_weight": 0.0,
}


def training(model: str, num_edges: int) -> Options:
    """How a model is trained by itself.

    Example:
        >>> training("lightgcn", 10_000)
        {'batch_size': 2048, 'epochs': 15, 'lr': 0.01}
    """
    return {"batch_size": 8192 if num_edges >= LARGE else 2048} | TRAINING[model]


def teacher_dim(num_edges: int) -> int:
    """Width of a teacher."""
    return 128 if num_edges >= LARGE else 64


def student_dim(teacher: int) -> int:
    """Width of a student: an eighth of its teacher's, and 4 at least."""
    return max(4, teacher // 8)


def methods(sizes: Mapping[str, int]) -> dict[str, Options]:
    """What is distilled: soft labels, or ranked lists where the catalogue is too large."""
    if sizes["users"] * sizes["items"] <= MOST_PAIRS:
        return {"SoftLabel": {"weight": 1.0, "own_weight": 0.5}}
    return {
        "TopologyDistillation": {"weight": 1e-4, "mode": "hierarchical"},
        "RelaxedRankingDistillation": {"weight": 0.3, "num_uninteresting": 200, "scale": 10.0},
    }


def num_items(sizes: Mapping[str, int]) -> int:
    """Length of the teacher's lists; some methods draw items below them."""
    longest = 500 if sizes["users"] < MANY_USERS else 100
    return max(1, min(longest, sizes["items"] // 2))


def distillation(names: list[str], student: str, num_edges: int) -> Options:
    """How a student is trained with some methods."""
    if "SoftLabel" not in names:
        return training(student, num_edges)
    return SOFT_LABELS | ({"epochs": 20} if num_edges >= LARGE else {})
