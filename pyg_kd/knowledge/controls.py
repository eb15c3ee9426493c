"""Controls: teachers that know nothing of the user, so that help by the loss itself is seen."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_choice
from pyg_kd.knowledge.confidence import RANKING, whole_lists
from pyg_kd.knowledge.control_graph import carried, random_own, with_knowledge
from pyg_kd.knowledge.popularity_teacher import popularity_knowledge
from pyg_kd.knowledge.self_teacher import self_knowledge
from pyg_kd.knowledge.shuffling import shuffle_knowledge
from pyg_kd.knowledge.trajectory import Trajectory
from pyg_kd.models.base import Recommender
from pyg_kd.typing import USER

#: What may stand in for a teacher.
Control = Literal["shuffled", "popularity", "self", "none"]
CONTROLS: tuple[Control, ...] = get_args(Control)


class Learner(Protocol):
    """What a control asks of a method of distillation."""

    needs: tuple[str, ...]
    teacher_scores: bool


def control_knowledge(
    control: Control,
    graph: HeteroData,
    *,
    methods: Sequence[Learner] = (),
    seed: int = 0,
    model: Recommender | None = None,
    trajectory: Trajectory | None = None,
) -> HeteroData:
    r"""The knowledge of a control, for the methods that will learn from it.

    A method that helps as much with a control as with its teacher has not conveyed what the teacher
    knows of users:

    * ``"shuffled"``: another user's knowledge (:func:`shuffle_knowledge`). Items are permuted as
      well, unless a method takes inner products of ``teacher_x`` as the scores of lists.
    * ``"popularity"``: what is popular (:func:`popularity_knowledge`).
    * ``"self"``: what a student learnt alone (:func:`self_knowledge`).
    * ``"none"``: no teacher, but the user's own items (:func:`own_items_knowledge`).

    Args:
        control: The control.
        graph: A graph with the teacher's knowledge.
        methods: Methods of distillation. The result carries what they need; without methods,
            everything that ``graph`` carries.
        seed: Seed of what is drawn.
        model: The student trained alone, for ``"self"``.
        trajectory: Its trajectory, where the methods need one.

    Returns:
        The graph with other knowledge and other fingerprints; ``graph`` is left unchanged.

    Raises:
        ValueError: If there is no such control, the graph lacks knowledge, or a method can't learn
            from this control.

    Example:
        >>> from pyg_kd import SoftLabel
        >>> from pyg_kd.datasets import from_interactions
        >>> from pyg_kd.knowledge import read_lists
        >>> data = from_interactions([[0, 0, 1, 2, 2], [0, 1, 1, 1, 2]])
        >>> graph = read_lists({"user": [0, 1, 2], "item": [2, 0, 0]}, data)
        >>> control_knowledge("none", graph, methods=[SoftLabel()])
        Traceback (most recent call last):
        ValueError: control 'none' lists own items, which SoftLabel leaves out: use own='ignore'
    """
    require_choice(CONTROLS, control=control)
    needs = {need for method in methods for need in _needed(method, graph)} or None
    if control == "self":
        if model is None:
            raise ValueError("control 'self' needs 'model', a student trained alone (got None)")
        return self_knowledge(graph, model, trajectory=trajectory, needs=needs)
    if control == "popularity":
        return popularity_knowledge(graph, needs=needs)
    if control == "none":
        for method in methods:
            if getattr(method, "own", None) == "mask":
                raise ValueError(
                    f"control 'none' lists own items, which {type(method).__name__} leaves out: "
                    "use own='ignore'"
                )
        return own_items_knowledge(graph, seed=seed, needs=needs)
    scored = {"teacher_items", "teacher_x"} <= (needs or set())
    if scored and any(method.teacher_scores for method in methods):
        return shuffle_knowledge(graph, seed=seed, node_types=(USER,), needs=needs)
    return shuffle_knowledge(graph, seed=seed, needs=needs)


def _needed(method: Learner, graph: HeteroData) -> tuple[str, ...]:
    """What a method needs of this graph, as binding decides it."""
    if getattr(method, "listed_scores", False) and "teacher_scores" in graph[USER]:
        return tuple(n for n in method.needs if n != "teacher_x" or n in graph[USER])
    return method.needs


def own_items_knowledge(
    graph: HeteroData, *, seed: int = 0, needs: Collection[str] | None = None
) -> HeteroData:
    r"""Lists in the form of a teacher's that hold what users have interacted with.

    A control: the same loss without a teacher. Every user, and every item, lists its own edges in
    random order; ``teacher_scores`` are 0, so that a softmax over them is uniform. Lists are as
    long as those of ``graph``, and users without a list stay without one.

    It has a meaning for losses that raise listed items above others, those of the user included:
    ``SoftLabel(own="ignore", target="score")`` becomes the likelihood of the user's items. A loss
    that leaves own items out of its denominator would raise them without end.

    Args:
        graph: A graph with ``teacher_items`` or ``teacher_users``.
        seed: Seed of the order.
        needs: What the result carries of the knowledge; everything by default.

    Returns:
        The graph with other knowledge and other fingerprints; ``graph`` is left unchanged.

    Raises:
        ValueError: If there is no knowledge, or invalid knowledge, or some that nothing can stand
            for without a teacher: vectors and trajectories.

    Example:
        >>> from pyg_kd.datasets import from_interactions
        >>> from pyg_kd.knowledge import read_lists
        >>> data = from_interactions([[0, 0, 1, 2, 2], [0, 1, 1, 1, 2]])
        >>> graph = read_lists({"user": [0, 1], "item": [2, 0]}, data)
        >>> own_items_knowledge(graph)["user"].teacher_items[1].tolist()
        [1]
    """
    names = carried(graph, "own_items_knowledge", needs)
    graph = whole_lists(graph)
    if other := sorted(names - set(RANKING.values())):
        raise ValueError(f"nothing stands for {other} without a teacher: only lists have own items")
    generator = torch.Generator("cpu").manual_seed(seed)
    values: dict[tuple[str, str], Tensor] = {}
    for node_type, name in RANKING.items():
        if name in names:
            given = graph[node_type][name]
            own = random_own(graph, node_type, given.size(1), generator).to(given.dtype)
            values[node_type, name] = own.masked_fill(given[:, :1] < 0, -1)
    if "teacher_items" in names:
        lists = values[USER, "teacher_items"]
        values[USER, "teacher_scores"] = torch.zeros(lists.shape, device=lists.device)
    return with_knowledge(graph, names, values, f"own {seed}")
