"""The Trainer's options, checked, as a run reads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from reprlib import repr as shortened
from typing import Any, Literal

import torch
from lightning_fabric.accelerators import ACCELERATOR_REGISTRY
from lightning_fabric.strategies import STRATEGY_REGISTRY
from torch import nn
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_at_least, require_choice, require_count, require_positive
from pyg_kd.functional.neighbor_sampling import check_fan_outs
from pyg_kd.loader.interaction_loader import UNITS, Unit
from pyg_kd.models.base import Recommender
from pyg_kd.training.losses import resolve_loss
from pyg_kd.training.schedule import SCHEDULES, Schedule
from pyg_kd.training.validation import parse_metric

#: ``evaluator(model, data, val_data)`` returns metrics by name.
Evaluator = Callable[[Recommender, HeteroData, HeteroData], dict[str, float]]

#: ``callback(epoch, model, data)`` looks at the model after an epoch.
Callback = Callable[[int, Recommender, HeteroData], object]

LossName = Literal["bpr", "sampled_softmax", "own"]

#: Seeds of epochs are multiples of this one, and have to stay within 64 bits.
MAX_SEED = 2**42

#: Those of Lightning Fabric, whose registries know accelerators and strategies alone.
PRECISIONS = (
    "32-true", "16-mixed", "bf16-mixed", "16-true", "bf16-true", "64-true",
    "transformer-engine", "transformer-engine-float16",
    "32", "16", "bf16", "64",
)  # fmt: skip

COUNTS = (
    "max_epochs",
    "batch_size",
    "batches_per_step",
    "num_negatives",
    "evaluate_every",
    "devices",
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the :class:`~pyg_kd.training.Trainer` was given; it describes each of them.

    Raises:
        TypeError: If an option is of another type.
        ValueError: If an option is out of range, or CUDA is asked for where there is none.
    """

    max_epochs: int
    batch_size: int
    batch_by: Unit
    batches_per_step: int
    num_neighbors: Sequence[int] | None
    lr: float
    schedule: Schedule
    warmup: float
    final_lr: float
    average: float | None
    weight_decay: float
    sparse: bool | None
    loss: LossName | nn.Module | None
    base_weight: float
    num_negatives: int
    seed: int
    metric: str
    evaluate_every: int
    patience: int | None
    restore_best: bool
    evaluator: Evaluator | None
    checkpoint_dir: str | Path | None
    accelerator: str
    devices: int
    strategy: str
    precision: Any
    progress: bool

    def __post_init__(self) -> None:
        require_count(**{name: getattr(self, name) for name in COUNTS})
        if self.patience is not None:
            require_count(patience=self.patience)
        if self.num_neighbors is not None:
            check_fan_outs(self.num_neighbors)
        if not isinstance(self.seed, Integral):
            raise TypeError(f"'seed' must be an integer (got {self.seed!r})")
        if abs(self.seed) > MAX_SEED:
            raise ValueError(f"'seed' must lie in -2**42..2**42 (got {self.seed})")
        require_choice(UNITS, batch_by=self.batch_by)
        require_positive(lr=self.lr)
        require_choice(SCHEDULES, schedule=self.schedule)
        require_at_least(0, warmup=self.warmup, final_lr=self.final_lr)
        if max(self.warmup, self.final_lr) > 1:
            raise ValueError(
                "'warmup' and 'final_lr' are shares, 1 at most "
                f"(got {self.warmup} and {self.final_lr})"
            )
        if self.average is not None:
            require_positive(average=self.average)
        require_at_least(0, weight_decay=self.weight_decay, base_weight=self.base_weight)
        if self.sparse is not None and not isinstance(self.sparse, bool):
            raise TypeError(f"'sparse' must be True, False or None (got {self.sparse!r})")
        self._check_names_of_fabric()
        if self.accelerator in ("cuda", "gpu") and not torch.cuda.is_available():
            raise ValueError(
                f"'accelerator' is {self.accelerator!r}, but PyTorch finds no CUDA device"
            )
        if self.loss is not None:
            resolve_loss(self.loss)
        if not isinstance(self.metric, str):
            raise TypeError(f"'metric' must be text like 'recall@20' (got {self.metric!r})")
        if self.evaluator is None:
            parse_metric(self.metric)
        elif not callable(self.evaluator):
            raise TypeError(f"'evaluator' must be callable (got {self.evaluator!r})")

    def _check_names_of_fabric(self) -> None:
        # Fabric itself, which would refuse them, is made as a run starts. It takes objects, too.
        known = {
            "accelerator": ("auto", "gpu", *sorted(ACCELERATOR_REGISTRY.available_accelerators())),
            "strategy": ("auto", *STRATEGY_REGISTRY.available_strategies()),
            "precision": PRECISIONS,
        }
        for name, names in known.items():
            value = getattr(self, name)
            if isinstance(value, str):
                value = value.lower() if name == "strategy" else value
                require_choice(names, **{name: value})

    @property
    def checkpoint(self) -> Path | None:
        """The file in ``checkpoint_dir``."""
        return None if self.checkpoint_dir is None else Path(self.checkpoint_dir) / "last.pt"


def plain_numbers(values: object) -> dict[str, float]:
    """The metrics that an evaluator returned as numbers that can be saved."""
    try:
        return {name: float(value) for name, value in values.items()}  # type: ignore[attr-defined]
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"'evaluator' must return a dictionary of numbers (got {shortened(values)})"
        ) from error


def plain(value: object) -> object:
    """A number of NumPy as one of Python, which a checkpoint can hold; else the value itself."""
    if isinstance(value, Real) and not isinstance(value, bool):
        return int(value) if isinstance(value, Integral) else float(value)
    return value
