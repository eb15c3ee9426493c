"""What is done where the options leave it open: recipes by model and by the size of the data.

They are those of :func:`pyg_kd.compress`, ``docs/results.md`` and
``benchmarks/configs/compare_methods.yaml``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch_geometric.data import HeteroData

from pyg_kd.training.ensemble import list_length
from pyg_kd.training.recipes import LIGHTGCN, lightgcn_loss, lightgcn_training
from pyg_kd.training.student_recipe import DRAWN, student_labels, student_training

#: From so many interactions on, batches are larger and epochs fewer.
LARGE = 500_000

#: Up to so many pairs of a user and an item that are compared in an epoch, soft labels are used.
MOST_PAIRS = 20_000_000_000

#: From so many users on, the teacher's lists are shorter.
MANY_USERS = 200_000

Options = dict[str, Any]

#: How each student is trained by itself, and with any method but soft labels; and every teacher but
#: a LightGCN.
TRAINING: dict[str, Options] = {
    "lightgcn": {"epochs": 30, "lr": 0.01},
    "ngcf": {"epochs": 30, "lr": 0.01},
    "mf": {"epochs": 40, "lr": 0.003, "weight_decay": 1e-3},
    "cml": {"epochs": 40, "lr": 0.005, "num_negatives": 10},
    "neumf": {"epochs": 40, "lr": 0.003, "num_negatives": 4, "weight_decay": 1e-5},
    "multvae": {"epochs": 100, "lr": 0.003, "batch_by": "user"},
    "itemae": {"epochs": 100, "lr": 0.001},
    "gfcf": {},
    "ease": {},
}

#: The largest batch of each model, on data that is not large; 2048 for those that aren't here.
BATCHES = {"mf": 1024, "cml": 1024, "neumf": 1024, "itemae": 1024, "multvae": 256}

#: An epoch has so many steps at least, where there is enough for batches of ``SMALLEST``.
STEPS, SMALLEST = 16, {"interaction": 64, "user": 8}

#: Width of a student of an ensemble.
DIM = 20


def training(model: str, sizes: Mapping[str, int]) -> Options:
    """How a model is trained by itself.

    Example:
        >>> training("lightgcn", {"users": 100, "interactions": 10_000})
        {'epochs': 30, 'lr': 0.01, 'batch_size': 625}
    """
    recipe = dict(TRAINING[model])
    if not recipe:
        return recipe
    large, unit = sizes["interactions"] >= LARGE, recipe.get("batch_by", "interaction")
    if large:
        recipe["epochs"] = max(15, recipe["epochs"] // 2)
    most = BATCHES.get(model, 8192 if large else 2048)
    return recipe | {"batch_size": _batch(unit, sizes[f"{unit}s"], most)}


def teaching(
    model: str,
    graph: HeteroData,
    sizes: Mapping[str, int],
    options: Mapping[str, Any] | None,
    given: Mapping[str, Any],
) -> tuple[Options | None, Options]:
    """Options of a model that may teach, and of the trainer for it.

    A LightGCN is that of :func:`~pyg_kd.training.lightgcn_teacher`, unless another loss is asked
    for, or batches of interactions.

    Args:
        model: The model.
        graph: The training graph.
        sizes: Its sizes.
        options: Options of the model, as far as they are given; they go first.
        given: Options of the trainer, as far as they are given.
    """
    as_usual = given.get("loss") is not None or given.get("batch_by") == "interaction"
    if model != "lightgcn" or as_usual:
        return None if options is None else dict(options), training(model, sizes)
    recipe = lightgcn_training(graph)
    recipe["epochs"] = recipe.pop("max_epochs")
    made = {**LIGHTGCN, "start": "spectral", **(options or {})}
    if not made["normalize"] and "popularity" not in (options or {}):
        made.pop("popularity")
    return made, {**recipe, "loss": {"CatalogueSoftmax": lightgcn_loss(graph)}}


def soft_labels(sizes: Mapping[str, int], epochs: int | None = None) -> Options:
    """How a student is trained with soft labels alone, as :func:`pyg_kd.compress` does it.

    Example:
        >>> soft_labels({"users": 2_000})["epochs"]
        190
    """
    recipe = student_training(sizes["users"], epochs)
    recipe["epochs"] = recipe.pop("max_epochs")
    return {name: value for name, value in recipe.items() if name != "patience"}


def _batch(unit: str, count: int, most: int) -> int:
    return max(SMALLEST[unit], min(most, count // STEPS))


def teacher_dim(num_edges: int) -> int:
    """Width of a teacher."""
    return 128 if num_edges >= LARGE else 64


def student_dim(teacher: int) -> int:
    """Width of a student: an eighth of its teacher's, and 4 at least."""
    return max(4, teacher // 8)


def methods(sizes: Mapping[str, int]) -> dict[str, Options]:
    """What is distilled: soft labels, or ranked lists where users are too many."""
    if sizes["users"] * min(sizes["items"], DRAWN) <= MOST_PAIRS:
        return {"SoftLabel": {"weight": 1.0}}
    return {
        "TopologyDistillation": {"weight": 1e-4, "mode": "hierarchical"},
        "RelaxedRankingDistillation": {"weight": 0.3, "num_uninteresting": 200, "scale": 10.0},
    }


def labels(given: Mapping[str, Any], sizes: Mapping[str, int], *, fused: bool) -> Options:
    """Options of soft labels without a base loss, those that are given going first.

    Example:
        >>> labels({"own_weight": 0.5}, {"items": 100}, fused=True)
        {'own_weight': 0.5}
    """
    if given.get("own_weight") or given.get("tail") == "list":
        return dict(given)  # own items are raised, or there is no catalogue to mask them in
    recipe = student_labels(sizes["items"], fused=fused)
    if given.keys() & {"temperature", "mixture", "target", "temperature_score"}:
        recipe = {name: recipe[name] for name in ("own", "share")}
    return {**recipe, **given}


def num_items(sizes: Mapping[str, int], *, ensemble: bool) -> int:
    """Length of the teacher's lists; some methods of one teacher draw items below them."""
    if ensemble:
        return list_length(sizes["users"], sizes["items"])
    longest = 500 if sizes["users"] < MANY_USERS else 100
    return max(1, min(longest, sizes["items"] // 2))


def distillation(names: list[str], student: str, sizes: Mapping[str, int]) -> Options:
    """How a student is trained with some methods."""
    return soft_labels(sizes) if "SoftLabel" in names else training(student, sizes)
