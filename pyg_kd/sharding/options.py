"""The options of the trainer of sharded tables, checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from pyg_kd.checks import require_at_least, require_choice, require_count, require_positive
from pyg_kd.loader.interaction_loader import UNITS, Unit
from pyg_kd.training.losses import BASE_LOSSES, resolve_loss
from pyg_kd.training.options import MAX_SEED
from pyg_kd.training.validation import parse_metric

COUNTS = ("max_epochs", "batch_size", "num_negatives", "evaluate_every")


@dataclass(frozen=True, kw_only=True)
class ShardedOptions:
    """What the :class:`~pyg_kd.sharding.ShardedTrainer` was given; it describes each of them.

    Raises:
        TypeError: If an option is of another type.
        ValueError: If an option is out of range.
    """

    max_epochs: int
    batch_size: int
    batch_by: Unit
    lr: float
    method_lr: float
    loss: str | nn.Module
    base_weight: float
    num_negatives: int
    seed: int
    metric: str
    evaluate_every: int
    patience: int | None
    restore_best: bool
    checkpoint_dir: str | Path | None
    progress: bool

    def __post_init__(self) -> None:
        require_count(**{name: getattr(self, name) for name in COUNTS})
        if self.patience is not None:
            require_count(patience=self.patience)
        require_choice(UNITS, batch_by=self.batch_by)
        require_positive(lr=self.lr, method_lr=self.method_lr)
        require_at_least(0, base_weight=self.base_weight)
        require_at_least(-MAX_SEED, seed=self.seed)
        if not isinstance(self.loss, nn.Module):
            require_choice(tuple(BASE_LOSSES), loss=self.loss)
        parse_metric(self.metric)

    @property
    def base_loss(self) -> nn.Module:
        """The base loss itself."""
        loss = resolve_loss(self.loss)
        assert loss is not None  # a sharded model has no objective of its own
        return loss
