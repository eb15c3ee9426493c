"""One call of ``fit`` on sharded tables: its epochs, and what is saved of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch import distributed as dist
from torch_geometric.data import HeteroData

from pyg_kd.distill.base import Distillation
from pyg_kd.loader import InteractionLoader
from pyg_kd.progress import Progress
from pyg_kd.sharding.checkpoint import (
    MANIFEST,
    METHODS,
    Best,
    check_files,
    load_tables,
    read_manifest,
    save_tables,
    write_manifest,
)
from pyg_kd.sharding.method_state import (
    load_method_tensors,
    method_tensors,
    read_method_tensors,
)
from pyg_kd.sharding.model import ShardedMF
from pyg_kd.sharding.objective import ShardedObjective
from pyg_kd.sharding.options import ShardedOptions
from pyg_kd.sharding.row_files import write_rows
from pyg_kd.sharding.run_key import run_key
from pyg_kd.sharding.together import check_alike, together
from pyg_kd.sharding.validation import ShardedValidation
from pyg_kd.sharding.whole import WholeTables
from pyg_kd.training.divergence import TrainingDiverged, not_finite
from pyg_kd.training.epoch_seed import seed_epoch
from pyg_kd.training.history import History
from pyg_kd.typing import XDict


class ShardedRun:
    """The state of one call of :meth:`~pyg_kd.sharding.ShardedTrainer.fit`."""

    def __init__(
        self,
        options: ShardedOptions,
        model: ShardedMF,
        data: HeteroData,
        val_data: HeteroData | None,
        distillations: Sequence[tuple[Distillation, float]],
    ) -> None:
        self.options, self.model = options, model
        self.data, self.val_data = data, val_data
        self.objective = ShardedObjective(options, model, data, distillations)
        check_alike(self.key)
        self.validation: ShardedValidation | None = None
        if val_data is not None:
            self.validation = ShardedValidation(data, val_data, options.metric)
        self.loader = InteractionLoader(
            data,
            options.batch_size,
            by=options.batch_by,
            num_negatives=options.num_negatives,
            seed=options.seed,
        )
        self.history = History()
        self.best: Best | None = None
        self.best_value: float | None = None
        self.epoch, self.stale = 0, 0

    def train(self) -> None:
        """Run all epochs that are left."""
        options, batches = self.options, len(self.loader)
        role = "student " if self.objective.methods else ""
        with Progress(
            f"{role}{type(self.model).__name__}",
            options.max_epochs * batches,
            unit="batch",
            initial=self.epoch * batches,
            shown=options.progress and dist.get_rank() == 0,
        ) as progress:
            while self.epoch < options.max_epochs and not self.exhausted:
                row = self.train_epoch(progress)
                if (self.epoch + 1) % options.evaluate_every == 0:
                    row |= self.validate()
                self.history.rows.append(row)
                self.epoch += 1
                if self.folder is not None:
                    self.save(self.folder)
                progress.note(**{k: v for k, v in row.items() if k != "epoch"})

    @property
    def exhausted(self) -> bool:
        """Whether validation has not improved for long enough."""
        return self.options.patience is not None and self.stale >= self.options.patience

    def train_epoch(self, progress: Progress) -> dict[str, float]:
        """Train for an epoch and return its row of the history."""
        start = time.perf_counter()
        objective, device = self.objective, self.model.device
        objective.methods.train()
        self.model.set_rate(self.options.lr)
        seed_epoch(self.options.seed, self.epoch)
        x_dict = cast(XDict, WholeTables(self.model))
        for method in objective.distillations:
            method.on_epoch_start(self.epoch, self.options.max_epochs, x_dict)
        self.loader.epoch = self.epoch
        sums = torch.zeros(len(objective.owners), dtype=torch.double, device=device)
        for batch in self.loader:
            sums += objective.step(batch)
            progress.update()
        dist.all_reduce(sums)
        values = (sums / self.loader.num_visits).tolist()
        row = dict(zip(["loss", *objective.names], values, strict=True))
        self.check(row)
        return {"epoch": self.epoch, **row, "seconds": time.perf_counter() - start}

    def check(self, losses: dict[str, float]) -> None:
        """Raise ``TrainingDiverged`` if a loss is not finite."""
        symptom = not_finite(losses, self.epoch)
        if symptom is not None:
            error = TrainingDiverged(
                f"{symptom}: try a smaller 'lr' (now {self.options.lr}) or smaller weights of the "
                "distillations"
            )
            error.history = self.history
            raise error

    def validate(self) -> dict[str, float]:
        """The validation metric of the model, whose rows are kept if they are the best so far."""
        if self.validation is None:
            return {}
        values = self.validation(self.model)
        value, self.stale = values[self.options.metric], self.stale + 1
        if self.best_value is None or value > self.best_value:
            self.best_value, self.stale = value, 0
            self.history.best_epoch = self.epoch
            if self.options.restore_best:
                self.best = {
                    name: [held.tensor.clone() for held in self.model.local_rows(name)]
                    for name in self.model.sizes
                }
        return values

    def restore_best(self) -> None:
        """Give the model its best validated rows."""
        for name, kept in (self.best or {}).items():
            for held, rows in zip(self.model.local_rows(name), kept, strict=True):
                held.tensor.copy_(rows)

    @property
    def folder(self) -> Path | None:
        """Where checkpoints are."""
        given = self.options.checkpoint_dir
        return None if given is None else Path(given)

    @cached_property
    def key(self) -> dict[str, Any]:
        """What a checkpoint must share with this run."""
        objective = self.objective
        what = objective.owners, objective.weights
        return run_key(self.options, self.model, *what, self.data, self.val_data)

    def save(self, folder: Path) -> None:
        """Write the state after an epoch; every process writes its rows."""
        mark = f"{self.epoch:06d}"
        written = save_tables(folder, self.model, self.best, mark)
        tensors = method_tensors(self.objective.methods, self.objective.adam)
        if dist.get_rank() == 0 and tensors:
            written.append(write_rows(folder, METHODS, 0, 0, tensors, mark))
        fields = {
            "key": self.key,
            "epoch": self.epoch,
            "stale": self.stale,
            "best_value": self.best_value,
            "best_epoch": self.history.best_epoch,
            "has_best": self.best is not None,
            "rows": self.history.rows,
        }
        write_manifest(folder, fields, written)

    def begin(self, folder: Path, resume: bool) -> None:
        """Go on from the checkpoint, if there is one; without ``resume`` only check it.

        A checkpoint of another run is refused either way: it would be overwritten.
        """
        if not (folder / MANIFEST).exists():
            return
        found = together(lambda: read_manifest(folder, self.key, self.model.sizes))
        if resume:
            self.restore(folder, found)

    def restore(self, folder: Path, found: dict[str, Any]) -> None:
        """Go back to a state, after all processes have found their part of it sound."""
        files, kept = found["files"], (self.objective.methods, self.objective.adam)
        own = [folder / told.file for told in files if told.table == METHODS]

        def checked() -> dict[str, Tensor]:
            check_files(folder, files, self.model)
            return read_method_tensors(own, *kept)

        load_method_tensors(together(checked), *kept)
        self.best = together(lambda: load_tables(folder, files, self.model, found["has_best"]))
        self.best_value, self.epoch, self.stale = (
            found[name] for name in ("best_value", "epoch", "stale")
        )
        self.history = History(found["rows"])
        self.history.best_epoch = found["best_epoch"]
