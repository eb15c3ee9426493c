"""What may be done when a block has ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_count
from pyg_kd.graph import interactions
from pyg_kd.study.refresh.newcomers import folded
from pyg_kd.study.refresh.recipe import Recipe
from pyg_kd.study.refresh.tables import Tables, Teacher
from pyg_kd.transforms import TimeStep


@dataclass(frozen=True)
class Served:
    r"""What answers requests after a step.

    Args:
        student: The tables that are served.
        popularity: What ranks for users without a vector: interactions of each item, ``[I]``.
        trained: The tables as training left them, from which newcomers are folded in.
        trained_at: The step of that training.
        teacher: The last teacher, as it was trained.
        taught_at: The step of its training.
    """

    student: Tables
    popularity: Tensor
    trained: Tables
    trained_at: int
    teacher: Teacher
    taught_at: int


@dataclass
class Cost:
    """CPU seconds of the parts of a refresh, by their names."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        """Count what is done inside."""
        started = time.process_time()
        yield
        spent = time.process_time() - started
        self.seconds[part] = self.seconds.get(part, 0.0) + spent


@dataclass(frozen=True)
class Task:
    r"""A refresh to be done.

    Args:
        steps: The steps up to the one that has just ended.
        recipe: How teachers and students are made.
        seed: Seed of everything random.
        cost: Where the parts are counted.
    """

    steps: list[TimeStep]
    recipe: Recipe
    seed: int
    cost: Cost = field(default_factory=Cost)

    @property
    def number(self) -> int:
        """The number of the step."""
        return self.steps[-1].number

    @property
    def graph(self) -> HeteroData:
        """What is known."""
        return self.steps[-1].test

    def popularity(self) -> Tensor:
        """Interactions of each item, ``[I]``."""
        return interactions(self.graph).by_item().degree

    def fold_in(self, tables: Tables, since: int, part: str) -> Tables:
        """Bring tables of an earlier step up to date."""
        with self.cost.of(part):
            return folded(tables, self.steps[since].test, self.graph, seed=self.seed)

    def teach(self) -> Teacher:
        """A new teacher."""
        with self.cost.of("teacher"):
            return self.recipe.new_teacher(self.graph, self.seed)

    def distil(self, teacher: Teacher) -> Tables:
        """A new student, and vectors of those of whom the teacher knows nothing."""
        with self.cost.of("student"):
            student = self.recipe.new_student(self.graph, teacher, self.seed)
        return self.fold_in(student, self.number, "fold-in")

    def up_to_date(self, teacher: Teacher, since: int) -> Teacher:
        """A teacher that was trained at some step, as far as it can be brought up to date."""
        if isinstance(teacher, Tables) and since < self.number:
            return self.fold_in(teacher, since, "fold-in of the teacher")
        return teacher

    def from_scratch(self) -> Served:
        """A new teacher and a new student."""
        teacher = self.teach()
        student = self.distil(teacher)
        return Served(student, self.popularity(), student, self.number, teacher, self.number)


@dataclass(frozen=True)
class Never:
    """Nothing: the first student goes on, and newcomers get what was popular then."""

    name: ClassVar[str] = "never"

    def __call__(self, served: Served, task: Task) -> Served:
        """What is served next."""
        return served


@dataclass(frozen=True)
class FoldInOnly:
    """Users with new interactions, new users and new items are folded in; nothing is trained."""

    name: ClassVar[str] = "fold-in"

    def __call__(self, served: Served, task: Task) -> Served:
        """What is served next."""
        student = task.fold_in(served.trained, served.trained_at, "fold-in")
        return replace(served, student=student, popularity=task.popularity())


@dataclass(frozen=True)
class FineTune:
    r"""The student goes on from where it was, on users of the last block alone.

    The old teacher, brought up to date by fold-in, tells what to list. Vectors of other users
    stay, while those of items move.

    Args:
        replay: The share of other users who are learnt from too, drawn anew at every step.

    Raises:
        ValueError: If it is not in 0..1.
    """

    replay: float = 0.0
    base: ClassVar[str] = "fine-tune"

    def __post_init__(self) -> None:
        if not 0 <= self.replay <= 1:
            raise ValueError(f"'replay' must lie in 0..1 (got {self.replay})")

    @property
    def name(self) -> str:
        """What tables call it."""
        return self.base + (f", replay {self.replay:g}" if self.replay else "")

    def __call__(self, served: Served, task: Task) -> Served:
        """What is served next."""
        teacher = task.up_to_date(served.teacher, served.taught_at)
        student = task.fold_in(served.trained, served.trained_at, "fold-in")
        users = self._users(task)
        with task.cost.of("student"):
            student = task.recipe.new_student(
                task.graph, teacher, task.seed, users=users, start=student
            )
        return replace(
            served, student=student, trained=student, trained_at=task.number,
            popularity=task.popularity(),
        )  # fmt: skip

    def _users(self, task: Task) -> Tensor:
        """Users with an interaction in the last block, and some others, bool ``[U]``."""
        before, after = (interactions(step.test).by_user().degree for step in task.steps[-2:])
        active = after > before
        generator = torch.Generator("cpu").manual_seed(task.seed + task.number)
        draw = torch.rand(len(active), generator=generator, device="cpu").to(active.device)
        return active | (draw < self.replay)


@dataclass(frozen=True)
class DistilAgain:
    """A new student of the old teacher, who is brought up to date by fold-in."""

    name: ClassVar[str] = "distil again"

    def __call__(self, served: Served, task: Task) -> Served:
        """What is served next."""
        student = task.distil(task.up_to_date(served.teacher, served.taught_at))
        return replace(
            served, student=student, trained=student, trained_at=task.number,
            popularity=task.popularity(),
        )  # fmt: skip


@dataclass(frozen=True)
class NewTeacher:
    r"""A new teacher and a new student, and fold-in in between.

    Args:
        every: After how many blocks.

    Raises:
        ValueError: If it is not a positive integer.
    """

    every: int = 1
    base: ClassVar[str] = "new teacher"

    def __post_init__(self) -> None:
        require_count(every=self.every)

    @property
    def name(self) -> str:
        """What tables call it."""
        return self.base + (f", every {self.every}" if self.every > 1 else "")

    def __call__(self, served: Served, task: Task) -> Served:
        """What is served next."""
        if task.number % self.every:
            return FoldInOnly()(served, task)
        return task.from_scratch()


#: A policy has a ``name``, and is called with what is served and the task of a step.
Policy = Never | FoldInOnly | FineTune | DistilAgain | NewTeacher

#: Policies by name, from the cheapest to the dearest.
POLICIES: dict[str, Callable[[], Policy]] = {
    "never": Never,
    "fold-in": FoldInOnly,
    "fine-tune": FineTune,
    "distil again": DistilAgain,
    "new teacher": NewTeacher,
}
