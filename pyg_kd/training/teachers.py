"""Teachers by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch_geometric.data import HeteroData

from pyg_kd.graph import interactions
from pyg_kd.models import (
    BSPM,
    EASE,
    GFCF,
    MF,
    SLIM,
    ItemKNN,
    KernelRidge,
    Recommender,
    UserKNN,
)
from pyg_kd.training.als import AlternatingLeastSquares
from pyg_kd.training.recipes import lightgcn_teacher

#: Teachers by name.
Name = Literal[
    "kernel_ridge", "gfcf", "bspm", "ease", "slim", "item_knn", "user_knn", "als", "lightgcn"
]

#: The closed-form teachers.
CLOSED: dict[str, Callable[[HeteroData], Recommender]] = {
    "kernel_ridge": KernelRidge,
    "gfcf": GFCF,
    "bspm": BSPM,
    "ease": EASE,
    "slim": SLIM,
    "item_knn": ItemKNN,
    "user_knn": UserKNN,
}

#: Up to so many users their neighbours teach, and from then on the filter of BSPM, as long as its
#: ranking, whose time grows with users times interactions, takes minutes: then neighbours of items.
FEW_USERS, MANY_PRODUCTS = 20_000, 10**11

#: Width of teachers that have one.
TEACHER_DIM = 200

#: Confidence and penalty of factorisations: sparse data wants much of the first, dense data less,
#: and two settings differ more than two seeds do.
FACTORISATIONS = ((40.0, 10.0), (40.0, 30.0), (10.0, 50.0))


def auto_teachers(data: HeteroData) -> list[Name]:
    """Teachers of several kinds, those that take seconds first."""
    edge_index, num_users, num_items = interactions(data)
    smaller = min(num_users, num_items)
    if smaller < 3:
        raise ValueError(f"'data' must have three users and three items at least (got {smaller})")
    found: list[Name] = ["kernel_ridge", "als", "als", "als"]
    if num_users <= FEW_USERS:
        return [*found, "user_knn"]
    return [*found, "bspm" if num_users * edge_index.size(1) <= MANY_PRODUCTS else "slim"]


def train_teacher(
    name: str,
    data: HeteroData,
    val_data: HeteroData | None,
    *,
    metric: str,
    place: int = 0,
    seed: int = 0,
    progress: bool = True,
) -> Recommender:
    r"""Train a teacher by its name.

    Args:
        name: The name.
        data: The training graph.
        val_data: Targets in ``edge_label_index``, by which the best epoch is chosen.
        metric: The metric of that choice.
        place: Which of several teachers it is: factorisations differ in seed and setting.
        seed: Seed of everything random.
        progress: Show progress.

    Raises:
        ValueError: If there is no such teacher.
    """
    if name in CLOSED:
        return CLOSED[name](data)
    if name == "als":
        setting = place % len(FACTORISATIONS)
        return factorisation(data, TEACHER_DIM, setting, seed + place, progress)
    if name != "lightgcn":
        raise ValueError(f"'teachers' must be out of {[*CLOSED, 'als', 'lightgcn']} (got {name!r})")
    teacher, trainer = lightgcn_teacher(data, seed=seed, metric=metric, progress=progress)
    trainer.fit(teacher, data, val_data=val_data)
    return teacher


def factorisation(
    data: HeteroData, dim: int, setting: int, seed: int, progress: bool
) -> Recommender:
    """A factorisation by alternating least squares, with one of :data:`FACTORISATIONS`."""
    alpha, penalty = FACTORISATIONS[setting]
    als = AlternatingLeastSquares(alpha=alpha, regularization=penalty, seed=seed, progress=progress)
    return als.fit(MF(data, min(dim, *interactions(data)[1:])), data)
