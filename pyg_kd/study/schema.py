"""What a configuration of a study may say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pyg_kd.study.binding import bound

ALONE = "student alone"


@dataclass(frozen=True)
class Dataset:
    """A data set and its split.

    Args:
        data: A class of :mod:`pyg_kd.datasets`.
        table: Instead of it a CSV, TSV, DAT or Parquet file.
        columns: Its columns ``user``, ``item`` and, if there is one, ``time``.
        options: Arguments of the class.
        merge: Put the published training and test interactions together again.
        transforms: Transforms before the split, like ``[{KCore: {k: 5}}]``.
        split: A transform of :mod:`pyg_kd.transforms` that splits, with its arguments, or
            ``published`` for a data set that comes split.
    """

    data: str | None = None
    table: str | None = None
    columns: dict[str, str | int] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    merge: bool = False
    transforms: list[str | dict[str, Any]] = field(default_factory=list)
    split: str | dict[str, Any] = "UserSplit"


@dataclass(frozen=True)
class Teacher:
    """A teacher: ``model``, ``ensemble``, ``trajectories`` or ``knowledge``.

    Args:
        model: A class of :mod:`pyg_kd.models`, trained here or of closed form, or
            ``AlternatingLeastSquares``, or ``module:Class`` of one's own.
        ensemble: ``auto``, or names of teachers of :func:`~pyg_kd.training.train_ensemble`.
        trajectories: Teachers of the study, by name, whose trajectories
            :class:`~pyg_kd.HetComp` learns from; their lists are fused as well.
        num_states: States of a trajectory, the final one included.
        knowledge: A file that :func:`~pyg_kd.knowledge.save_knowledge` wrote.
        dim: Width of the model.
        options: Arguments of the class.
        start: ``spectral`` for singular vectors as first embeddings.
        trainer: Arguments of :class:`~pyg_kd.training.Trainer`.
        one: Train it at the first seed alone, for the students of all seeds.
        num_items: Items that it lists for a user; 500 by default, at most the catalogue.
        num_users: Users that it lists for an item; 200 where a method needs them.
        search: What is searched, as in a row.
    """

    model: str | None = None
    ensemble: str | list[str] | None = None
    trajectories: list[str] = field(default_factory=list)
    num_states: int = 4
    knowledge: str | None = None
    dim: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    start: str | None = None
    trainer: dict[str, Any] = field(default_factory=dict)
    one: bool = False
    num_items: int | None = None
    num_users: int | None = None
    search: dict[str, Any] | list[dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Student:
    """The student of a world.

    Args:
        model: A class of :mod:`pyg_kd.models`, or ``module:Class`` of one's own.
        dim: Its width.
        options: Arguments of the class.
        start: ``spectral`` for singular vectors as first embeddings.
        trainer: Arguments of :class:`~pyg_kd.training.Trainer`.
    """

    model: str
    dim: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    start: str | None = None
    trainer: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Component:
    """A method in a row.

    Args:
        method: A class of :mod:`pyg_kd.distill`, or ``module:Class`` of one's own.
        weight: Its weight.
        options: Its arguments.
    """

    method: str
    weight: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """A row: what is added to the student of a world.

    Args:
        method: A class of :mod:`pyg_kd.distill`, or ``module:Class`` of one's own; nothing for a
            student alone.
        weight: Its weight.
        options: Its arguments.
        components: Several methods, instead of one.
        parts: Rows whose components are taken over, with the settings that were chosen.
        scale: Factor of all weights.
        like: A row whose chosen setting is taken over, instead of a search.
        compress: Distil as :func:`~pyg_kd.training.compress` does.
        teacher: Another teacher than that of the world.
        knowledge: A control in place of the teacher: ``shuffled``, ``popularity``, ``self`` or
            ``none`` (:func:`~pyg_kd.knowledge.control_knowledge`).
        student: Another class of the student, with none of its arguments.
        trainer: Arguments of the trainer, added to the student's.
        model: Arguments of the student's class, added to its own.
        dim: Another width of the student.
        start: Other first embeddings of the student.
        search: What is searched: lists of values by name, like ``{weight: [0.1, 1]}`` (all
            combinations are tried) or ``{weight: {low: 0.01, high: 1, log: true}}`` with Optuna;
            or a list of settings. Names are those of a row, with dots: ``trainer.lr``,
            ``options.temperature``, ``components.0.weight``.
    """

    method: str | None = None
    weight: float | None = None
    options: dict[str, Any] = field(default_factory=dict)
    components: list[Component] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    scale: float = 1.0
    like: str | None = None
    compress: bool = False
    teacher: str | None = None
    knowledge: str | None = None
    student: str | None = None
    trainer: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    dim: int | None = None
    start: str | None = None
    search: dict[str, Any] | list[dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class World:
    """A student's model and its teacher.

    Args:
        student: The student.
        teacher: Name of a teacher of the study.
        methods: What rows have instead in this world, such as another ``search``.
        rows: The rows that are run in it; all by default.
        datasets: The data sets that it is run on; all by default.
    """

    student: Student
    teacher: str
    methods: dict[str, dict[str, Any]] = field(default_factory=dict)
    rows: list[str] | None = None
    datasets: list[str] | None = None


@dataclass(frozen=True)
class Budget:
    """How much every row is tuned, the student alone included.

    Args:
        trials: Settings of a row; by default as many as the rows list, all equally many.
        extensions: How many more a row may try while its best value lies at an end of its grid.
        search: ``grid``, or ``optuna``.
    """

    trials: int | None = None
    extensions: int = 2
    search: str = "grid"


@dataclass(frozen=True)
class Test:
    """What is measured on the test targets, once.

    Args:
        k: Lengths of the lists.
        metrics: Names of the metrics.
        latency: Also time requests of one user.
    """

    k: list[int] = field(default_factory=lambda: [10, 20])
    metrics: list[str] = field(default_factory=lambda: ["recall", "ndcg"])
    latency: bool = False


@dataclass(frozen=True)
class Config:
    """A study. For an example see :mod:`pyg_kd.study.config`."""

    name: str
    metric: str
    datasets: dict[str, Dataset]
    teachers: dict[str, Teacher]
    worlds: dict[str, World]
    methods: dict[str, dict[str, Any]] = field(default_factory=dict)
    ablation: dict[str, Any] | None = None
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    baseline: str = ALONE
    against: list[str] | None = None
    budget: Budget = field(default_factory=Budget)
    test: Test = field(default_factory=Test)
    title: str | None = None
    note: str | None = None
    published: dict[str, Any] = field(default_factory=dict)
    results: str | None = None

    def rows(self, world: str) -> dict[str, Row]:
        """The rows of a world, by name."""
        of = self.worlds[world]
        names = list(self.methods) if of.rows is None else of.rows
        found = {}
        for name in names:
            given = {**self.methods[name], **of.methods.get(name, {})}
            found[name] = bound(Row, given, f"methods.{name}")
        return found
