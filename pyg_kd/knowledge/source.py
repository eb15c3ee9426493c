"""Whose knowledge a graph carries: never that of two teachers under the name of one."""

from __future__ import annotations

from torch_geometric.data import HeteroData

from pyg_kd.knowledge.requirements import KNOWLEDGE
from pyg_kd.typing import ITEM, USER

#: What a teacher leaves on nodes and graph, and what several leave there.
OF_SEVERAL = ("teacher_trajectory", "teacher_observed")
OF_A_TEACHER = tuple(name for name in KNOWLEDGE if name not in OF_SEVERAL)
SOURCE = {OF_A_TEACHER: "teacher_fingerprint", OF_SEVERAL: "trajectory_fingerprints"}


def name_source(graph: HeteroData, fingerprint: str, teacher: str | None) -> None:
    """Write down of which edges and which teacher knowledge is; what is of others goes.

    Args:
        graph: A shallow copy of the graph.
        fingerprint: That of its edges.
        teacher: The teacher's fingerprint; ``None`` leaves what an earlier one said.
    """
    other_edges = getattr(graph, "graph_fingerprint", fingerprint) != fingerprint
    other_teacher = teacher not in (None, getattr(graph, "teacher_fingerprint", None))
    for names, source in SOURCE.items():
        if other_edges or (other_teacher and names is OF_A_TEACHER):
            for store in (graph[USER], graph[ITEM]):
                for name in names:
                    store.pop(name, None)
            if source in graph:
                del graph[source]
    graph.graph_fingerprint = fingerprint
    if teacher is not None:
        graph.teacher_fingerprint = teacher
