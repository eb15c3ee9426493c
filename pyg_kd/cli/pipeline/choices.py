"""What is distilled, from what, into what: the options with what was left open."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from pyg_kd.cli.options.distill import Knowledge, Student, Teacher
from pyg_kd.cli.pipeline import recipes
from pyg_kd.cli.pipeline.data import Graphs
from pyg_kd.cli.pipeline.fitting import check_training, metric_for
from pyg_kd.cli.pipeline.methods import Method, as_config, parse_methods
from pyg_kd.cli.pipeline.models import CLASSES
from pyg_kd.cli.pipeline.saved import SavedRun


class Choices(NamedTuple):
    """The options of a distillation, and the teacher's run if it has one."""

    teacher: Teacher
    knowledge: Knowledge
    student: Student
    saved: SavedRun | None

    @property
    def methods(self) -> list[Method]:
        """The methods."""
        return parse_methods(self.knowledge.methods or [])

    @classmethod
    def checked(cls, teacher: Teacher, knowledge: Knowledge, student: Student) -> Choices:
        r"""The options as they were given.

        Raises:
            ValueError: If a method, an option or the teacher is unknown.
        """
        if knowledge.methods is not None:
            parse_methods(knowledge.methods)
        for name in ("teacher_training", "baseline_training"):
            group = teacher if name.startswith("teacher") else student
            check_training(name, getattr(group, name) or {})
        path = Path(teacher.teacher).expanduser()
        if path.is_dir():
            teacher = replace(teacher, teacher=str(path.resolve()))
            return cls(teacher, knowledge, student, SavedRun.open(path.resolve()))
        if teacher.teacher not in CLASSES:
            raise ValueError(
                f"'teacher' must be a run or one of {', '.join(CLASSES)} (got {teacher.teacher!r})"
            )
        return cls(teacher, knowledge, student, None)

    def filled(self, graphs: Graphs) -> Choices:
        """The options with what was left open."""
        sizes, saved = graphs.sizes, self.saved
        teacher = self.teacher if saved is not None else _teacher(self.teacher, graphs)
        width = teacher.teacher_dim if saved is None else saved.dim
        asked = recipes.methods(sizes) if self.knowledge.methods is None else self.knowledge.methods
        methods = parse_methods(asked)
        width = recipes.teacher_dim(sizes["interactions"]) if width is None else width
        student = _student(self.student, [method.name for method in methods], width, graphs)
        methods = [_with_own_items(method, student) for method in methods]
        given = self.knowledge.num_items
        length = min(recipes.num_items(sizes) if given is None else given, sizes["items"])
        knowledge = replace(self.knowledge, methods=as_config(methods), num_items=length)
        return Choices(teacher, knowledge, student, saved)


def _teacher(teacher: Teacher, graphs: Graphs) -> Teacher:
    sizes = graphs.sizes
    recipe = recipes.training(teacher.teacher, sizes)
    epochs = recipe.pop("epochs", None)
    changed: dict[str, Any] = {"teacher_training": recipe | (teacher.teacher_training or {})}
    if teacher.teacher_epochs is None:
        changed["teacher_epochs"] = epochs
    if teacher.teacher_dim is None:
        changed["teacher_dim"] = recipes.teacher_dim(sizes["interactions"])
    return replace(teacher, **changed)


def _student(student: Student, methods: list[str], width: int, graphs: Graphs) -> Student:
    recipe = recipes.distillation(methods, student.student, graphs.sizes)
    changed: dict[str, Any] = {k: v for k, v in recipe.items() if getattr(student, k) is None}
    changed["metric"] = metric_for(student.metric, graphs.sizes["items"])
    if student.dim is None:
        changed["dim"] = recipes.student_dim(width)
    if "SoftLabel" in methods and student.student == "mf":
        # A loss over the whole catalogue learns from larger embeddings than BPR does.
        changed["student_options"] = {"init_std": 0.1} | (student.student_options or {})
    student = replace(student, **changed)
    return replace(student, **_baseline(student, graphs))


def _baseline(student: Student, graphs: Graphs) -> dict[str, Any]:
    """How the student alone is trained."""
    recipe = recipes.training(student.student, graphs.sizes)
    if student.base_weight != 0:  # by the options of the distilled student, which can train alone
        recipe = {name: getattr(student, name) for name in SHARED}
        recipe = {name: value for name, value in recipe.items() if value is not None}
    epochs = recipe.pop("epochs", None)
    if student.baseline_epochs is not None:
        epochs = student.baseline_epochs
    training = recipe | (student.baseline_training or {})
    return {"baseline_epochs": epochs, "baseline_training": training}


#: What the student alone shares with the distilled one, if it can.
SHARED = ("epochs", "lr", "batch_size", "batch_by", "weight_decay", "loss", "num_negatives")


def _with_own_items(method: Method, student: Student) -> Method:
    """Soft labels that raise a user's own items, where no base loss does."""
    if method.name != "SoftLabel" or student.base_weight != 0.0:
        return method
    return method._replace(options={"own_weight": 0.5} | method.options)
