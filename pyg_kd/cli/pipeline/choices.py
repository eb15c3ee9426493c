"""What is distilled, from what, into what: the options with what was left open."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from torch_geometric.data import HeteroData

from pyg_kd.cli.options.distill import Knowledge, Student, Teacher
from pyg_kd.cli.pipeline import recipes
from pyg_kd.cli.pipeline.data import Graphs
from pyg_kd.cli.pipeline.fitting import check_training, metric_for
from pyg_kd.cli.pipeline.methods import Method, as_config, parse_methods
from pyg_kd.cli.pipeline.models import CLASSES, ENSEMBLE, NAMES, is_run
from pyg_kd.cli.pipeline.saved import SavedRun
from pyg_kd.knowledge import read_lists
from pyg_kd.training.student_recipe import INIT_STD


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
        if is_run(teacher.teacher):
            path = Path(teacher.teacher).expanduser().resolve()
            teacher = replace(teacher, teacher=str(path))
            return cls(teacher, knowledge, student, SavedRun.open(path))
        if is_ensemble(teacher.teacher):
            _check_ensemble(teacher, knowledge)
            teacher = replace(teacher, teacher=_resolved(teacher.teacher))
        elif teacher.teacher not in CLASSES:
            raise ValueError(
                f"'teacher' must be a run, ensemble, names joined by + out of {', '.join(NAMES)}, "
                f"a file with lists, or one of {', '.join(CLASSES)} (got {teacher.teacher!r})"
            )
        return cls(teacher, knowledge, student, None)

    def filled(self, graphs: Graphs) -> Choices:
        """The options with what was left open."""
        sizes, saved, several = graphs.sizes, self.saved, is_ensemble(self.teacher.teacher)
        known = saved is not None or several
        teacher = self.teacher if known else _teacher(self.teacher, graphs)
        asked = self.knowledge.methods
        if asked is None:
            asked = recipes.methods(sizes) if not several else {"SoftLabel": 1.0}
        methods = parse_methods(asked)
        width = recipes.DIM
        if not several:
            found = teacher.teacher_dim if saved is None else saved.dim
            wide = recipes.teacher_dim(sizes["interactions"]) if found is None else found
            width = recipes.student_dim(wide)
        student = _student(self.student, [method.name for method in methods], width, graphs)
        methods = [_of_soft_labels(method, student, graphs, several) for method in methods]
        given = self.knowledge.num_items
        length = recipes.num_items(sizes, ensemble=several) if given is None else given
        length = min(length, sizes["items"])
        knowledge = replace(self.knowledge, methods=as_config(methods), num_items=length)
        return Choices(teacher, knowledge, student, saved)


def is_ensemble(teacher: str) -> bool:
    """Whether the words for a teacher mean what is known by its lists.

    Example:
        >>> is_ensemble("kernel_ridge+als"), is_ensemble("lightgcn")
        (True, False)
    """
    parts = teacher.split("+")
    several = teacher == ENSEMBLE or len(parts) > 1 or parts[0] in {*NAMES} - {*CLASSES}
    return several or bool(list_files(teacher))


def list_files(teacher: str) -> list[Path]:
    """The files with lists among the parts of a teacher."""
    paths = (Path(part).expanduser() for part in teacher.split("+"))
    return [path.resolve() for path in paths if path.is_file()]


def members(teacher: str, train: HeteroData) -> Any:
    """The teachers of an ensemble, as :func:`pyg_kd.training.train_ensemble` takes them."""
    if teacher == ENSEMBLE:
        return "auto"
    return [part if part in NAMES else read_lists(part, train) for part in teacher.split("+")]


def _resolved(teacher: str) -> str:
    """The words for an ensemble, with whole paths."""
    return "+".join(str(next(iter(list_files(part)), part)) for part in teacher.split("+"))


def _check_ensemble(teacher: Teacher, knowledge: Knowledge) -> None:
    if teacher.teacher != ENSEMBLE:
        for part in teacher.teacher.split("+"):
            if part not in NAMES and not list_files(part):
                raise ValueError(
                    f"'teacher' must join names out of {', '.join(NAMES)}, or files with lists, "
                    f"by + (got {part!r})"
                )
    for name in ("teacher_dim", "teacher_epochs", "teacher_options", "teacher_training"):
        if getattr(teacher, name) is not None:
            raise ValueError(
                f"'{name}' is an option of one teacher, such as --teacher lightgcn (the teacher is "
                f"{teacher.teacher!r})"
            )
    for method in parse_methods(knowledge.methods) if knowledge.methods is not None else []:
        needs = {*method.make().needs} - {"teacher_items"}
        if needs and method.name != "SoftLabel":  # which takes fused scores for inner products
            raise ValueError(
                f"'methods' has {method.name}, which needs {min(needs)}, but the lists of an "
                "ensemble are all there is of it: take one teacher, such as --teacher lightgcn"
            )


def _teacher(teacher: Teacher, graphs: Graphs) -> Teacher:
    sizes, given = graphs.sizes, teacher.teacher_training or {}
    options, recipe = recipes.teaching(
        teacher.teacher, graphs.train, sizes, teacher.teacher_options, given
    )
    epochs = recipe.pop("epochs", None)
    changed: dict[str, Any] = {"teacher_training": recipe | given, "teacher_options": options}
    if teacher.teacher_epochs is None:
        changed["teacher_epochs"] = epochs
    if teacher.teacher_dim is None:
        changed["teacher_dim"] = recipes.teacher_dim(sizes["interactions"])
    return replace(teacher, **changed)


def _student(student: Student, methods: list[str], width: int, graphs: Graphs) -> Student:
    if student.student is None:
        student = replace(student, student="mf" if methods == ["SoftLabel"] else "lightgcn")
    recipe = recipes.distillation(methods, str(student.student), graphs.sizes)
    if student.epochs is not None and "SoftLabel" in methods:
        recipe = recipes.soft_labels(graphs.sizes, student.epochs)
    changed: dict[str, Any] = {k: v for k, v in recipe.items() if getattr(student, k) is None}
    changed["metric"] = metric_for(student.metric, graphs.sizes["items"])
    if student.dim is None:
        changed["dim"] = width
    if "SoftLabel" in methods and student.student == "mf":
        # A loss over the whole catalogue learns from larger embeddings than BPR does.
        changed["student_options"] = {"init_std": INIT_STD} | (student.student_options or {})
    student = replace(student, **changed)
    return replace(student, **_baseline(student, graphs))


def _baseline(student: Student, graphs: Graphs) -> dict[str, Any]:
    """How the student alone is trained."""
    recipe = recipes.training(str(student.student), graphs.sizes)
    if student.base_weight != 0:  # by the options of the distilled student, which can train alone
        recipe = {name: getattr(student, name) for name in SHARED}
        recipe = {name: value for name, value in recipe.items() if value is not None}
    epochs = recipe.pop("epochs", None)
    if student.baseline_epochs is not None:
        epochs = student.baseline_epochs
    training = recipe | (student.baseline_training or {})
    return {"baseline_epochs": epochs, "baseline_training": training}


#: What the student alone shares with the distilled one, if it can.
SHARED = (
    "epochs",
    "lr",
    "schedule",
    "warmup",
    "batch_size",
    "batch_by",
    "weight_decay",
    "loss",
    "num_negatives",
)


def _of_soft_labels(method: Method, student: Student, graphs: Graphs, fused: bool) -> Method:
    """Soft labels with what suits them where there is no base loss."""
    if method.name != "SoftLabel" or student.base_weight != 0.0:
        return method
    return method._replace(options=recipes.labels(method.options, graphs.sizes, fused=fused))
