"""The student as its own teacher."""

from __future__ import annotations

from collections.abc import Collection

from torch_geometric.data import HeteroData

from pyg_kd.knowledge.attachment import attach_trajectories
from pyg_kd.knowledge.confidence import RANKING, whole_lists
from pyg_kd.knowledge.control_graph import carried, listed_nodes, usual_scores, with_knowledge
from pyg_kd.knowledge.extraction import extract_knowledge
from pyg_kd.knowledge.requirements import OF_SEVERAL
from pyg_kd.knowledge.trajectory import Trajectory
from pyg_kd.models.base import Recommender
from pyg_kd.typing import ITEM, USER


def self_knowledge(
    graph: HeteroData,
    student: Recommender,
    *,
    trajectory: Trajectory | None = None,
    needs: Collection[str] | None = None,
) -> HeteroData:
    r"""Knowledge in the form of a teacher's from a student that was trained alone.

    A control: this teacher is no wider than the student and no better, as in `"Born Again Neural
    Networks" <https://arxiv.org/abs/1805.04770>`_. What a method gains from it is the effect of
    soft targets and of a second training.

    Lists are as long as those of ``graph``, for the same users. Vectors are as wide as the student.
    ``teacher_scores`` are at each place the mean of the teacher's over users. There is no
    ``teacher_confidence``.

    Args:
        graph: A graph with knowledge.
        student: A model trained on this graph without a teacher.
        trajectory: Its trajectory, where ``graph`` carries some.
        needs: What the result carries of the knowledge; everything by default.

    Returns:
        The graph with other knowledge; ``graph`` is left unchanged.

    Raises:
        TypeError: If ``student`` is not a recommender.
        ValueError: If there is no knowledge, or it is invalid, a trajectory or an embedding is
            needed that is not there, or the student was trained on another graph.

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> from pyg_kd.knowledge import extract_knowledge
        >>> from pyg_kd.models import MF
        >>> data = SyntheticInteractions(None, num_users=20, num_items=50, num_edges=80)[0]
        >>> graph = extract_knowledge(MF(data, dim=16), data, num_items=10)
        >>> self_knowledge(graph, MF(data, dim=4), needs=["teacher_x"])["user"].teacher_x.shape
        torch.Size([20, 4])
    """
    names = carried(graph, "self_knowledge", needs)
    graph = whole_lists(graph)
    _check_student(names, student, trajectory)
    lengths = {RANKING[t]: graph[t][RANKING[t]].size(1) for t in RANKING if RANKING[t] in names}
    extracted = extract_knowledge(
        student,
        graph,
        num_items=lengths.get("teacher_items", 0),
        num_users=lengths.get("teacher_users", 0),
        users=listed_nodes(graph, USER) if "teacher_items" in names else None,
    )
    found = whole_lists(extracted)
    values = {
        (node_type, name): found[node_type][name]
        for node_type in (USER, ITEM)
        for name in names - set(OF_SEVERAL)
        if name in found[node_type]
    }
    if "teacher_items" in names and "teacher_scores" in graph[USER]:
        values[USER, "teacher_scores"] = usual_scores(graph, values[USER, "teacher_items"])
    if trajectory is not None and names & set(OF_SEVERAL):
        attached = attach_trajectories(found, [trajectory])
        values |= {(USER, name): attached[USER][name] for name in names & set(OF_SEVERAL)}
    source = found.teacher_fingerprint if trajectory is None else trajectory.teacher_fingerprint
    result = with_knowledge(graph, names, values, f"self {source}")
    if names & set(OF_SEVERAL):
        result.trajectory_fingerprints = result.trajectory_fingerprints[:1]
    result.teacher_inner_product = student.inner_product and "teacher_x" in names
    return result


def _check_student(names: set[str], student: Recommender, trajectory: Trajectory | None) -> None:
    """Raise unless a student has what the knowledge of a graph is made of."""
    if "teacher_x" in names and not getattr(student, "latent", True):
        raise ValueError(
            f"'student' has no embeddings for 'teacher_x' (got {type(student).__name__}): leave "
            "it out by 'needs'"
        )
    if names & set(OF_SEVERAL) and trajectory is None:
        raise ValueError(
            "'graph' carries trajectories: give 'trajectory', that of the student, which a "
            "TrajectoryRecorder records (got None)"
        )
