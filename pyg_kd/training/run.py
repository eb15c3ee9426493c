"""One call of ``fit``: its state, its epochs, and what is saved of it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from copy import copy, deepcopy
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import Precision
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.loader import InteractionLoader
from pyg_kd.models.inference import inference
from pyg_kd.progress import Progress
from pyg_kd.training.averaging import WeightAverage
from pyg_kd.training.checkpoint import (
    check_fits,
    check_tensors,
    load_checkpoint,
    save_checkpoint,
)
from pyg_kd.training.divergence import TrainingDiverged, broken_nodes, non_finite, not_finite
from pyg_kd.training.epoch_seed import seed_epoch
from pyg_kd.training.exchange import copy_from_first, sum_gradients
from pyg_kd.training.history import History
from pyg_kd.training.last_layer import last_layer
from pyg_kd.training.objective import Objective, float64_of
from pyg_kd.training.observer import Observer
from pyg_kd.training.options import Callback, Options, plain_numbers
from pyg_kd.training.resume_key import resume_key
from pyg_kd.training.row_adam import RowAdam
from pyg_kd.training.rows import most_rows, row_tables
from pyg_kd.training.sampled import SampledNeighbors
from pyg_kd.training.schedule import rate_factor, warmup_steps
from pyg_kd.training.validation import Validation
from pyg_kd.typing import Batch


class Run:
    """The state of one call of :meth:`~pyg_kd.training.Trainer.fit`."""

    def __init__(
        self,
        options: Options,
        fabric: Fabric,
        objective: Objective,
        data: HeteroData,
        val_data: HeteroData | None,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self.options, self.fabric, self.objective = options, fabric, objective
        self.callbacks = callbacks
        self.data = copy(data).to(fabric.device)
        self.val_data = None if val_data is None else copy(val_data).to(fabric.device)
        self.validation: Validation | None = None
        if self.val_data is not None and options.evaluator is None:
            self.validation = Validation(self.data, self.val_data, options.metric)
        self.loader = InteractionLoader(
            self.data,
            options.batch_size,
            by=options.batch_by,
            num_negatives=options.num_negatives,
            seed=options.seed,
        )
        objective.place = fabric.global_rank, fabric.world_size
        #: Whether gradients are summed over processes here, once a step.
        self.exchanges = fabric.world_size > 1 and isinstance(fabric.strategy, DDPStrategy)
        if options.batches_per_step > 1 and fabric.world_size > 1 and not self.exchanges:
            raise ValueError(
                f"'batches_per_step' must be 1 with strategy={options.strategy!r}, which exchanges "
                f"gradients after every batch (got {options.batches_per_step})"
            )
        if options.num_neighbors is not None:
            # Each process draws around its own share.
            seed = options.seed + 104_729 * fabric.global_rank
            objective.on_demand = SampledNeighbors(
                objective.model, self.data, options.num_neighbors, seed
            )
        else:
            objective.on_demand = last_layer(objective.model, self.data)
        self.steps = math.ceil(len(self.loader) / options.batches_per_step)
        objective.to(fabric.device)
        self.adam = RowAdam(
            objective.parameter_groups(),
            row_tables(objective, self.data, options, 1 if self.exchanges else fabric.world_size),
            lr=options.lr,
            weight_decay=options.weight_decay,
            most=most_rows(options),
        )
        self.module, self.optimizer = fabric.setup(objective, self.adam)
        #: Whether Fabric adds nothing to a step but the time of passing through it.
        self.bare = fabric.world_size == 1 and type(fabric.strategy.precision) is Precision
        if self.exchanges:  # whatever seed the weights were drawn with
            copy_from_first([*objective.parameters(), *objective.model.buffers()])
        self.average = WeightAverage(
            objective.model,
            options.average,
            self.steps,
            warmup_steps(options.warmup, options.max_epochs * self.steps),
        )
        self.history = History()
        self.best: dict[str, Tensor] | None = None
        self.best_value = -math.inf
        self.intact: dict[str, Any] | None = None
        self.epoch, self.stale, self.start = 0, 0, 0

    def train(self) -> None:
        """Run all epochs that are left."""
        options, batches, self.start = self.options, len(self.loader), self.epoch
        # Without distillations it may be a teacher, or a student alone.
        role = "student " if self.objective.methods else ""
        self.keep_intact()
        with Progress(
            f"{role}{type(self.objective.model).__name__}",
            options.max_epochs * batches,
            unit="batch",
            initial=self.epoch * batches,
            shown=options.progress and self.fabric.global_rank == 0,
        ) as progress:
            while self.epoch < options.max_epochs and not self.exhausted:
                row = self.train_epoch(progress)
                with self.average.applied():
                    if self.val_data is not None and (self.epoch + 1) % options.evaluate_every == 0:
                        row |= self.validate(self.val_data, taken=row)
                    measured = self.call_back(taken=row)
                self.history.rows.append(row | measured)
                self.epoch += 1
                self.keep_intact()
                if options.checkpoint is not None and self.fabric.global_rank == 0:
                    self.save(options.checkpoint)
                progress.note(**{k: v for k, v in row.items() if k != "epoch"})

    @property
    def exhausted(self) -> bool:
        """Whether validation has not improved for long enough."""
        return self.options.patience is not None and self.stale >= self.options.patience

    def train_epoch(self, progress: Progress) -> dict[str, float]:
        """Train for an epoch and return its row of the history."""
        start = time.perf_counter()
        self.objective.train()
        seed_epoch(self.options.seed, self.epoch)
        self.objective.on_epoch_start(self.data, self.epoch, self.options.max_epochs)
        self.loader.epoch = self.epoch
        device = self.fabric.device
        sums = torch.zeros(1 + len(self.objective.methods), dtype=float64_of(device), device=device)
        with self.adam.deferring(), self.objective.steady(self.data, in_place=self.bare):
            batches = iter(self.loader)
            for step in range(self.epoch * self.steps, (self.epoch + 1) * self.steps):
                self.set_rate(step)
                self.forget_gradients()
                for terms in self.differentiate(islice(batches, self.options.batches_per_step)):
                    sums += terms
                    progress.update()
                self.adam.advance() if self.bare else self.optimizer.step()
                self.average.update(step)
        seconds = time.perf_counter() - start
        sums = torch.as_tensor(self.fabric.all_reduce(sums, reduce_op="sum"))
        values = (sums / self.loader.num_visits).tolist()
        row = dict(zip(["loss", *self.objective.names], values, strict=True))
        self.check(row)
        return {"epoch": self.epoch, **row, "seconds": seconds}

    def differentiate(self, batches: Iterable[Batch]) -> Iterator[Tensor]:
        """Add up the gradients of the batches of a step; the terms of each."""
        with ExitStack() as stack:
            if self.exchanges:
                stack.enter_context(self.fabric.no_backward_sync(self.module))
            if self.options.batches_per_step > 1 and self.options.num_neighbors is None:
                with self.fabric.autocast():
                    stack.enter_context(self.objective.shared_representations(self.data))
            for batch in batches:
                module = self.objective if self.bare else self.module
                loss, terms = module(self.data, batch.user, batch.positive, batch.negative)
                # Other strategies average gradients over processes, and losses are sums.
                if self.bare:
                    loss.backward()
                else:
                    self.fabric.backward(loss if self.exchanges else loss * self.fabric.world_size)
                yield terms
        if self.exchanges:
            sum_gradients(self.objective.parameters())

    def forget_gradients(self) -> None:
        """What ``zero_grad`` does, without its hooks."""
        for group in self.adam.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def set_rate(self, step: int) -> None:
        """Set the learning rate of a step, which follows from its number alone."""
        options = self.options
        factor = rate_factor(
            step,
            options.max_epochs * self.steps,
            schedule=options.schedule,
            warmup=options.warmup,
            final_lr=options.final_lr,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = options.lr * factor

    def check(self, losses: dict[str, float]) -> None:
        """Raise ``TrainingDiverged`` if losses or representations are unusable."""
        lr, decay = f"'lr' (now {self.options.lr})", self.options.weight_decay
        symptom = not_finite(losses, self.epoch)
        if symptom is not None:
            self.diverge(symptom, f"try a smaller {lr} or smaller weights of the distillations")
        broken = broken_nodes(self.objective.model, self.data)
        if broken is not None:
            self.diverge(
                f"after epoch {self.epoch} the representations of {broken[0]!r} are {broken[1]}",
                f"try a smaller {lr} or 'weight_decay' (now {decay})",
            )

    def diverge(self, symptom: str, advice: str) -> NoReturn:
        """Go back to sound weights, and raise ``TrainingDiverged``."""
        weights, which = self.intact, f"those after epoch {self.epoch - 1}"
        if self.best is not None:
            weights, which = self.best, f"the best, of epoch {self.history.best_epoch}"
        elif self.epoch == 0:
            which = "those before training"
        assert weights is not None
        self.average.drop()
        self.objective.model.load_state_dict(weights)
        # Only in the first epoch can the cause be what was given.
        given = non_finite(self.data, weights) if self.epoch == self.start else []
        if given:
            advice = f"{' and '.join(given)} had NaN or infinite values before training"
        if not any(name in weights for name in given):
            advice += f". The model has finite weights again, {which}"
        error = TrainingDiverged(f"{symptom}: {advice}")
        error.history = self.history
        raise error

    def keep_intact(self) -> None:
        """Copy weights that passed the checks, unless better ones are kept."""
        self.intact = None
        if self.best is None:
            with self.average.applied():
                self.intact = deepcopy(self.objective.model.state_dict())

    def validate(self, val_data: HeteroData, taken: dict[str, float]) -> dict[str, float]:
        """Metrics of the model, whose weights are kept if they are the best so far."""
        options, model = self.options, self.objective.model
        with inference(model):
            if options.evaluator is not None:
                values = options.evaluator(model, self.data, val_data)
            else:
                assert self.validation is not None
                values = self.validation(model, self.data)
        # The first process decides, so that all agree.
        values = self.fabric.broadcast(plain_numbers(values))
        metric = options.metric
        if math.isnan(values.get(metric, math.nan)):
            raise ValueError(f"'evaluator' must return a number for {metric!r} (got {values})")
        if values.keys() & taken.keys():
            names = sorted(values.keys() & taken.keys())
            raise ValueError(f"'evaluator' must not return {names}, columns of every history")
        self.stale += 1
        if values[metric] > self.best_value:
            self.best_value, self.stale = values[metric], 0
            if options.restore_best:
                self.intact = None
                self.best = deepcopy(model.state_dict())
            self.history.best_epoch = self.epoch
        return values

    def weak_teacher(self) -> str | None:
        """A warning, if the student has reached the teacher that it learned from."""
        values = [row[self.options.metric] for row in self.history if self.options.metric in row]
        taught = any(method.needs for method in self.objective.distillations)
        if self.validation is None or not taught or not values or self.fabric.global_rank:
            return None
        student = max(values) if self.options.restore_best else values[-1]
        return self.validation.weak_teacher(self.data, student)

    def call_back(self, taken: dict[str, float]) -> dict[str, float]:
        """Run the callbacks of an epoch that has ended; what observers among them measured."""
        found: dict[str, float] = {}
        with inference(self.objective.model):
            for callback in self.callbacks:
                if not isinstance(callback, Observer):
                    callback(self.epoch, self.objective.model, self.data)
                    continue
                values = callback.observe(self.epoch, self.objective, self.data)
                if values.keys() & {*taken, *found}:
                    names = sorted(values.keys() & {*taken, *found})
                    raise ValueError(f"'callbacks' must not measure {names}, columns of others")
                found |= values
        return found

    def restore_best(self) -> None:
        """Give the model its best validated weights, or the average of the last."""
        self.average.settle()
        if self.best is not None:
            self.objective.model.load_state_dict(self.best)

    @cached_property
    def key(self) -> dict[str, Any]:
        """What a checkpoint must share with this run."""
        return resume_key(self.options, self.objective, self.data, self.val_data)

    def save(self, path: Path) -> None:
        """Write the state after an epoch."""
        state = {
            "key": self.key,
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.tensors,
            "best": self.best,
            "best_value": self.best_value,
            "best_epoch": self.history.best_epoch,
            "epoch": self.epoch,
            "stale": self.stale,
            "rows": self.history.rows,
        }
        save_checkpoint(state, path)

    def begin(self, path: Path, resume: bool) -> None:
        """Continue from the checkpoint, if there is one; without ``resume`` only check it.

        A checkpoint from another run is refused either way: it would be overwritten.
        """
        key = self.key  # as it is before the first epoch changes anything
        if path.exists():
            state = load_checkpoint(path, key)
            if resume:
                self.restore(state, path)

    def restore(self, state: dict[str, Any], path: Path) -> None:
        """Go back to a state that has the tensors of this run."""
        check_fits(state, self.objective, self.optimizer.param_groups, path)
        if state["average"]:
            check_tensors(state["average"], self.average.expected(), path)
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.load(state["average"])
        self.best, self.best_value = state["best"], state["best_value"]
        self.epoch, self.stale = state["epoch"], state["stale"]
        self.history = History(state["rows"])
        self.history.best_epoch = state["best_epoch"]
