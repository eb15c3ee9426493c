"""How teachers and students of a refresh are made."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_at_least, require_count, require_positive
from pyg_kd.distill.soft_label import SoftLabel
from pyg_kd.graph import Neighbors, interactions
from pyg_kd.knowledge import extract_knowledge, graph_fingerprint
from pyg_kd.knowledge.requirements import name_source
from pyg_kd.models import MF, Recommender
from pyg_kd.models.inference import inference
from pyg_kd.study.refresh.part import Part, part_of, spread
from pyg_kd.study.refresh.tables import Lists, Tables, Teacher
from pyg_kd.training.student_recipe import INIT_STD, student_labels, student_training
from pyg_kd.training.teachers import train_teacher
from pyg_kd.training.trainer import Trainer
from pyg_kd.typing import ITEM, USER, XDict

#: Items that are listed of a teacher without vectors: some of them will have been seen later.
KEPT = 500

#: Makes a teacher of a graph, from a seed.
TeacherOf = Callable[[HeteroData, int], Recommender]
#: Makes a student of a graph with knowledge, from a seed, and where to start or ``None``.
StudentOf = Callable[[HeteroData, int, XDict | None], Recommender]


@dataclass(frozen=True)
class NamedTeacher:
    r"""A teacher of :func:`~pyg_kd.compress` by its name.

    Args:
        name: ``"als"``, ``"kernel_ridge"``, ``"ease"``, ...
        place: Which setting of ``"als"``, from 0 to 2.
    """

    name: str = "als"
    place: int = 0

    def __call__(self, graph: HeteroData, seed: int) -> Recommender:
        """Train it."""
        return train_teacher(
            self.name, graph, None, metric="recall@20", place=self.place, seed=seed, progress=False
        )


@dataclass(frozen=True)
class SoftLabelStudent:
    r"""A matrix factorisation that learns from lists alone, as :func:`~pyg_kd.compress` does it.

    Nothing is chosen on validation targets: the learning rate falls to nearly nothing, and the
    last weights are kept.

    Args:
        dim: Width of the student.
        epochs: Epochs of a student from scratch; by default those of ``compress``.
        own_weight: What a user's own interactions count beside the teacher's list from scratch;
            0 hides them from the loss, as in ``compress``.
        tuning_epochs: Epochs of a student that goes on.
        tuning_lr: The learning rate from which it goes on.
        tuning_own_weight: What they count when it goes on, which is how it learns of new ones
            what the teacher does not know.

    Raises:
        ValueError: If an option is out of range.
    """

    dim: int = 20
    epochs: int | None = None
    own_weight: float = 0.0
    tuning_epochs: int = 30
    tuning_lr: float = 0.005
    tuning_own_weight: float = 1.0

    def __post_init__(self) -> None:
        require_count(dim=self.dim, tuning_epochs=self.tuning_epochs)
        require_positive(tuning_lr=self.tuning_lr)
        require_at_least(0, own_weight=self.own_weight, tuning_own_weight=self.tuning_own_weight)
        if self.epochs is not None:
            require_count(epochs=self.epochs)

    def __call__(self, graph: HeteroData, seed: int, start: XDict | None = None) -> Recommender:
        """Train it, from the beginning or from where it was."""
        _, num_users, num_items = interactions(graph)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = MF(graph, self.dim, init_std=INIT_STD)
        options = student_training(num_users, self.epochs)
        weight = self.own_weight if start is None else self.tuning_own_weight
        if start is not None:
            with torch.no_grad():
                model.user_embedding.copy_(start[USER])
                model.item_embedding.copy_(start[ITEM])
            options = student_training(num_users, self.tuning_epochs) | {"lr": self.tuning_lr}
        labels = student_labels(num_items, fused=False)
        if weight:
            labels |= {"own": "ignore", "own_weight": weight}
        trainer = Trainer(**options, seed=seed, progress=False)
        trainer.fit(model, graph, distillations=[(SoftLabel(**labels), 1.0)])
        return model


@dataclass(frozen=True)
class Recipe:
    r"""A teacher, a student, and how much one tells the other.

    Args:
        teacher: Called with a graph and a seed. One whose scores are inner products of vectors
            can be brought up to date by fold-in; of any other, lists are kept as they were.
        student: Called with a graph that carries the teacher's lists, a seed, and vectors to
            start from or ``None``. Its scores must be inner products.
        num_items: Items that a teacher lists for each user.

    Raises:
        ValueError: If ``num_items`` is not a positive integer.
    """

    teacher: TeacherOf = field(default_factory=NamedTeacher)
    student: StudentOf = field(default_factory=SoftLabelStudent)
    num_items: int = 150

    def __post_init__(self) -> None:
        require_count(num_items=self.num_items)

    def new_teacher(self, graph: HeteroData, seed: int) -> Teacher:
        """A teacher of what a graph knows, as tables or lists of all its nodes."""
        part, (_, num_users, num_items) = part_of(graph), interactions(graph)
        model = self.teacher(part.graph, seed)
        if model.inner_product and model.latent:
            with torch.no_grad(), inference(model):
                return spread(part, model(part.graph), num_users, num_items)
        told = extract_knowledge(model, part.graph, num_items=min(KEPT, len(part.item)))
        lists = told[USER].teacher_items.long()
        items = lists.new_full((num_users, lists.size(1)), -1)
        items[part.user] = torch.where(lists < 0, -1, part.item[lists.clamp(min=0)])
        has_item = torch.zeros(num_items, dtype=torch.bool, device=items.device)
        has_item[part.item] = True
        return Lists(items, has_item)

    def new_student(
        self,
        graph: HeteroData,
        teacher: Teacher,
        seed: int,
        *,
        users: Tensor | None = None,
        start: Tables | None = None,
    ) -> Tables:
        r"""A student of a teacher, as tables of all nodes.

        Args:
            graph: What is known.
            teacher: The teacher.
            seed: Of the training.
            users: Who is learnt from, bool ``[U]``; by default all whom the teacher knows.
            start: The student to go on with. Users and items that are not trained keep its
                vectors.

        Raises:
            ValueError: If the student's scores are no inner products.
        """
        who = teacher.has_user if users is None else teacher.has_user & users
        what = teacher.has_item & (interactions(graph).by_item().degree > 0)
        if start is not None:
            who, what = who & start.has_user, what & start.has_item
        part = part_of(graph, who, what)
        first = None
        if start is not None:
            first = {USER: start.user[part.user], ITEM: start.item[part.item]}
        told = self.knowledge(teacher, part, interactions(graph).by_user())
        model = self.student(told, seed, first)
        if not model.inner_product:
            raise ValueError(f"'student' must score by inner products (got {type(model).__name__})")
        with torch.no_grad(), inference(model):
            found = spread(part, model(part.graph), *interactions(graph)[1:])
        return found if start is None else _over(start, found)

    def knowledge(self, teacher: Teacher, part: Part, seen: Neighbors) -> HeteroData:
        """A part of a graph with the teacher's lists of what is unseen."""
        size = min(self.num_items, len(part.item))
        if isinstance(teacher, Tables):
            vectors = teacher.user[part.user], teacher.item[part.item]
            model = Recommender.from_embeddings(part.graph, *vectors)
            return extract_knowledge(model, part.graph, num_items=size)
        return _with_lists(teacher, part, seen, size)


def _with_lists(teacher: Lists, part: Part, seen: Neighbors, size: int) -> HeteroData:
    number = torch.full_like(teacher.has_item, -1, dtype=torch.long)
    number[part.item] = torch.arange(len(part.item), device=number.device)
    lists = teacher.unseen(part.user, seen)
    local = torch.where(lists < 0, -1, number[lists.clamp(min=0)])
    order = (local < 0).sort(dim=1, stable=True).indices
    graph = copy.copy(part.graph)
    name_source(graph, graph_fingerprint(graph), "lists")
    graph.teacher_inner_product = False
    graph[USER].teacher_items = local.gather(1, order)[:, :size].to(torch.int32)
    return graph


def _over(old: Tables, new: Tables) -> Tables:
    """The new vectors where there are some, else the old ones."""
    return Tables(
        torch.where(new.has_user[:, None], new.user, old.user),
        torch.where(new.has_item[:, None], new.item, old.item),
        new.has_user | old.has_user,
        new.has_item | old.has_item,
    )
