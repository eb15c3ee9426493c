"""From interactions to a small student in one call: teachers, their ensemble, distillation."""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Callable
from inspect import signature

import torch
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_count
from pyg_kd.distill.soft_label import SoftLabel
from pyg_kd.graph import interactions
from pyg_kd.knowledge.popularity import popular_unseen
from pyg_kd.models import MF, Recommender
from pyg_kd.training.compression_report import CompressionReport
from pyg_kd.training.ensemble import Budget, Teachers, num_bytes, train_ensemble
from pyg_kd.training.student_recipe import INIT_STD, student_labels, student_training
from pyg_kd.training.teachers import factorisation
from pyg_kd.training.trainer import Trainer
from pyg_kd.training.validation import Validation, validate
from pyg_kd.typing import USER


def compress(
    data: HeteroData,
    val_data: HeteroData,
    *,
    dim: int = 20,
    model: Callable[..., Recommender] = MF,
    teachers: Teachers = "auto",
    metric: str = "recall@20",
    epochs: int | None = None,
    budget: float | None = None,
    seed: int = 0,
    progress: bool = True,
) -> tuple[Recommender, CompressionReport]:
    r"""Train teachers, choose and fuse them on validation targets, and distil a small student.

    The student learns by :class:`~pyg_kd.SoftLabel` from the ensemble's lists alone, weighted by
    the squares of their fused scores, with its own items masked, and a learning rate that warms up
    and falls on a cosine.

    Args:
        data: The training graph.
        val_data: Targets in ``edge_label_index``. Weights of the teachers, the best epoch and
            the warnings rest on them: measure on other targets.
        dim: Width of the student.
        model: The student's class, called as ``model(graph, dim)``: one whose score is an inner
            product.
        teachers: ``"auto"``: kernel ridge regression, three factorisations by alternating least
            squares, and up to 20,000 users their neighbours, from then on BSPM, or SLIM where
            that would take long. Or a list of names
            (``"kernel_ridge"``, ``"gfcf"``, ``"bspm"``, ``"ease"``, ``"slim"``,
            ``"item_knn"``, ``"user_knn"``, ``"als"``, ``"lightgcn"``), of models fitted on
            ``data``, or of graphs that carry their lists.
        metric: What teachers and epochs are chosen by.
        epochs: Epochs of the student; by default 190, 95 from 10,000 users on, and more
            where users are few.
        budget: Minutes that all of it may take, roughly: teachers are left out, and epochs of
            the student, but for the first teacher and a few epochs.
        seed: Seed of everything random.
        progress: Show progress on the standard error stream.

    Returns:
        The student, and a report of what was tried, what was chosen and what it took.

    Raises:
        TypeError: If a teacher is neither a name, a model nor a graph.
        ValueError: If an option is out of range, there is no ``val_data``, a teacher is of another
            graph, or the student's score is not an inner product.

    Warns:
        UserWarning: If the ensemble is no better than popularity, or it or the student no better
            than a factorisation of the student's width.

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> from pyg_kd.transforms import UserSplit
        >>> data = SyntheticInteractions(num_users=200, num_items=100, num_edges=4_000)[0]
        >>> train, val, test = UserSplit(seed=0)(data)
        >>> student, report = compress(train, val, dim=8, epochs=80, progress=False)
        >>> report.names[2:]
        ['kernel_ridge', 'als', 'als', 'als', 'user_knn', 'ensemble', 'student']
    """
    require_count(dim=dim)
    if epochs is not None:
        require_count(epochs=epochs)
    if val_data is None:
        raise ValueError("'val_data' must be a graph with targets to validate on (got None)")
    work = _Compression(data, val_data, metric, Budget(budget), seed, progress)
    graph = work.teach(teachers)
    student = work.learn(graph, dim, model, epochs)
    return student, work.report


