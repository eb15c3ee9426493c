"""Training of sharded tables, with the look of the Trainer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch_geometric.data import HeteroData

from pyg_kd.distill.base import Distillation
from pyg_kd.graph import interactions
from pyg_kd.knowledge import graph_fingerprint
from pyg_kd.loader.interaction_loader import Unit
from pyg_kd.sharding.model import ShardedMF
from pyg_kd.sharding.options import ShardedOptions
from pyg_kd.sharding.run import ShardedRun
from pyg_kd.training.history import History
from pyg_kd.training.objective import check_distillations, check_terms
from pyg_kd.training.options import plain
from pyg_kd.training.trainer import check_users


class ShardedTrainer:
    r"""Trains a teacher, or a student with a list of distillations, on sharded tables.

    It is to :class:`~pyg_kd.sharding.ShardedMF` what :class:`~pyg_kd.training.Trainer` is to other
    models: the loss is :math:`L = w_0 L_{base} + \sum_m \lambda_m L_m`, with the same base losses
    and methods, and an epoch depends on nothing but the seed, its number and the state before it.
    All processes read the same graph, and each takes its share of every batch: results are those
    of one process but for rounding, on any number of processes.

    A step fetches the rows that its losses read, and no others, where these are ``row_wise`` or
    tell which rows they read; a loss that reads a whole table, such as a softmax over the
    catalogue, has that fetched by every process in every step. Methods that follow the student
    have both tables fetched as a whole between epochs.

    Args:
        max_epochs: Epochs at most. Methods anneal over them.
        batch_size: Interactions, or users, in a batch of all processes together.
        batch_by: ``"interaction"`` (default), or ``"user"``.
        lr: Learning rate of the tables' own optimiser.
        method_lr: Learning rate of Adam, which trains what methods have of their own.
        loss: ``"bpr"`` (default), ``"sampled_softmax"``, or a module called with
            ``(x_dict, batch)``.
        base_weight: Weight :math:`w_0` of the base loss.
        num_negatives: Negatives of each interaction in a batch.
        seed: Seed of everything random in training.
        metric: Validation metric, the higher the better.
        evaluate_every: Epochs between validations.
        patience: Validations without improvement after which training stops.
        restore_best: End with the best validated rows (default), not the last. Each process keeps
            them beside its rows.
        checkpoint_dir: Folder of a checkpoint, the same for all processes, written after every
            epoch. Another number of processes can go on from it, and with the other sharding; one
            of another run is refused.
        progress: Show progress on the standard error stream, of the first process.

    Raises:
        TypeError: If an option is of another type.
        ValueError: If an option is out of range.
    """

    def __init__(
        self,
        *,
        max_epochs: int = 15,
        batch_size: int = 8192,
        batch_by: Unit = "interaction",
        lr: float = 0.05,
        method_lr: float = 0.01,
        loss: str | nn.Module = "bpr",
        base_weight: float = 1.0,
        num_negatives: int = 1,
        seed: int = 0,
        metric: str = "recall@20",
        evaluate_every: int = 1,
        patience: int | None = 10,
        restore_best: bool = True,
        checkpoint_dir: str | Path | None = None,
        progress: bool = True,
    ) -> None:
        self.max_epochs, self.batch_size, self.batch_by = max_epochs, batch_size, batch_by
        self.lr, self.method_lr = lr, method_lr
        self.loss, self.base_weight, self.num_negatives = loss, base_weight, num_negatives
        self.seed, self.metric, self.evaluate_every = seed, metric, evaluate_every
        self.patience, self.restore_best = patience, restore_best
        self.checkpoint_dir, self.progress = checkpoint_dir, progress
        vars(self).update(vars(self.options))

    @property
    def options(self) -> ShardedOptions:
        """The options, checked, as they are now."""
        values: dict[str, Any] = {
            f.name: plain(getattr(self, f.name)) for f in fields(ShardedOptions)
        }
        return ShardedOptions(**values)

    def fit(
        self,
        model: ShardedMF,
        data: HeteroData,
        *,
        val_data: HeteroData | None = None,
        distillations: Sequence[tuple[Distillation, float]] = (),
        resume: bool = False,
    ) -> History:
        r"""Train a model in place; all processes call this together.

        Args:
            model: The teacher or student.
            data: The training graph, with knowledge where ``distillations`` need it, the same in
                every process.
            val_data: Targets in ``edge_label_index``.
            distillations: Pairs of a method and its weight :math:`\lambda`. Parameters of methods
                are made anew.
            resume: Continue from ``checkpoint_dir``, if it holds a checkpoint.

        Returns:
            One row per epoch, the same in every process: ``"loss"``, the base loss, and one
            column per method, all unweighted means over the interactions visited; ``"seconds"``
            of training; and the validation metric.

        Raises:
            TypeError: If ``model`` is not a ``ShardedMF``, or ``distillations`` not a list of
                pairs.
            ValueError: If all weights are 0, a user has no edge, the graph lacks knowledge or is
                another one in some process, the model was built for another graph, or the
                checkpoint in ``checkpoint_dir`` is damaged or from another run.
            TrainingDiverged: If a loss is not finite. The model gets back its best validated rows.
        """
        options = self.options
        check_model(model, data)
        if resume and options.checkpoint_dir is None:
            raise ValueError("'resume' needs a ShardedTrainer with a 'checkpoint_dir' (got None)")
        check_distillations(distillations)
        check_terms(options.base_weight, distillations)
        with torch.random.fork_rng():
            torch.manual_seed(options.seed)
            for method, _ in distillations:
                method.unbind().bind(data, model.dim)
            run = ShardedRun(options, model, data, val_data, distillations)
            try:
                if run.folder is not None:
                    run.begin(run.folder, resume)
                model.fitted_on = graph_fingerprint(data)
                run.train()
            finally:
                run.restore_best()
        return run.history

    def __repr__(self) -> str:
        given = [
            f"{name}={value!r}"
            for name, option in signature(ShardedTrainer).parameters.items()
            if (value := getattr(self, name)) != option.default
        ]
        return f"ShardedTrainer({', '.join(given)})"


def check_model(model: ShardedMF, data: HeteroData) -> None:
    """Raise unless a sharded model fits a graph with an edge for every user."""
    if not isinstance(model, ShardedMF):
        raise TypeError(f"'model' must be a ShardedMF (got {type(model).__name__})")
    check_users(data)
    _, *sizes = interactions(data)
    if sizes != [model.num_users, model.num_items]:
        raise ValueError(
            f"'data' has {sizes[0]} users and {sizes[1]} items, the model was built for "
            f"{model.num_users} and {model.num_items}"
        )
