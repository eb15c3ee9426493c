"""The training loop: epochs, validation, checkpoints, progress."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from copy import copy, deepcopy
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor, nn
from torch_geometric.data import HeteroData
from tqdm.auto import tqdm

from pyg_kd.distill.base import Distillation
from pyg_kd.functional.bipartite import interactions
from pyg_kd.loader import InteractionLoader
from pyg_kd.models.base import Recommender
from pyg_kd.training.checkpoint import load_checkpoint, save_checkpoint
from pyg_kd.training.history import History
from pyg_kd.training.losses import resolve_loss
from pyg_kd.training.objective import Objective, collapsed
from pyg_kd.training.validation import parse_metric, validate

#: ``evaluator(model, data, val_data)`` returns metrics by name.
Evaluator = Callable[[Recommender, HeteroData, HeteroData], dict[str, float]]


class TrainingDiverged(RuntimeError):
    """A loss is no number any more, or all representations have become the same."""


class Trainer:
    r"""Trains a teacher, or a student under a list of distillations.

    The loss is :math:`L = w_0 L_{base} + \sum_m \lambda_m L_m`, all sums over
    the batch. An epoch depends on the seed, its number and the state before it
    alone: the same seed gives the same bits, also across an interruption.

    Args:
        max_epochs: Epochs at most.
        batch_size: Interactions in a batch.
        lr: Learning rate of Adam.
        weight_decay: L2 penalty, as gradient.
        loss: ``"bpr"``, ``"sampled_softmax"``, or a module called with ``(x_dict, batch)``.
            By default the model's own choice.
        base_weight: Weight :math:`w_0` of the base loss.
        num_negatives: Negatives of each interaction in a batch.
        seed: Seed of everything random.
        metric: Validation metric, of which more is better.
        evaluate_every: Epochs between validations.
        patience: Validations without improvement after which training stops.
        restore_best: End with the best validated weights (default), not the last.
        evaluator: Called with ``(model, data, val_data)`` in place of the
            default, a full ranking by ``metric``.
        checkpoint_dir: Folder for ``last.pt``, written after every epoch.
        accelerator: ``"auto"``, ``"cpu"``, ``"cuda"``.
        devices: Processes; several train on their shares of every batch.
        strategy: As in Lightning Fabric.
        precision: As in Lightning Fabric, for example ``"bf16-mixed"``.
        progress: Show a progress bar.

    Raises:
        ValueError: If an option is out of range, or CUDA is asked for where
            there is none.
    """

    def __init__(
        self,
        *,
        max_epochs: int = 15,
        batch_size: int = 8192,
        lr: float = 0.01,
        weight_decay: float = 0.0,
        loss: str | nn.Module | None = None,
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
        for name, value in (("max_epochs", max_epochs), ("evaluate_every", evaluate_every)):
            if value < 1:
                raise ValueError(f"{name!r} must be positive (got {value})")
        if lr <= 0 or weight_decay < 0:
            raise ValueError(f"'lr' must be positive, 'weight_decay' not negative (got {lr}, {weight_decay})")
        if accelerator in ("cuda", "gpu") and not torch.cuda.is_available():
            raise ValueError(f"'accelerator' is {accelerator!r}, but PyTorch finds no CUDA device")
        parse_metric(metric)
        self.max_epochs, self.batch_size = max_epochs, batch_size
        self.lr, self.weight_decay = lr, weight_decay
        self.loss, self.base_weight, self.num_negatives = loss, base_weight, num_negatives
        self.seed, self.metric = seed, metric
        self.evaluate_every, self.patience, self.evaluator = evaluate_every, patience, evaluator
        self.keep_best = restore_best
        self.checkpoint = None if checkpoint_dir is None else Path(checkpoint_dir) / "last.pt"
        self.accelerator, self.devices = accelerator, devices
        self.strategy, self.precision, self.progress = strategy, precision, progress

    def fit(
        self,
        model: Recommender,
        data: HeteroData,
        *,
        val_data: HeteroData | None = None,
        distillations: Sequence[tuple[Distillation, float]] = (),
        resume: bool = False,
    ) -> History:
        r"""Train a model in place.

        With ``val_data``, the model ends with its best validated weights, unless told otherwise.

        Args:
            model: The teacher or student.
            data: The training graph, with knowledge where ``distillations`` need it.
            val_data: Targets in ``edge_label_index``.
            distillations: Pairs of a method and its weight :math:`\lambda`.
            resume: Continue from ``checkpoint_dir``, if it holds a checkpoint.

        Raises:
            ValueError: If a user has no edge, or the graph lacks knowledge.
            TrainingDiverged: If the loss becomes NaN or the representations
                collapse. The best weights so far are restored first.
        """
        model.check_data(data)
        check_users(data)
        loss = resolve_loss(model.default_loss if self.loss is None else self.loss)
        objective = Objective(model, loss, distillations, self.base_weight)
        objective.bind(data)
        home = model.user_embedding.device
        fabric = self._fabric()
        run = _Run(self, fabric, objective, data, val_data)
        with torch.random.fork_rng():
            try:
                if resume and self.checkpoint is not None and self.checkpoint.exists():
                    run.load()
                run.train()
            finally:
                run.restore_best()
                objective.to(home)
        return run.history

    def _fabric(self) -> Fabric:
        strategy: Any = self.strategy
        if self.devices > 1 and strategy in ("auto", "ddp"):
            # Buffers are the same in all processes by seed: sending them each step is waste.
            strategy = DDPStrategy(broadcast_buffers=False)
        fabric = Fabric(
            accelerator=self.accelerator,
            devices=self.devices,
            strategy=strategy,
            precision=self.precision,
        )
        fabric.launch()
        return fabric


class _Run:
    """The state of one call of ``fit``."""

    def __init__(
        self,
        trainer: Trainer,
        fabric: Fabric,
        objective: Objective,
        data: HeteroData,
        val_data: HeteroData | None,
    ) -> None:
        self.trainer, self.fabric, self.objective = trainer, fabric, objective
        self.data = copy(data).to(fabric.device)
        self.val_data = None if val_data is None else copy(val_data).to(fabric.device)
        self.loader = InteractionLoader(
            self.data,
            trainer.batch_size,
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
        self.best_value = -float("inf")
        self.epoch, self.stale = 0, 0

    def train(self) -> None:
        trainer, total = self.trainer, self.trainer.max_epochs * len(self.loader)
        shown = trainer.progress and self.fabric.global_rank == 0
        # A terminal gets a moving bar, a log file a line now and then.
        pause = 0.3 if sys.stderr.isatty() else 15.0
        with tqdm(
            total=total, initial=self.epoch * len(self.loader), unit="batch", disable=not shown,
            mininterval=pause, desc=type(self.objective.model).__name__,
        ) as bar:
            while self.epoch < trainer.max_epochs and not self.exhausted:
                row = self.train_epoch(bar)
                if self.val_data is not None and (self.epoch + 1) % trainer.evaluate_every == 0:
                    row |= self.validate(self.val_data)
                self.history.rows.append(row)
                self.epoch += 1
                if trainer.checkpoint is not None and self.fabric.global_rank == 0:
                    self.save(trainer.checkpoint)
                bar.set_postfix({k: f"{v:.4g}" for k, v in row.items() if k != "epoch"}, refresh=False)

    @property
    def exhausted(self) -> bool:
        """Whether validation has not improved for long enough."""
        return self.trainer.patience is not None and self.stale >= self.trainer.patience

    def train_epoch(self, bar: Any) -> dict[str, float]:
        start = time.perf_counter()
        self.objective.train()
        # Everything random in an epoch follows from its number: see `Trainer`.
        torch.manual_seed((self.trainer.seed + 1) * 7_919 + self.epoch)
        self.objective.on_epoch_start(self.data, self.epoch, self.trainer.max_epochs)
        self.loader.epoch = self.epoch
        sums = torch.zeros(1 + len(self.objective.methods), device=self.fabric.device)
        for batch in self.loader:
            self.optimizer.zero_grad(set_to_none=True)
            total, terms = self.module(self.data, batch)
            # Gradients are averaged over processes, losses are sums over the batch.
            self.fabric.backward(total * self.fabric.world_size)
            self.optimizer.step()
            sums += terms
            bar.update()
        seconds = time.perf_counter() - start
        values = (self.fabric.all_reduce(sums, reduce_op="sum") / self.loader.edge_index.size(1)).tolist()
        row = dict(zip(["loss", *self.objective.names], values, strict=True))
        self.check(row)
        return {"epoch": self.epoch, **row, "seconds": seconds}

    def check(self, losses: dict[str, float]) -> None:
        bad = [name for name, value in losses.items() if not abs(value) < float("inf")]
        if bad:
            raise TrainingDiverged(
                f"{', '.join(bad)} is not finite after epoch {self.epoch} (mean losses {losses}): "
                f"try a smaller 'lr' (now {self.trainer.lr}) or smaller weights of the distillations"
            )
        node_type = collapsed(self.objective.model, self.data)
        if node_type is not None:
            raise TrainingDiverged(
                f"all representations of {node_type!r} are the same after epoch {self.epoch}: try "
                f"a smaller 'weight_decay' (now {self.trainer.weight_decay}) or 'lr' "
                f"(now {self.trainer.lr})"
            )

    def validate(self, val_data: HeteroData) -> dict[str, float]:
        model, metric = self.objective.model, self.trainer.metric
        model.eval()
        if self.trainer.evaluator is not None:
            values = self.trainer.evaluator(model, self.data, val_data)
        else:
            values = validate(model, self.data, val_data, metric)
        if metric not in values:
            raise ValueError(f"'evaluator' returned no {metric!r} (got {sorted(values)})")
        self.stale += 1
        if values[metric] > self.best_value:
            self.best_value, self.stale = values[metric], 0
            if self.trainer.keep_best:
                self.best = deepcopy(model.state_dict())
            self.history.best_epoch = self.epoch
        return values

    def restore_best(self) -> None:
        if self.best is not None:
            self.objective.model.load_state_dict(self.best)

    def key(self) -> dict[str, Any]:
        """What makes the continuation of a run the same run."""
        trainer = self.trainer
        names = ("batch_size", "lr", "weight_decay", "base_weight", "num_negatives", "seed", "metric")
        return {name: getattr(trainer, name) for name in names} | {
            "max_epochs": trainer.max_epochs,
            "model": repr(self.objective.model),
            "loss": repr(self.objective.loss),
            "distillations": [repr(m) for m in self.objective.methods],
            "weights": self.objective.weights,
            "num_edges": self.loader.edge_index.size(1),
        }

    def save(self, path: Path) -> None:
        state = {
            "key": self.key(),
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

    def load(self) -> None:
        assert self.trainer.checkpoint is not None
        state = load_checkpoint(self.trainer.checkpoint, self.key())
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best, self.best_value = state["best"], state["best_value"]
        self.epoch, self.stale = state["epoch"], state["stale"]
        self.history = History(state["rows"])
        self.history.best_epoch = state["best_epoch"]


def check_users(data: HeteroData) -> None:
    """Raise ``ValueError`` if a user has no edge to train on."""
    edge_index, num_users, _ = interactions(data)
    degree = torch.bincount(edge_index[0], minlength=num_users)
    if int(degree.min()) == 0:
        lonely = (degree == 0).nonzero().squeeze(1)
        raise ValueError(
            f"{len(lonely)} users of 'data' have no training edge, the first is "
            f"{int(lonely[0])}: remove them (pyg_kd.transforms.KCore(1)) or split so that each keeps one"
        )
