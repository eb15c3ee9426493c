"""One call of ``fit``: its state, its epochs, and what is saved of it."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from copy import copy, deepcopy
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch_geometric.data import HeteroData
from tqdm.auto import tqdm

from pyg_kd.knowledge import graph_fingerprint
from pyg_kd.loader import InteractionLoader
from pyg_kd.models.inference import inference
from pyg_kd.training.checkpoint import load_checkpoint, save_checkpoint
from pyg_kd.training.describe import describe
from pyg_kd.training.history import History
from pyg_kd.training.objective import Objective, broken_nodes
from pyg_kd.training.validation import Validation

if TYPE_CHECKING:
    from pyg_kd.training.trainer import Callback, Trainer

#: Options that change what an epoch computes: a continued run must have the same.
KEY = (
    "batch_size",
    "batch_by",
    "lr",
    "weight_decay",
    "base_weight",
    "num_negatives",
    "seed",
    "metric",
)


class TrainingDiverged(RuntimeError):
    """A loss is no number any more, or all representations have become the same.

    ``history`` holds the epochs before.
    """

    history: History


class Run:
    """The state of one call of :meth:`~pyg_kd.training.Trainer.fit`."""

    def __init__(
        self,
        trainer: Trainer,
        fabric: Fabric,
        objective: Objective,
        data: HeteroData,
        val_data: HeteroData | None,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self.trainer, self.fabric, self.objective = trainer, fabric, objective
        self.callbacks = callbacks
        self.data = copy(data).to(fabric.device)
        self.val_data = None if val_data is None else copy(val_data).to(fabric.device)
        self.validation: Validation | None = None
        if self.val_data is not None and trainer.evaluator is None:
            self.validation = Validation(self.data, self.val_data, trainer.metric)
        self.loader = InteractionLoader(
            self.data,
            trainer.batch_size,
            by=trainer.batch_by,
            num_negatives=trainer.num_negatives,
            seed=trainer.seed,
            rank=fabric.global_rank,
            world_size=fabric.world_size,
        )
        objective.to(fabric.device)
        optimizer = torch.optim.Adam(
            objective.parameters(), lr=trainer.lr, weight_decay=trainer.weight_decay, fused=True
        )
        self.module, self.optimizer = fabric.setup(objective, optimizer)
        self.history = History()
        self.best: dict[str, Tensor] | None = None
        self.best_value = -math.inf
        self.epoch, self.stale = 0, 0

    def train(self) -> None:
        """All epochs that are left."""
        trainer, total = self.trainer, self.trainer.max_epochs * len(self.loader)
        shown = trainer.progress and self.fabric.global_rank == 0
        # A terminal gets a moving bar, a log file a line now and then.
        pause = 0.3 if sys.stderr.isatty() else 15.0
        name = type(self.objective.model).__name__
        done = self.epoch * len(self.loader)
        with tqdm(
            total=total, initial=done, unit="batch", disable=not shown, mininterval=pause, desc=name
        ) as bar:
            while self.epoch < trainer.max_epochs and not self.exhausted:
                row = self.train_epoch(bar)
                if self.val_data is not None and (self.epoch + 1) % trainer.evaluate_every == 0:
                    row |= self.validate(self.val_data, taken=row)
                self.call_back()
                self.history.rows.append(row)
                self.epoch += 1
                if trainer.checkpoint is not None and self.fabric.global_rank == 0:
                    self.save(trainer.checkpoint)
                shown_row = {k: f"{v:.4g}" for k, v in row.items() if k != "epoch"}
                bar.set_postfix(shown_row, refresh=False)

    @property
    def exhausted(self) -> bool:
        """Whether validation has not improved for long enough."""
        return self.trainer.patience is not None and self.stale >= self.trainer.patience

    def train_epoch(self, bar: Any) -> dict[str, float]:
        """One pass over the interactions; its row of the history."""
        start = time.perf_counter()
        self.objective.train()
        # Everything random in an epoch follows from its number: see `Trainer`.
        torch.manual_seed((self.trainer.seed + 1) * 7_919 + self.epoch)
        self.objective.on_epoch_start(self.data, self.epoch, self.trainer.max_epochs)
        self.loader.epoch = self.epoch
        sums = torch.zeros(1 + len(self.objective.methods), device=self.fabric.device)
        for batch in self.loader:
            self.optimizer.zero_grad(set_to_none=True)
            total, terms = self.module(self.data, batch.user, batch.positive, batch.negative)
            # Gradients are averaged over processes, losses are sums over the batch.
            self.fabric.backward(total * self.fabric.world_size)
            self.optimizer.step()
            sums += terms
            bar.update()
        seconds = time.perf_counter() - start
        sums = torch.as_tensor(self.fabric.all_reduce(sums, reduce_op="sum"))
        values = (sums / self.loader.num_visits).tolist()
        row = dict(zip(["loss", *self.objective.names], values, strict=True))
        self.check(row)
        return {"epoch": self.epoch, **row, "seconds": seconds}

    def check(self, losses: dict[str, float]) -> None:
        """Raise ``TrainingDiverged`` when going on makes no sense."""
        lr, decay = f"'lr' (now {self.trainer.lr})", self.trainer.weight_decay
        bad = [name for name, value in losses.items() if not math.isfinite(value)]
        if bad:
            raise self.diverged(
                f"{', '.join(bad)} is not finite in epoch {self.epoch} (mean losses {losses}): "
                f"try a smaller {lr} or smaller weights of the distillations"
            )
        broken = broken_nodes(self.objective.model, self.data)
        if broken is not None:
            raise self.diverged(
                f"after epoch {self.epoch} the representations of {broken[0]!r} are {broken[1]}: "
                f"try a smaller {lr} or 'weight_decay' (now {decay})"
            )

    def diverged(self, message: str) -> TrainingDiverged:
        """The error, with the epochs before it."""
        error = TrainingDiverged(message)
        error.history = self.history
        return error

    def validate(self, val_data: HeteroData, taken: dict[str, float]) -> dict[str, float]:
        """Metrics of the model; the best weights are kept."""
        trainer, model = self.trainer, self.objective.model
        with inference(model):
            if trainer.evaluator is not None:
                values = trainer.evaluator(model, self.data, val_data)
            else:
                assert self.validation is not None
                values = self.validation(model, self.data)
        # Plain numbers can be saved; those of the first process, so that all of them agree.
        values = self.fabric.broadcast({name: float(value) for name, value in values.items()})
        metric = trainer.metric
        if math.isnan(values.get(metric, math.nan)):
            raise ValueError(f"'evaluator' must return a number for {metric!r} (got {values})")
        if values.keys() & taken.keys():
            names = sorted(values.keys() & taken.keys())
            raise ValueError(f"'evaluator' must not return {names}, columns of every history")
        self.stale += 1
        if values[metric] > self.best_value:
            self.best_value, self.stale = values[metric], 0
            if trainer.restore_best:
                self.best = deepcopy(model.state_dict())
            self.history.best_epoch = self.epoch
        return values

    def call_back(self) -> None:
        """Show the model to whoever asked for it, at the end of an epoch."""
        with inference(self.objective.model):
            for callback in self.callbacks:
                callback(self.epoch, self.objective.model, self.data)

    def restore_best(self) -> None:
        """Give the model its best validated weights."""
        if self.best is not None:
            self.objective.model.load_state_dict(self.best)

    @cached_property
    def key(self) -> dict[str, Any]:
        """What makes the continuation of a run the same run."""
        trainer, objective = self.trainer, self.objective
        return {name: getattr(trainer, name) for name in KEY} | {
            "precision": str(trainer.precision),
            "devices": self.fabric.world_size,
            # Without methods a run can be made longer.
            "max_epochs, over which methods anneal,": (
                trainer.max_epochs if len(objective.methods) else None
            ),
            "model": describe(objective.model),
            "loss": None if objective.loss is None else describe(objective.loss),
            "distillations": [describe(method) for method in objective.methods],
            "weights": objective.weights,
            "graph": graph_fingerprint(self.data),
            "teacher": getattr(self.data, "teacher_fingerprint", None),
            "trajectories": getattr(self.data, "trajectory_fingerprints", None),
        }

    def save(self, path: Path) -> None:
        """Write the state after an epoch."""
        state = {
            "key": self.key,
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best": self.best,
            "best_value": self.best_value,
            "best_epoch": self.history.best_epoch,
            "epoch": self.epoch,
            "stale": self.stale,
            "rows": self.history.rows,
        }
        save_checkpoint(state, path)

    def begin(self, path: Path, resume: bool) -> None:
        """Continue from a state that :meth:`save` wrote, if there is one; else it is written over,
        unless it is another run's.
        """
        key = self.key  # as it is before the first epoch changes anything
        state = load_checkpoint(path, key) if path.exists() else None
        if resume and state is not None:
            self.restore(state)

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state."""
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best, self.best_value = state["best"], state["best_value"]
        self.epoch, self.stale = state["epoch"], state["stale"]
        self.history = History(state["rows"])
        self.history.best_epoch = state["best_epoch"]
