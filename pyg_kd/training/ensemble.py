"""Teachers trained, chosen and fused on validation targets."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Literal, NamedTuple

from torch_geometric.data import HeteroData

from pyg_kd.checks import require_count, require_positive
from pyg_kd.graph import interactions
from pyg_kd.knowledge import extract_knowledge, fuse
from pyg_kd.models import Recommender
from pyg_kd.training.compression_report import CompressionReport
from pyg_kd.training.teachers import Name, auto_teachers, train_teacher
from pyg_kd.training.validation import Validation, parse_metric

#: Items that a teacher lists: fewer where the lists of many users would not fit into memory.
LISTED, LISTED_TO_MANY, MANY_USERS = 500, 150, 200_000

Teachers = Literal["auto"] | Sequence[Name | Recommender | HeteroData]


class Budget:
    """A span of time, from now on.

    Args:
        minutes: Its length; without end by default.

    Raises:
        ValueError: If it is not positive.
    """

    def __init__(self, minutes: float | None = None) -> None:
        if minutes is not None:
            require_positive(budget=minutes)
        self.start, self.seconds = time.monotonic(), math.inf if minutes is None else 60 * minutes

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.seconds - (time.monotonic() - self.start)


class Ensemble(NamedTuple):
    """Several teachers as one.

    ``graph`` is the training graph with the fused ``teacher_items``, int32 ``[U, K]``, and
    ``teacher_weights``; ``models`` are the teachers, ``None`` for one that was given as lists;
    ``report`` tells what each reaches and took.
    """

    graph: HeteroData
    models: list[Recommender | None]
    report: CompressionReport


def train_ensemble(
    data: HeteroData,
    val_data: HeteroData | None,
    *,
    teachers: Teachers = "auto",
    weights: Sequence[float] | None = None,
    metric: str = "recall@20",
    num_items: int | None = None,
    budget: Budget | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Ensemble:
    r"""Train teachers, or take them, and fuse the lists of those that help.

    Args:
        data: The training graph.
        val_data: Targets in ``edge_label_index``, by which the teachers' weights are chosen.
        teachers: ``"auto"``: kernel ridge regression, three factorisations by alternating least
            squares, and up to 20,000 users their neighbours, from then on BSPM, or SLIM where
            that would take long. Or a list of names
            (``"kernel_ridge"``, ``"gfcf"``, ``"bspm"``, ``"ease"``, ``"slim"``,
            ``"item_knn"``, ``"user_knn"``, ``"als"``, ``"lightgcn"``), of models fitted on
            ``data``, or of graphs that carry their lists.
        weights: The weight of each teacher, instead of ``val_data``: to train once more on all
            interactions, with what was chosen before.
        metric: What teachers are chosen by.
        num_items: Items that each teacher lists for a user; 500, and 150 from 200,000 users on,
            but at most the catalogue.
        budget: Once half of it is gone, the rest of the teachers is left out.
        seed: Seed of everything random.
        progress: Show progress on the standard error stream.

    Raises:
        TypeError: If a teacher is neither a name, a model nor a graph.
        ValueError: If an option is out of range, a teacher is of another graph, or there are
            neither weights nor targets, or both.

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> from pyg_kd.transforms import UserSplit
        >>> data = SyntheticInteractions(num_users=200, num_items=100, num_edges=4_000)[0]
        >>> train, val, test = UserSplit(seed=0)(data)
        >>> ensemble = train_ensemble(train, val, teachers=["ease", "als"], progress=False)
        >>> ensemble.report.names, ensemble.graph["user"].teacher_items.shape
        (['ease', 'als', 'ensemble'], torch.Size([200, 100]))
    """
    parse_metric(metric)
    if num_items is not None:
        require_count(num_items=num_items)
    if (weights is None) == (val_data is None):
        given = "got neither" if weights is None else "not both"
        raise ValueError(f"an ensemble needs 'val_data' or 'weights' ({given})")
    chosen = _chosen(data, teachers)
    classroom = _Classroom(data, val_data, metric, num_items, seed, progress)
    budget = Budget() if budget is None else budget
    report = CompressionReport(metric)
    graphs: list[HeteroData] = []
    models: list[Recommender | None] = []
    for place, teacher in enumerate(chosen):
        if graphs and budget.left < budget.seconds / 2:
            report.skipped.append(name_of(teacher))
            continue
        started = time.monotonic()
        model, graph = classroom.taught(teacher, place)
        graphs.append(graph)
        models.append(model)
        report.weights.append((name_of(teacher), 0.0))
        size = None if model is None else num_bytes(model)
        report.add(name_of(teacher), classroom.value(graph), time.monotonic() - started, size)
    started = time.monotonic()
    if len(graphs) == 1 and "teacher_weights" in graphs[0]:
        graph = graphs[0]  # an ensemble already: fused again, its scores would be lost
    else:
        graph = fuse(
            graphs, weights, val_data=val_data, metric=metric, num_items=classroom.num_items
        )
    names = [name for name, _ in report.weights]
    chosen_weights = graph.teacher_weights if len(graphs) > 1 else (1.0,)
    report.weights = list(zip(names, chosen_weights, strict=True))
    sizes = [
        row.bytes for row, (_, weight) in zip(report.rows, report.weights, strict=True) if weight
    ]
    size = None if None in sizes else sum(filter(None, sizes))
    report.add("ensemble", classroom.value(graph), time.monotonic() - started, size)
    return Ensemble(graph, models, report)


def _chosen(data: HeteroData, teachers: Teachers) -> Sequence[Name | Recommender | HeteroData]:
    if isinstance(teachers, str) and teachers == "auto":
        return auto_teachers(data)
    if not isinstance(teachers, (list, tuple)) or not teachers:
        raise ValueError(f"'teachers' must be 'auto' or a list (got {teachers!r:.80})")
    return teachers


class _Classroom:
    """Where teachers are trained and listed."""

    def __init__(
        self,
        data: HeteroData,
        val_data: HeteroData | None,
        metric: str,
        num_items: int | None,
        seed: int,
        progress: bool,
    ) -> None:
        self.data, self.val_data, self.metric = data, val_data, metric
        self.seed, self.progress = seed, progress
        self.validation = None if val_data is None else Validation(data, val_data, metric)
        _, num_users, catalogue = interactions(data)
        usual = list_length(num_users, catalogue)
        self.num_items = usual if num_items is None else min(num_items, catalogue)

    def value(self, graph: HeteroData) -> float | None:
        """The validation metric of the lists that a graph carries."""
        return None if self.validation is None else self.validation.of_teacher(graph)

    def taught(
        self, teacher: Name | Recommender | HeteroData, place: int
    ) -> tuple[Recommender | None, HeteroData]:
        """A teacher, trained if need be, and the graph with its lists."""
        if isinstance(teacher, HeteroData):
            return None, teacher
        if isinstance(teacher, str):
            teacher = train_teacher(
                teacher,
                self.data,
                self.val_data,
                metric=self.metric,
                place=place,
                seed=self.seed,
                progress=self.progress,
            )
        if not isinstance(teacher, Recommender):
            raise TypeError(
                "a teacher must be a name, a model or a graph with its lists "
                f"(got {type(teacher).__name__})"
            )
        graph = extract_knowledge(
            teacher, self.data, num_items=self.num_items, progress=self.progress
        )
        return teacher, graph


def list_length(num_users: int, num_items: int) -> int:
    """How many items a teacher of an ensemble lists.

    Example:
        >>> list_length(1_000, 300), list_length(1_000_000, 50_000)
        (300, 150)
    """
    return min(LISTED if num_users < MANY_USERS else LISTED_TO_MANY, num_items)


def num_bytes(model: Recommender) -> int:
    """Bytes of what a model holds."""
    return sum(x.numel() * x.element_size() for x in [*model.parameters(), *model.buffers()])


def name_of(teacher: object) -> str:
    """What a teacher is called in a report."""
    if isinstance(teacher, str):
        return teacher
    return type(teacher).__name__ if isinstance(teacher, Recommender) else "given lists"
