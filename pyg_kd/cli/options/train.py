"""The options of the command ``train``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pyg_kd.cli.options import ModelName


@dataclass(frozen=True)
class Model:
    """The model

    Args:
        model: What is trained.
        dim: Width of its embeddings; 64, and 128 from half a million interactions on.
        model_options: Further options of its class, such as --model-options.num_layers 3, and
            --model-options.start spectral for singular vectors as first embeddings.
    """

    model: ModelName = "lightgcn"
    dim: int | None = None
    model_options: dict[str, Any] | None = None


@dataclass(frozen=True)
class Training:
    """Training; what is not given is chosen by model and size of the data

    Args:
        epochs: Epochs at most.
        lr: Learning rate of Adam.
        schedule: How it changes, constant or cosine.
        warmup: Share of the steps in which it rises.
        batch_size: Interactions in a batch, or users.
        batch_by: What batches are made of, interaction or user.
        weight_decay: L2 penalty.
        loss: The base loss, bpr, sampled_softmax or own, or in YAML a class of pyg_kd.training
            with its options; the model's choice by default.
        num_negatives: Negatives of each interaction.
        metric: What is validated.
        evaluate_every: Epochs from one validation to the next.
        patience: Validations without improvement after which training stops.
    """

    epochs: int | None = None
    lr: float | None = None
    schedule: Literal["constant", "cosine"] | None = None
    warmup: float | None = None
    batch_size: int | None = None
    batch_by: Literal["interaction", "user"] | None = None
    weight_decay: float | None = None
    loss: Literal["bpr", "sampled_softmax", "own"] | dict[str, Any] | None = None
    num_negatives: int | None = None
    metric: str = "recall@20"
    evaluate_every: int | None = None
    patience: int | None = 10
