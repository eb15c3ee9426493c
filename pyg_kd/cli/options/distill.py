"""The options of the command ``distill``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pyg_kd.cli.options import ModelName


@dataclass(frozen=True)
class Teacher:
    """The teacher

    Args:
        teacher: An ensemble of several that is chosen on the validation interactions; names out of
            kernel_ridge, gfcf, bspm, ease, slim, item_knn, user_knn, als and lightgcn for one of
            these, joined by +, or files with the lists of another model (CSV or Parquet, columns
            user and item, and rank, score and confidence if there are any); one model that is
            trained here, lightgcn, mf, ngcf, cml, neumf, multvae, itemae, gfcf or ease; or
            the folder of a run of train on the same data and split.
        teacher_dim: Width of the embeddings of one model; 64, and 128 from half a million
            interactions on.
        teacher_epochs: Epochs of one model at most.
        teacher_options: Further options of its class, and --teacher-options.start spectral for
            singular vectors as first embeddings.
        teacher_training: Further options of the trainer for it, such as
            --teacher-training.lr 0.01.
        teacher_bundle: Write OUT/teacher, which serve shows beside the student; of an ensemble,
            its best factorisation.
    """

    teacher: str = "ensemble"
    teacher_dim: int | None = None
    teacher_epochs: int | None = None
    teacher_options: dict[str, Any] | None = None
    teacher_training: dict[str, Any] | None = None
    teacher_bundle: bool = True


@dataclass(frozen=True)
class Knowledge:
    """What is distilled

    Args:
        methods: Classes of pyg_kd with weights, "SoftLabel=1.0,TopologyDistillation=1e-4", with
            options as "SoftLabel(own_weight=0.3)=1.0" or in YAML; "module:Class=1.0" is a class
            of your own, in the current folder too. Soft labels by default, and ranked lists where
            the catalogue is too large for them.
        num_items: Length of the teacher's lists; 500, and 100 from 200,000 users on (150 of an
            ensemble), but at most half of the catalogue.
    """

    methods: str | dict[str, Any] | list[Any] | None = None
    num_items: int | None = None


@dataclass(frozen=True)
class Student:
    """The student; what is not given is chosen by methods and size of the data

    Args:
        student: Its model; mf with soft labels alone, which say all that a graph could add, and
            lightgcn with other methods.
        dim: Width of its embeddings; 20 from an ensemble, or an eighth of the teacher's.
        student_options: Further options of its class.
        epochs: Epochs at most.
        lr: Learning rate of Adam.
        schedule: How it changes, constant or cosine.
        warmup: Share of the steps in which it rises.
        batch_size: Interactions in a batch, or users.
        batch_by: What batches are made of, interaction or user.
        weight_decay: L2 penalty.
        loss: The base loss, bpr, sampled_softmax or own; the model's choice by default.
        base_weight: Weight of the base loss; 0 beside soft labels.
        num_negatives: Negatives of each interaction.
        metric: What is validated.
        evaluate_every: Epochs from one validation to the next.
        patience: Validations without improvement after which training stops.
        baseline: Train the student alone, too, to compare with: with the same options, or, where
            they have no base loss, by the recipe of its model.
        baseline_epochs: Epochs at most of the student alone.
        baseline_training: Further options of the trainer for it.
    """

    student: ModelName | None = None
    dim: int | None = None
    student_options: dict[str, Any] | None = None
    epochs: int | None = None
    lr: float | None = None
    schedule: Literal["constant", "cosine"] | None = None
    warmup: float | None = None
    batch_size: int | None = None
    batch_by: Literal["interaction", "user"] | None = None
    weight_decay: float | None = None
    loss: Literal["bpr", "sampled_softmax", "own"] | None = None
    base_weight: float | None = None
    num_negatives: int | None = None
    metric: str = "recall@20"
    evaluate_every: int | None = None
    patience: int | None = 10
    baseline: bool = True
    baseline_epochs: int | None = None
    baseline_training: dict[str, Any] | None = None
