"""A student tuned on the validation targets."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch_geometric.data import HeteroData

from pyg_kd.models import Recommender
from pyg_kd.study.tuning.search import Objective, Report, search
from pyg_kd.study.tuning.space import Methods, Setting, ranges, with_setting
from pyg_kd.study.tuning.trials import Tuning
from pyg_kd.training import Trainer
from pyg_kd.training.validation import Validation


def tune(
    model: Callable[[HeteroData], Recommender],
    data: HeteroData,
    val_data: HeteroData,
    *,
    distillations: Methods = (),
    trainer: Mapping[str, Any] | None = None,
    metric: str = "recall@20",
    minutes: float = 10.0,
    trials: int | None = None,
    storage: str | Path | None = None,
    name: str = "student",
    seed: int = 0,
    progress: bool = True,
) -> Tuning:
    r"""Tune the learning rate, the weight decay and the methods of a student within minutes.

    The recipe, which is ``trainer`` and ``distillations`` as they are given, is the first trial, so
    that the result is never below it on the validation targets. See
    :func:`~pyg_kd.study.tuning.space.ranges` for what is searched and
    :func:`~pyg_kd.study.tuning.search.search` for how. A student alone, without ``distillations``,
    deserves as many minutes before anything is said about what a teacher brings.

    Args:
        model: Makes the student for a graph, by PyTorch's default generator.
        data: The training graph, with knowledge where the methods need it.
        val_data: Targets in ``edge_label_index``.
        distillations: Pairs of a method and its weight.
        trainer: Options of :class:`~pyg_kd.training.Trainer`, the recipe.
        metric: What is validated.
        minutes: How long to search.
        trials: How many trials at most.
        storage: A file that keeps the trials, from which a further call goes on.
        name: Name of the search in it.
        seed: Seed of the first weights, of training and of the search.
        progress: Show progress on the standard error stream.

    Raises:
        ImportError: If Optuna is not installed.
        ValueError: If an option is out of range, or the graph lacks knowledge.

    Example:
        >>> from pyg_kd import SoftLabel, extract_knowledge
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> from pyg_kd.models import EASE, MF
        >>> from pyg_kd.transforms import UserSplit
        >>> data = SyntheticInteractions(num_users=100, num_items=60, num_edges=1_500)[0]
        >>> train, val, _ = UserSplit(seed=0)(data)
        >>> found = tune(
        ...     lambda graph: MF(graph, dim=4),
        ...     extract_knowledge(EASE(train), train, num_items=20),
        ...     val,
        ...     distillations=[(SoftLabel(), 1.0)],
        ...     trainer={"max_epochs": 2, "batch_by": "user", "base_weight": 0.0},
        ...     trials=2,
        ...     progress=False,
        ... )
        >>> len(found.trials), found.best.value >= found.default.value
        (2, True)
    """
    options = dict(trainer or {})
    recipe = Trainer(**{**options, "progress": False, "metric": metric})
    if recipe.evaluate_every > recipe.max_epochs:
        raise ValueError(
            f"'evaluate_every' must be at most 'max_epochs', {recipe.max_epochs}, or nothing is "
            f"validated (got {recipe.evaluate_every})"
        )
    space = ranges(
        distillations,
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        base_weight=recipe.base_weight,
    )
    objective = _objective(model, data, val_data, distillations, options, metric, seed)
    return search(
        objective,
        space,
        metric=metric,
        minutes=minutes,
        trials=trials,
        storage=None if storage is None else Path(storage),
        name=name,
        seed=seed,
        # What warms up and falls is told apart late.
        warmup=recipe.max_epochs // (2 if recipe.schedule == "cosine" else 4),
        progress=progress,
    )


def _objective(
    model: Callable[[HeteroData], Recommender],
    data: HeteroData,
    val_data: HeteroData,
    distillations: Methods,
    options: dict[str, Any],
    metric: str,
    seed: int,
) -> Objective:
    """Trains a student with a setting."""
    validation: list[Validation] = []
    every = Trainer(**{**options, "progress": False}).evaluate_every

    def objective(setting: Setting, report: Report) -> float:
        seen = 0

        def evaluator(student: Recommender, graph: HeteroData, val: HeteroData) -> dict[str, float]:
            nonlocal seen
            if not validation:
                validation.append(Validation(graph, val, metric))
            value = validation[0](student, graph)[metric]
            seen += every
            report(seen - 1, value)
            return {metric: value}

        chosen = {name: setting[name] for name in ("lr", "weight_decay")}
        fixed = {"metric": metric, "evaluator": evaluator, "seed": seed, "progress": False}
        trainer = Trainer(**{**options, **chosen, **fixed, "restore_best": False})
        with torch.random.fork_rng(), warnings.catch_warnings():
            torch.manual_seed(seed)
            student = model(data)
            # That a student passes its teacher, or that a setting is bad, is no reason to worry.
            warnings.simplefilter("ignore", UserWarning)
            history = trainer.fit(
                student,
                data,
                val_data=val_data,
                distillations=with_setting(distillations, setting),
            )
        return max(history[metric])

    return objective
