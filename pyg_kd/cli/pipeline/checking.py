"""What the students of a run would be refused for, found before their teacher takes its time."""

from __future__ import annotations

import warnings

import torch

from pyg_kd.checks import require_count
from pyg_kd.cli.pipeline.choices import is_ensemble
from pyg_kd.cli.pipeline.fitting import make_trainer, trainer_options
from pyg_kd.cli.pipeline.models import CLASSES
from pyg_kd.cli.pipeline.stages import Stages
from pyg_kd.distill import Distillation
from pyg_kd.training.losses import resolve_loss
from pyg_kd.training.objective import Objective, check_terms


def check_students(stages: Stages, *, served: bool) -> None:
    r"""Check the options of the student, of the student alone, and of the methods.

    What methods find out only from the teacher's lists, they tell when they are bound to these.

    Args:
        stages: The stages of a run, its options filled in.
        served: Whether the student is to be served.

    Raises:
        TypeError: If the weight of a method is no number.
        ValueError: If an option is unknown, of another type or out of range, the student cannot be
            trained or served, or the teacher does not provide what a method needs.
    """
    student = stages.choices.student
    if is_ensemble(stages.choices.teacher.teacher) and stages.graphs.val is None:
        raise ValueError(
            "an ensemble weighs its teachers by validation interactions, and there are none: give "
            "--val, or more of them, or one model as the teacher"
        )
    kind = CLASSES[str(student.student)]
    if not kind.trainable:
        trained = ", ".join(name for name, found in CLASSES.items() if found.trainable)
        raise ValueError(
            f"'student' must be a model that is trained, one of {trained} (got "
            f"{student.student!r}, which is computed from the interactions)"
        )
    pairs = stages.pairs()
    _check_knowledge(stages, [method for method, _ in pairs])
    trainer = make_trainer(trainer_options(student), stages.machine)
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the training itself will warn
        model = stages.made("student", started=False)
        loss = resolve_loss(model.default_loss if trainer.loss is None else trainer.loss)
        Objective(model, loss, pairs, trainer.base_weight)
        check_terms(trainer.base_weight, pairs)
    if served and not model.inner_product:
        raise ValueError(
            f"'student' must score by inner products to be served, as mf and lightgcn do (got "
            f"{student.student!r}): --no-bundle only compares it"
        )
    if student.baseline:
        try:
            make_trainer(stages.alone_training, stages.machine)
        except ValueError as error:
            raise ValueError(f"the student alone: {error}") from error


def _check_knowledge(stages: Stages, methods: list[Distillation]) -> None:
    """Raise unless one teacher of its class can provide what the methods need."""
    teacher, saved = stages.choices.teacher.teacher, stages.choices.saved
    length = stages.choices.knowledge.num_items
    if saved is None and is_ensemble(teacher):
        require_count(num_items=length)
        return
    require_count(0, num_items=length)
    kind = CLASSES[teacher if saved is None else saved.options["model"].model]
    for method in methods:
        name = type(method).__name__
        # Listed scores come with an ensemble alone: of one teacher they are inner products.
        if not kind.latent and ("teacher_x" in method.needs or method.listed_scores):
            raise ValueError(
                f"'methods' has {name}, which needs teacher_x, but {kind.__name__} has no "
                "embeddings: take another teacher, such as --teacher lightgcn"
            )
        if not kind.inner_product and (method.teacher_scores or method.listed_scores):
            raise ValueError(
                f"'methods' has {name}, which takes inner products as the teacher's scores, but "
                f"{kind.__name__} scores otherwise: take another teacher, such as --teacher "
                "lightgcn"
            )
