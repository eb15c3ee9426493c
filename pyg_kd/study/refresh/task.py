"""A refresh to be done, from what is served and what is known."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import Tensor
from torch_geometric.data import HeteroData

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
