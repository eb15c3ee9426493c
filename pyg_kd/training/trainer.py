"""The training loop as its users see it."""

from __future__ import annotations

import warnings
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
from pyg_kd.models.base import Recommender
from pyg_kd.training.failures import failing_together
from pyg_kd.training.history import History
from pyg_kd.training.losses import resolve_loss
from pyg_kd.training.objective import Objective, check_terms
from pyg_kd.training.options import Callback, Evaluator, LossName, Options, plain
from pyg_kd.training.processes import make_fabric
from pyg_kd.training.run import Run
from pyg_kd.training.schedule import Schedule


class Trainer:
    r"""Trains a teacher, or a student with a list of distillations.

    The loss is :math:`L = w_0 L_{base} + \sum_m \lambda_m L_m`, all sums over
    the batch. An epoch depends only on the seed, its number and the state before it:
    the same seed gives the same bits, also across an interruption.

    A run that is resumed must be the same run: the checkpoint in ``checkpoint_dir`` is refused if
    the model, the losses, their weights, the graph (its features and the order of its edges), the
    knowledge that the methods need, the validation targets, the evaluator or an option differ.
    Free to change are ``patience``, ``progress``, ``accelerator``, ``strategy``, ``devices`` (with
    another number of processes sums are rounded in another way), the callbacks and,
    without distillations and a schedule, ``max_epochs``; without ``val_data`` also ``metric``,
    ``evaluate_every``, ``restore_best`` and ``evaluator``. Modules are compared by what they print
    and by plain values kept under the names of their constructors' arguments; evaluators by
    these, by name and by compiled code.

    Args:
        max_epochs: Epochs at most. Methods anneal over them: a run with distillations cannot be
            made longer later.
        batch_size: Interactions, or users, in a batch.
        batch_by: ``"interaction"`` (default), or ``"user"``: an epoch then visits every user
            once, with one of its interactions at random.
        batches_per_step: Batches whose gradients one step adds up. The model is applied once for
            all of them: what is learned from losses that are sums over interactions or users, as
            BPR, is learned as from one large batch, in the memory of a small one and with one
            propagation through the graph.
        num_neighbors: Neighbours that are drawn for a node in every hop, like ``[10, 5]``, -1 for
            all, with a hop for each layer of the model. Every batch then takes the time and memory
            of what its losses read and of what was drawn around it, not those of the whole graph,
            which is propagated over between epochs alone. It needs a model that reads subgraphs,
            as :class:`~pyg_kd.models.LightGCN` and :class:`~pyg_kd.models.NGCF` do. By default
            every step sees the whole graph.
        lr: Learning rate of Adam, at its highest.
        schedule: How it goes on after the warm-up: ``"constant"`` (default), or on a
            ``"cosine"`` from ``lr`` to ``final_lr`` times that, over ``max_epochs``.
        warmup: Share of all steps over which the learning rate rises linearly to ``lr``.
        final_lr: Where the cosine ends, as a share of ``lr``.
        average: Epochs that an exponential moving average of the weights looks back, 0.5 for
            half an epoch. It starts after the warm-up and is what is validated, shown to
            callbacks and left in the model, while training goes on from its own weights. By
            default there is none.
        weight_decay: L2 penalty, added to the gradient of all parameters but those of modules that
            say ``decays = False``.
        sparse: Let a step take the time of the rows of embedding tables that it reads, not that of
            all rows: the steps of other rows are made up for when they are read, to the same
            result but for rounding (:class:`~pyg_kd.training.row_adam.RowAdam`). By default that
            is done where it is faster and there is no weight decay, which counts only for rows
            that are read. It needs a model whose representations are tables, as those of
            :class:`~pyg_kd.models.MF`, losses that are ``row_wise`` and no ``average``.
        loss: ``"bpr"``, ``"sampled_softmax"``, ``"own"`` for the model's own objective, or a
            module called with ``(x_dict, batch)``. By default the model's choice.
        base_weight: Weight :math:`w_0` of the base loss.
        num_negatives: Negatives of each interaction in a batch.
        seed: Seed of everything random in training. The initial weights are drawn when the model
            is made: call ``torch.manual_seed`` before.
        metric: Validation metric, the higher the better, like ``"ndcg@10"``; with an
            ``evaluator``, any of its values.
        evaluate_every: Epochs between validations.
        patience: Validations without improvement after which training stops.
        restore_best: End with the best validated weights (default), not the last.
        evaluator: Called with ``(model, data, val_data)`` instead of the
            default, a full ranking by ``metric``.
        checkpoint_dir: Folder for ``last.pt``, written after every epoch; one from another run
            is refused.
        accelerator: ``"auto"``, ``"cpu"``, ``"cuda"``.
        devices: Processes; each computes its share of every batch, and together they do what one
            does, up to rounding. What there is to know is on the page *Several processes*.
        strategy: As in Lightning Fabric; with ``"auto"`` and ``"ddp"`` processes add up gradients
            once a step.
        precision: As in Lightning Fabric, for example ``"bf16-mixed"``. One like ``"bf16-true"``
            converts the model, which stays converted.
        progress: Show progress on the standard error stream: a bar on a terminal, in a log file
            a line at most every 15 seconds. Otherwise nothing is printed.

    Raises:
        ValueError: If an option is out of range, or CUDA is asked for where
            there is none.
    """

    def __init__(
        self,
        *,
        max_epochs: int = 15,
        batch_size: int = 8192,
        batch_by: Unit = "interaction",
        batches_per_step: int = 1,
        num_neighbors: Sequence[int] | None = None,
        lr: float = 0.01,
        schedule: Schedule = "constant",
        warmup: float = 0.0,
        final_lr: float = 0.01,
        average: float | None = None,
        weight_decay: float = 0.0,
        sparse: bool | None = None,
        loss: LossName | nn.Module | None = None,
        base_weight: float = 1.0,
        num_negatives: int = 1,
        seed: int = 0,
        metric: str = "recall@20",
        evaluate_every: int = 1,
        patience: int | None = 10,
        restore_best: bool = True,
        evaluator: Evaluator | None = None,
        checkpoint_dir: str | Path | None = None,
        accelerator: str = "auto",
        devices: int = 1,
        strategy: str = "auto",
        precision: Any = "32-true",
        progress: bool = True,
    ) -> None:
        self.max_epochs, self.batch_size, self.batch_by = max_epochs, batch_size, batch_by
        self.batches_per_step, self.num_neighbors = batches_per_step, num_neighbors
        self.lr, self.weight_decay = lr, weight_decay
        self.schedule, self.warmup, self.final_lr = schedule, warmup, final_lr
        self.average, self.sparse = average, sparse
        self.loss, self.base_weight, self.num_negatives = loss, base_weight, num_negatives
        self.seed, self.metric = seed, metric
        self.evaluate_every, self.patience, self.evaluator = evaluate_every, patience, evaluator
        self.restore_best, self.checkpoint_dir = restore_best, checkpoint_dir
        self.accelerator, self.devices = accelerator, devices
        self.strategy, self.precision, self.progress = strategy, precision, progress
        vars(self).update(vars(self.options))

    @property
    def options(self) -> Options:
        """The options, checked, as they are now."""
        values: dict[str, Any] = {f.name: plain(getattr(self, f.name)) for f in fields(Options)}
        return Options(**values)

    def fit(
        self,
        model: Recommender,
        data: HeteroData,
        *,
        val_data: HeteroData | None = None,
        distillations: Sequence[tuple[Distillation, float]] = (),
        callbacks: Sequence[Callback] = (),
        resume: bool = False,
    ) -> History:
        r"""Train a model in place.

        With ``val_data`` the model ends with its best validated weights, unless
        ``restore_best=False``, also when an error or the keyboard ends the run. The global random
        state, the graph, and the model's device and mode stay as they were. With distillations it
        warns at the end if the teacher's lists were no better on ``val_data`` than the student.

        Args:
            model: The teacher or student.
            data: The training graph, with knowledge where ``distillations`` need it.
            val_data: Targets in ``edge_label_index``.
            distillations: Pairs of a method and its weight :math:`\lambda`. Parameters of
                methods are made anew.
            callbacks: Called with ``(epoch, model, data)`` after every epoch, epochs from 0, with
                the model in evaluation mode and without gradients; every process calls them.
                :class:`~pyg_kd.training.diagnostics.Diagnostics` adds columns to the history.
            resume: Continue from ``checkpoint_dir``, if it holds a checkpoint.

        Returns:
            One row per epoch: ``"loss"``, the base loss, and one column per method, named
            after its class, all unweighted means over the interactions visited; ``"seconds"`` of
            training; and the values of validation.

        Raises:
            TypeError: If ``model`` is not a ``Recommender``, ``data`` not a ``HeteroData``,
                ``distillations`` not a list of pairs, or a callback is not callable.
            ValueError: If the model needs no training or is frozen, all weights are 0, a user has
                no edge, the graph lacks knowledge, the model was built for another graph or its
                representations are not ``out_dim`` wide, or the checkpoint in ``checkpoint_dir``
                is damaged or from another run.
            RuntimeError: If gradients are disabled where it is called.
            TrainingDiverged: If a loss or representation is not finite or the
                representations collapse. The model first gets back its best weights, or those
                after the last sound epoch; ``error.history`` holds the epochs before.

        Example:
            >>> from pyg_kd.datasets import SyntheticInteractions
            >>> from pyg_kd.models import MF
            >>> data = SyntheticInteractions(num_users=20, num_items=10, num_edges=80)[0]
            >>> Trainer(max_epochs=2, progress=False).fit(MF(data, dim=4), data)
            History(2 epochs, best_epoch=None)
        """
        options = self.options
        if not torch.is_grad_enabled():
            raise RuntimeError(
                "training needs gradients: call 'fit' outside of torch.no_grad() and "
                "torch.inference_mode()"
            )
        check_model(model, data)
        if resume and options.checkpoint is None:
            raise ValueError("'resume' needs a Trainer with a 'checkpoint_dir' (got None)")
        if not isinstance(callbacks, Sequence) or not all(map(callable, callbacks)):
            raise TypeError(f"'callbacks' must be a list of callables (got {callbacks!r})")
        loss = resolve_loss(model.default_loss if options.loss is None else options.loss)
        objective = Objective(model, loss, distillations, options.base_weight)
        check_terms(options.base_weight, distillations)
        home, mode = next(model.parameters()).device, model.training
        with torch.random.fork_rng():
            torch.manual_seed(options.seed)
            objective.bind(data)
            fabric = make_fabric(options)
            with failing_together(fabric.global_rank, fabric.world_size):
                run = Run(options, fabric, objective, data, val_data, callbacks)
                try:
                    if options.checkpoint is not None:
                        run.begin(options.checkpoint, resume)
                    model.fitted_on = graph_fingerprint(data)
                    run.train()
                finally:
                    run.restore_best()
                    objective.to(home)
                    model.train(mode)
        if (message := run.weak_teacher()) is not None:
            warnings.warn(message, stacklevel=2)
        return run.history

    def __repr__(self) -> str:
        given = [
            f"{name}={value!r}"
            for name, option in signature(Trainer).parameters.items()
            if (value := getattr(self, name)) != option.default
        ]
        return f"Trainer({', '.join(given)})"

    @property
    def checkpoint(self) -> Path | None:
        """The file in ``checkpoint_dir``."""
        return self.options.checkpoint


def check_users(data: HeteroData) -> None:
    """Raise ``ValueError`` if a user has no edge to train on."""
    lonely = (interactions(data).by_user().degree == 0).nonzero().squeeze(1)
    if len(lonely):
        raise ValueError(
            f"{len(lonely)} users of 'data' have no training edge, the first is "
            f"{int(lonely[0])}: split so that each keeps one (pyg_kd.transforms.UserSplit), or "
            "remove users without edges before splitting (KCore(1))"
        )


def check_model(model: Recommender, data: HeteroData) -> None:
    """Raise unless there is something to train, and a graph to train it on."""
    if not isinstance(model, Recommender):
        raise TypeError(
            f"'model' must be a Recommender (got {type(model).__name__}); compile one in "
            "place, by model.compile()"
        )
    if not model.trainable:
        raise ValueError(
            f"{type(model).__name__} needs no training: it is computed from its graph when it "
            "is made"
        )
    check_users(data)
    model.check_data(data)
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError(f"'model' has no trainable parameters (got {model})")
