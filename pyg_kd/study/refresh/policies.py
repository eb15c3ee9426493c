"""What may be done when a block has ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from pyg_kd.checks import require_count
from pyg_kd.graph import interactions
from pyg_kd.study.refresh.recipe import StudentOf
from pyg_kd.study.refresh.task import Served, Task


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
        users = self.learnt_from(task)
        # A teacher of lists knows nobody who came later, and maybe only they were active.
        if bool((users & teacher.has_user & student.has_user).any()):
            with task.cost.of("student"):
                student = task.recipe.new_student(
                    task.graph, teacher, task.seed, users=users, start=student
                )
        return replace(
            served, student=student, trained=student, trained_at=task.number,
            popularity=task.popularity(),
        )  # fmt: skip

    def learnt_from(self, task: Task) -> Tensor:
        """Users with an interaction in the last block, and some others, bool ``[U]``."""
        before, after = (interactions(step.test).by_user().degree for step in task.steps[-2:])
        active = after > before
        generator = torch.Generator("cpu").manual_seed(task.seed + task.number)
        draw = torch.rand(len(active), generator=generator, device="cpu").to(active.device)
        return active | (draw < self.replay)


@dataclass(frozen=True)
class DistilAgain:
    r"""A new student of the old teacher, who is brought up to date by fold-in.

    Args:
        student: Makes the student instead of the recipe, for example one that gives more weight to
            interactions of which the old teacher does not know.
        label: What tables call that.
    """

    student: StudentOf | None = None
    label: str = ""
    base: ClassVar[str] = "distil again"

    @property
    def name(self) -> str:
        """What tables call it."""
        return self.base + (f", {self.label}" if self.label else "")

    def __call__(self, served: Served, task: Task) -> Served:
        """What is served next."""
        if self.student is not None:
            task = replace(task, recipe=replace(task.recipe, student=self.student))
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