class _Compression:
    """One call of :func:`compress`."""

    def __init__(
        self,
        data: HeteroData,
        val_data: HeteroData,
        metric: str,
        budget: Budget,
        seed: int,
        progress: bool,
    ) -> None:
        self.data, self.val_data, self.metric = data, val_data, metric
        self.seed, self.progress, self.budget = seed, progress, budget
        self.report = CompressionReport(metric)

    def teach(self, teachers: Teachers) -> HeteroData:
        """Train the teachers, or take them, and fuse the lists of those that help."""
        ensemble = train_ensemble(
            self.data,
            self.val_data,
            teachers=teachers,
            metric=self.metric,
            budget=self.budget,
            seed=self.seed,
            progress=self.progress,
        )
        self.report = ensemble.report
        self._add_popularity()
        return ensemble.graph

    def learn(
        self,
        graph: HeteroData,
        dim: int,
        model: Callable[..., Recommender],
        epochs: int | None,
    ) -> Recommender:
        """Distil the student, with a factorisation of its width for comparison."""
        self._add_factorisation(dim)
        self._warn_of_teachers(dim)
        if epochs is None:
            epochs = student_training(interactions(graph).num_users)["max_epochs"]
        if math.isfinite(self.budget.seconds):
            epochs = min(epochs, self._affordable(graph, dim, model))
        started = time.monotonic()
        student = self._fit(graph, dim, model, epochs)
        value = validate(student, self.data, self.val_data, self.metric)[self.metric]
        self.report.add("student", value, time.monotonic() - started, num_bytes(student))
        self.report.epochs = epochs
        self._warn_of_student(dim)
        return student

    def _fit(
        self, graph: HeteroData, dim: int, model: Callable[..., Recommender], epochs: int
    ) -> Recommender:
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            wide = {"init_std": INIT_STD} if "init_std" in signature(model).parameters else {}
            student = model(graph, dim, **wide)
        _, num_users, num_items = interactions(graph)
        trainer = Trainer(
            **student_training(num_users, epochs),
            metric=self.metric,
            seed=self.seed,
            progress=self.progress,
        )
        with warnings.catch_warnings():
            # That a student reaches its ensemble is what is hoped for here.
            warnings.filterwarnings("ignore", message="the teacher is no better than its student")
            self.report.history = trainer.fit(
                student,
                graph,
                val_data=self.val_data,
                distillations=[(SoftLabel(**student_labels(num_items)), 1.0)],
            )
        return student

    def _affordable(self, graph: HeteroData, dim: int, model: Callable[..., Recommender]) -> int:
        """How many epochs the rest of the budget allows, by one that is thrown away."""
        shown, self.progress = self.progress, False
        started = time.monotonic()
        self._fit(graph, dim, model, 1)
        self.progress = shown
        return max(int(self.budget.left / (time.monotonic() - started)), 5)

    def _add_popularity(self) -> None:
        started = time.monotonic()
        graph = copy.copy(self.data)
        users = torch.arange(interactions(graph).num_users, device=interactions(graph)[0].device)
        validation = Validation(self.data, self.val_data, self.metric)
        graph[USER].teacher_items = popular_unseen(graph, users, validation.k)
        value = validation.of_teacher(graph)
        self.report.add("popularity", value, time.monotonic() - started, place=0)

    def _add_factorisation(self, dim: int) -> None:
        started = time.monotonic()
        model = factorisation(self.data, dim, 0, self.seed, self.progress)
        value = validate(model, self.data, self.val_data, self.metric)[self.metric]
        self.report.add(_factorisation(dim), value, time.monotonic() - started, place=1)

    def _warn_of_teachers(self, dim: int) -> None:
        for other in ("popularity", _factorisation(dim)):
            least, found = self.report.value(other), self.report.value("ensemble")
            if least is not None and found is not None and found <= least:
                warnings.warn(
                    f"the ensemble is no better than {other} on 'val_data': {self.metric} is "
                    f"{found:.4f} and {least:.4f}. Give 'teachers' that suit the data",
                    stacklevel=4,
                )

    def _warn_of_student(self, dim: int) -> None:
        other = _factorisation(dim)
        least, taught, found = (self.report.value(n) for n in (other, "ensemble", "student"))
        if least is None or found is None or found > least:
            return
        if taught is not None and taught <= least:  # of which the teachers' warning tells
            return
        budget = ", or a larger 'budget'" if math.isfinite(self.budget.seconds) else ""
        warnings.warn(
            f"the student is no better than {other} on 'val_data': {self.metric} is {found:.4f} "
            f"and {least:.4f}. Give it more 'epochs' than {self.report.epochs}{budget}",
            stacklevel=4,
        )


def _factorisation(dim: int) -> str:
    return f"factorisation of width {dim}"
