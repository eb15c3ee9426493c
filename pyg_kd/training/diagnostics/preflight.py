"""Before training: is the teacher better than what costs nothing?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.alignment import aligned
from pyg_kd.checks import require_count
from pyg_kd.knowledge.confidence import trusted_lists
from pyg_kd.knowledge.extraction import check_teacher
from pyg_kd.knowledge.popularity import popular_unseen
from pyg_kd.knowledge.requirements import graph_fingerprint
from pyg_kd.metrics.agreement import overlap_at_k
from pyg_kd.metrics.ranking_metrics import hit_matrix, parse_metric, ranking_metrics
from pyg_kd.metrics.ranking_task import Task, ranking_task
from pyg_kd.models.base import Recommender
from pyg_kd.models.inference import best_unseen
from pyg_kd.progress import Progress
from pyg_kd.training.teachers import FACTORISATIONS, factorisation
from pyg_kd.typing import USER

POPULARITY = "popularity"

#: A list that overlaps so far with the most popular items hardly depends on its user.
POPULAR = 0.8


@dataclass(frozen=True)
class Opponent:
    """What the teacher is compared with.

    Args:
        name: Its name.
        value: Its validation metric.
        difference: The teacher's minus this one's.
        interval: The 95 % interval of the paired differences of users.
        verdict: ``"beaten"``, ``"not beaten"``, or ``"open"`` where the interval holds zero.
    """

    name: str
    value: float
    difference: float
    interval: tuple[float, float] | None
    verdict: str


@dataclass(frozen=True)
class TeacherVerdict:
    """What :func:`diagnose_teacher` found; ``print`` shows it as a table.

    Args:
        metric: The validation metric.
        value: The teacher's.
        users: Users with validation targets.
        opponents: What it was compared with.
        popular: The mean overlap of its lists with each user's most popular unseen items.
        notes: What to know before distilling, a sentence each.
    """

    metric: str
    value: float
    users: int
    opponents: tuple[Opponent, ...]
    popular: float
    notes: tuple[str, ...]

    @property
    def teaches(self) -> bool:
        """Whether it has something to teach: nothing it was compared with is as good."""
        return all(opponent.verdict == "beaten" for opponent in self.opponents)

    def to_dict(self) -> dict[str, Any]:
        """The verdict as plain values."""
        return {**asdict(self), "teaches": self.teaches}

    def __str__(self) -> str:
        lines = [["model", self.metric, "teacher's lead", "95 %", "verdict"]]
        lines.append(["teacher", f"{self.value:.4f}", "", "", ""])
        for one in self.opponents:
            ends = "-" if one.interval is None else "..".join(f"{e:+.4f}" for e in one.interval)
            lines.append(
                [one.name, f"{one.value:.4f}", f"{one.difference:+.4f}", ends, one.verdict]
            )
        return "\n".join([aligned(lines), *self.notes])


def diagnose_teacher(
    teacher: Recommender | HeteroData,
    data: HeteroData,
    val_data: HeteroData,
    *,
    dim: int = 20,
    metric: str = "recall@20",
    students: Mapping[str, Recommender] | None = None,
    seed: int = 0,
    progress: bool = False,
    trusted: bool = False,
) -> TeacherVerdict:
    r"""Compare a teacher with what costs next to nothing, before anything is distilled.

    It is compared, user by user, with the most popular unseen items; with factorisations of the
    student's width by alternating least squares in three settings, of which the best counts; and
    with students that were trained alone, if there are some. A teacher that does not beat these
    has nothing to teach: a wide model can be worse than a narrow one whose settings fit the data.
    An opponent counts as beaten where the 95 % interval of the paired difference is above zero.

    Args:
        teacher: A trained model, or a graph that carries its lists.
        data: The training graph.
        val_data: Targets in ``edge_label_index``. Do not give test targets: what follows from the
            verdict is a choice.
        dim: Width of the student.
        metric: The metric, like ``"ndcg@10"``.
        students: Students trained without a teacher, by name.
        seed: Of the factorisations.
        progress: Show a progress bar.
        trusted: Accept models that were fitted on another graph, although they may have seen the
            targets.

    Raises:
        TypeError: If the teacher is neither a model nor a graph with lists.
        ValueError: If a model was fitted on another graph, lists are those of another graph or
            shorter than the metric's, or an option is out of range.

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> from pyg_kd.models import MF
        >>> from pyg_kd.transforms import UserSplit
        >>> data = SyntheticInteractions(num_users=150, num_items=80, num_edges=2_500)[0]
        >>> train, val, test = UserSplit(seed=0)(data)
        >>> untrained = diagnose_teacher(MF(train, dim=64), train, val, dim=8)
        >>> untrained.teaches
        False
        >>> print(untrained.notes[0])
        The teacher doesn't beat popularity, factorisation of width 8: there is nothing to distil.
    """
    require_count(dim=dim)
    name, k = parse_metric(metric)
    task = ranking_task(data, val_data, "val_data")
    if k > task.num_items:
        raise ValueError(f"'metric' is {metric!r}, but there are {task.num_items} items")
    for source in (teacher, *(students or {}).values()):
        _check_source(source, data, trusted)
    own = _lists(teacher, data, task.users, k)
    popular = popular_unseen(data, task.users, k)
    taught = _values(own, task, name, k)
    values = {POPULARITY: _values(popular, task, name, k)}
    values[f"factorisation of width {dim}"] = _factorised(data, task, dim, name, k, seed, progress)
    for label, student in (students or {}).items():
        values[label] = _values(_lists(student, data, task.users, k), task, name, k)
    opponents = tuple(_opponent(label, taught, other) for label, other in values.items())
    like_popular = float(overlap_at_k(own, popular, k).mean())
    return TeacherVerdict(
        metric, float(taught.mean()), len(task.users), opponents, like_popular,
        _notes(opponents, like_popular),
    )  # fmt: skip


def _check_source(source: Recommender | HeteroData, data: HeteroData, trusted: bool) -> None:
    """Raise where a model, or the teacher of lists, may have seen targets."""
    if isinstance(source, Recommender):
        check_teacher(source, data, trusted)
    elif isinstance(source, HeteroData) and not trusted:
        told, found = getattr(source, "graph_fingerprint", None), graph_fingerprint(data)
        if told not in (None, found):
            raise ValueError(
                f"'teacher' lists items for another graph (fingerprint {told:.12}, 'data' has "
                f"{found:.12}): extract knowledge from 'data', or pass trusted=True if its teacher "
                "has not seen the targets"
            )


def _lists(source: Recommender | HeteroData, data: HeteroData, users: Tensor, k: int) -> Tensor:
    """The first ``k`` unseen items of some users, int64 ``[n, k]``."""
    if isinstance(source, Recommender):
        return best_unseen(source, data, k, users)[0]
    if not isinstance(source, HeteroData) or "teacher_items" not in source[USER]:
        raise TypeError(
            "'teacher' must be a Recommender, or a graph with 'teacher_items' "
            f"(got {type(source).__name__})"
        )
    lists = trusted_lists(source)[0]
    if lists.size(1) < k:
        raise ValueError(f"'teacher' must list {k} items a user (got {lists.size(1)})")
    return lists[users, :k].long()


def _values(lists: Tensor, task: Task, name: str, k: int) -> Tensor:
    """A metric of every user with targets, float64 ``[n]``."""
    hits = hit_matrix(task.users, lists, task.targets, task.num_items)
    degree = task.targets.degree[task.users]
    return ranking_metrics(hits, degree, (k,), (name,))[f"{name}@{k}"]


def _factorised(
    data: HeteroData, task: Task, dim: int, name: str, k: int, seed: int, progress: bool
) -> Tensor:
    """The metric of the best factorisation of a width."""
    found = []
    with Progress("factorisations", len(FACTORISATIONS), unit="model", shown=progress) as bar:
        for setting in range(len(FACTORISATIONS)):
            model = factorisation(data, dim, setting, seed, False)
            found.append(_values(_lists(model, data, task.users, k), task, name, k))
            bar.update()
    return max(found, key=lambda values: float(values.mean()))


def _opponent(name: str, teacher: Tensor, other: Tensor) -> Opponent:
    difference = (teacher - other).cpu().numpy()
    lead, interval = float(difference.mean()), None
    if len(difference) > 1:
        from scipy.stats import t

        half = float(t.ppf(0.975, len(difference) - 1) * difference.std(ddof=1))
        half /= len(difference) ** 0.5
        interval = (lead - half, lead + half)
    low, high = interval or (lead, lead)
    verdict = "beaten" if low > 0 else "not beaten" if high <= 0 or lead <= 0 else "open"
    return Opponent(name, float(other.mean()), lead, interval, verdict)


def _notes(opponents: tuple[Opponent, ...], popular: float) -> tuple[str, ...]:
    lost = [one.name for one in opponents if one.verdict == "not beaten"]
    unsure = [one.name for one in opponents if one.verdict == "open"]
    notes = []
    if lost:
        notes.append(
            f"The teacher doesn't beat {', '.join(lost)}: there is nothing to distil. Tune it, or "
            "take another model."
            if POPULARITY not in lost
            else f"The teacher doesn't beat {', '.join(lost)}: there is nothing to distil."
        )
    if unsure:
        notes.append(
            f"Whether it beats {', '.join(unsure)} is open: the users with validation targets are "
            "too few to tell."
        )
    if popular > POPULAR:
        notes.append(
            f"Its lists share {100 * popular:.0f} % of their items with the most popular ones: it "
            "teaches popularity."
        )
    if not notes:
        notes.append("The teacher beats all of them: it has something to teach.")
    return tuple(notes)
