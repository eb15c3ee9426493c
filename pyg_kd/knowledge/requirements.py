"""Fingerprints that tell where knowledge comes from, and checks of what methods need."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from operator import itemgetter

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from pyg_kd.edge_types import interaction_type
from pyg_kd.graph import Interactions, interactions, tensors_of
from pyg_kd.knowledge.values import PLACES, ROWS, check_value
from pyg_kd.transforms.attributes import of_targets
from pyg_kd.transforms.relations import keys
from pyg_kd.typing import ITEM, USER

#: Entries hashed at once.
PART = 2**15


def graph_fingerprint(data: HeteroData) -> str:
    r"""SHA-256 of the numbers of nodes and the set of edges of a user-item graph.

    The order of the edges and repeated edges do not matter.

    Example:
        >>> from pyg_kd.datasets import from_interactions
        >>> data = from_interactions([[0, 1, 1], [0, 0, 1]])
        >>> graph_fingerprint(data)[:12]
        '275159f70a44'
    """
    return interactions(data).cached("fingerprint", _edge_digest)


def _edge_digest(edges: Interactions) -> str:
    items = edges.by_user()
    return _digest(
        f"{edges.num_users} {edges.num_items}", [items.row * edges.num_items + items.col]
    )


def model_fingerprint(model: nn.Module) -> str:
    """SHA-256 of the class, the structure, the parameters and the persistent buffers of a model.

    The structure is the options that change what the same tensors compute, such as the number of
    layers of LightGCN. The graph that a model was fitted on is not included.
    """
    # Told by an attribute: methods import this module, and must not import models.
    recommenders = {p: m for p, m in model.named_modules() if hasattr(m, "fitted_on")}
    extra = {f"{path}._extra_state".removeprefix(".") for path in recommenders}
    state = sorted((name, x) for name, x in model.state_dict().items() if name not in extra)
    text = f"{type(model).__name__} {[(name, list(value.shape)) for name, value in state]}"
    structure = [
        (path, name, getattr(module, name))
        for path, module in recommenders.items()
        for name in getattr(module, "structure", ())
    ]
    return _digest(f"{text} {structure}" if structure else text, [value for _, value in state])


def source_fingerprint(teacher: nn.Module, data: HeteroData) -> str:
    """SHA-256 of a teacher and of whatever it may read of a graph beside the interactions.

    Models of this package read interactions alone, and theirs is that of
    :func:`model_fingerprint`. Others may read features, attributes of interactions, and other
    types of nodes and edges, all of which are included, in any order of the interactions.
    """
    found = model_fingerprint(teacher)
    if type(teacher).__module__.partition(".")[0] == __name__.partition(".")[0]:
        return found
    read = sorted(_inputs(data), key=itemgetter(0))
    text = f"{found} {[(name, str(x.dtype), list(x.shape)) for name, x in read]}"
    return _digest(text, [x for _, x in read]) if read else found


def _inputs(data: HeteroData) -> Iterator[tuple[str, Tensor]]:
    """Tensors of a graph by name, without interactions, targets, ids and knowledge."""
    kind, order = interaction_type(data), None
    for store, name, value in tensors_of(data):
        own = store._key == kind
        edges = own and name == "edge_index"
        if edges or name in CARRIED or name == "raw_id" or of_targets(name):
            continue
        if own and store.is_edge_attr(name):
            if order is None:  # by user, then by item
                order = keys(data, interactions(data).edge_index).argsort(stable=True)
            value = value.index_select(data.__cat_dim__(name, value, store), order)
        yield f"{store._key} {name}", value


def _digest(text: str, tensors: list[Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for tensor in tensors:
        hash_tensor(digest, tensor)
    return digest.hexdigest()


def hash_tensor(digest: hashlib._Hash, tensor: Tensor) -> None:
    """Add the bytes of a tensor on any device to a digest."""
    # In parts, so that a large tensor on another device is never copied as a whole.
    for part in tensor.detach().flatten().split(PART):
        digest.update(part.cpu().contiguous().view(torch.uint8).numpy().data)


#: Knowledge by name: the node types that carry it, and the call that creates it.
KNOWLEDGE = {
    "teacher_x": ((USER, ITEM), "extract_knowledge(teacher, data)"),
    "teacher_items": ((USER,), "extract_knowledge(teacher, data, num_items=500)"),
    "teacher_users": ((ITEM,), "extract_knowledge(teacher, data, num_users=500)"),
    "teacher_trajectory": ((USER,), "attach_trajectories(data, trajectories)"),
    "teacher_observed": ((USER,), "attach_trajectories(data, trajectories)"),
}

#: Knowledge of several teachers, knowledge of a single one, and what a graph says of each source.
OF_SEVERAL = ("teacher_trajectory", "teacher_observed")
OF_A_TEACHER = (*(name for name in KNOWLEDGE if name not in OF_SEVERAL), *PLACES, ROWS)
SOURCE = {
    OF_A_TEACHER: ("teacher_fingerprint", "teacher_inner_product"),
    OF_SEVERAL: ("trajectory_fingerprints",),
}

#: What a graph carries for methods, which only counts where a method takes it.
CARRIED = {*OF_A_TEACHER, *OF_SEVERAL}

#: What lists rank, and the call that creates longer ones.
RANKED = {
    "teacher_items": ("items a user", "extract_knowledge with num_items"),
    "teacher_users": ("users an item", "extract_knowledge with num_users"),
    "teacher_trajectory": ("items a user", "TrajectoryRecorder with num_items"),
}


def check_knowledge(graph: HeteroData, method: str, needs: tuple[str, ...]) -> None:
    r"""Check that a graph carries the knowledge a method needs, before training starts.

    Args:
        graph: A training graph.
        method: Name of the method, for messages.
        needs: Names from :data:`KNOWLEDGE`.

    Raises:
        ValueError: If knowledge is missing, has the wrong number of rows, was extracted from
            another graph, or is invalid: ids out of range or repeated, padding that is not at the
            end, no id at all, or vectors that are not finite or of two widths.
    """
    for need in needs:
        node_types, call = KNOWLEDGE[need]
        for node_type in node_types:
            store = graph[node_type]
            nowhere = need == "teacher_x" and not any(need in graph[n] for n in node_types)
            if nowhere and "teacher_fingerprint" in graph:
                raise ValueError(
                    f"{method} needs 'graph[{node_type!r}].teacher_x', but this teacher provides "
                    "no embeddings: choose a method that needs only 'teacher_items'"
                )
            if need not in store:
                raise ValueError(
                    f"{method} needs 'graph[{node_type!r}].{need}', which is missing: "
                    f"call graph = {call}"
                )
    check_values(graph, needs)
    for need in RANKED.keys() & set(needs):
        node_type = KNOWLEDGE[need][0][0]
        if not bool((graph[node_type][need][..., 0] >= 0).any()):
            raise ValueError(
                f"{method} needs 'graph[{node_type!r}].{need}', but all of its lists are empty: "
                "rank for at least one node"
            )
    if not needs:
        return
    expected = getattr(graph, "graph_fingerprint", None)
    found = graph_fingerprint(graph)
    if expected != found:
        raise ValueError(
            f"'graph' carries knowledge of another graph (its fingerprint is {found:.12}, that "
            f"of the knowledge {expected!s:.12}): extract knowledge from this graph"
        )


def check_values(graph: HeteroData, needs: tuple[str, ...]) -> None:
    r"""Check the values of knowledge: each tensor once, and again after an in-place change.

    A repeated call costs microseconds, so methods call this before every batch.

    Args:
        graph: A graph with the knowledge.
        needs: Names from :data:`KNOWLEDGE`.

    Raises:
        ValueError: If an entry is missing, or a value is invalid for this graph.
    """
    if "teacher_items" in needs and ROWS in graph[USER]:
        check_value(graph, USER, ROWS, graph[USER][ROWS])
    for need in needs:
        for node_type in KNOWLEDGE[need][0]:
            check_value(graph, node_type, need, graph[node_type].get(need))
    if "teacher_items" in needs:
        check_places(graph[USER], graph)
    if "teacher_x" in needs:
        widths = [graph[node_type].teacher_x.size(1) for node_type in (USER, ITEM)]
        if widths[0] != widths[1]:
            raise ValueError(
                "'teacher_x' of users and of items must have the same width (got "
                f"{widths[0]} and {widths[1]})"
            )
    shapes = [graph[USER][n].shape[1:3] for n in OF_SEVERAL if n in needs]
    if len(set(shapes)) > 1:
        raise ValueError(
            "'teacher_trajectory' and 'teacher_observed' must have the same numbers of teachers "
            f"and states (got {[list(shape) for shape in shapes]})"
        )


def check_places(store: Mapping[str, Tensor], graph: HeteroData, label: str | None = None) -> None:
    r"""Check what lists carry beside their items, such as the confidence in each place.

    Args:
        store: ``graph["user"]``, or what shall become of it.
        graph: The graph, for its numbers of nodes.
        label: Where ``store`` comes from, for messages.

    Raises:
        ValueError: If there are no lists, the shape is another one, or a value is invalid.
    """
    for name in PLACES:
        if name not in store:
            continue
        text = f"'graph['user'].{name}'" if label is None else f"{label}: 'user.{name}'"
        check_value(graph, USER, name, store[name], text)
        found = list(store[name].shape)
        expected = list(store["teacher_items"].shape) if "teacher_items" in store else None
        if found != expected:
            raise ValueError(f"{text} must have the shape of the lists, {expected} (got {found})")


def check_width(graph: HeteroData, method: str, need: str, width: int, option: str) -> None:
    r"""Check that lists are as long as an option of a method requires.

    Args:
        graph: A graph with the lists.
        method: Name of the method, for messages.
        need: Name of the lists, from :data:`KNOWLEDGE`.
        width: The minimum length.
        option: The option that requires it.

    Raises:
        ValueError: If the lists are shorter.
    """
    ranked, call = RANKED[need]
    found = graph[KNOWLEDGE[need][0][0]][need].size(-1)
    if found < width:
        raise ValueError(
            f"{method}: {option!r} is {width}, but the graph ranks {found} {ranked}: "
            f"call {call} >= {width}"
        )


def knowledge_key(graph: HeteroData) -> tuple[str, ...]:
    """The fingerprints of the graph and of the teachers whose knowledge it carries."""
    names = ("graph_fingerprint", "teacher_fingerprint")
    own = (str(getattr(graph, name, "")) for name in names)
    return (*own, *getattr(graph, "trajectory_fingerprints", ()))


def name_source(graph: HeteroData, fingerprint: str, teacher: str | None) -> None:
    """Record the source of a graph's knowledge, and drop knowledge from any other source.

    Args:
        graph: A shallow copy of the graph.
        fingerprint: The fingerprint of the graph.
        teacher: The fingerprint of the teacher; ``None`` keeps the recorded one.
    """
    other_edges = getattr(graph, "graph_fingerprint", fingerprint) != fingerprint
    other_teacher = teacher not in (None, getattr(graph, "teacher_fingerprint", None))
    for names, sources in SOURCE.items():
        if other_edges or (other_teacher and names is OF_A_TEACHER):
            for store in (graph[USER], graph[ITEM]):
                for name in names:
                    store.pop(name, None)
            for source in sources:
                if source in graph:
                    del graph[source]
    graph.graph_fingerprint = fingerprint
    if teacher is not None:
        graph.teacher_fingerprint = teacher
