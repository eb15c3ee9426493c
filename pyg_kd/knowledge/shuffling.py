"""The shuffled teacher: everybody is taught what belongs to somebody else."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_count
from pyg_kd.functional.sampling import row_blocks
from pyg_kd.graph import Interactions, interactions
from pyg_kd.knowledge.confidence import whole_lists
from pyg_kd.knowledge.control_graph import carried, random_own, with_knowledge
from pyg_kd.knowledge.values import LISTS, PLACES
from pyg_kd.typing import ITEM, USER

#: Entries of lists looked up at once.
ENTRIES = 2**18

BOTH = (USER, ITEM)


def shuffle_knowledge(
    graph: HeteroData,
    *,
    seed: int = 0,
    node_types: Sequence[str] = BOTH,
    degree_groups: int = 1,
    needs: Collection[str] | None = None,
) -> HeteroData:
    r"""Teach every user what belongs to another user, and every item what belongs to another item.

    A control: what a method gains from this teacher is no knowledge of the user. Lists are still
    the teacher's and so is what they have in common, such as popular items; the vectors are still
    the teacher's, and so is the shape of their space. Users, and items, are permuted on a single
    cycle drawn at random, so that none keeps its own.

    * ``teacher_items`` and what they carry go to another user, less what that user has seen: what
      comes after moves up. ``teacher_users`` go to another item in the same way.
    * ``teacher_x`` is permuted among users, and among items.
    * ``teacher_trajectory`` goes to another user, the same one for all teachers and states.
    * ``teacher_observed`` becomes the user's own items in random order: another user's would not
      be observed.

    Users without a list stay without one, as long as there are two users of each kind.

    Args:
        graph: A graph with knowledge.
        seed: Seed of the permutations.
        node_types: Whose knowledge is permuted. With ``("user",)`` inner products of ``teacher_x``
            remain the scores of the lists; if items are permuted they no longer are, and methods
            that take them together refuse the result.
        degree_groups: Permute within so many groups of users, or items, of similar degree, so that
            the active are taught what belongs to the active.
        needs: What the result carries of the knowledge; everything by default.

    Returns:
        The graph with other knowledge and other fingerprints; ``graph`` is left unchanged.

    Raises:
        ValueError: If there is no knowledge, or invalid knowledge, an option is out of range, there
            are fewer than two nodes to permute, or no list is left.

    Example:
        >>> from pyg_kd.datasets import SyntheticInteractions
        >>> from pyg_kd.knowledge import extract_knowledge
        >>> from pyg_kd.models import MF
        >>> data = SyntheticInteractions(None, num_users=20, num_items=50, num_edges=80)[0]
        >>> graph = extract_knowledge(MF(data, dim=4), data, num_items=10)
        >>> shuffled = shuffle_knowledge(graph, seed=1)
        >>> bool((shuffled["user"].teacher_x == graph["user"].teacher_x).all(1).any())
        False
    """
    require_count(degree_groups=degree_groups)
    if not node_types or set(node_types) - set(BOTH):
        raise ValueError(f"'node_types' must be some of {BOTH} (got {node_types!r})")
    names = carried(graph, "shuffle_knowledge", needs)
    graph = whole_lists(graph)
    generator = torch.Generator("cpu").manual_seed(seed)
    values: dict[tuple[str, str], Tensor] = {}
    for node_type in (t for t in BOTH if t in node_types):
        source = _source(graph, node_type, names, degree_groups, generator)
        values |= _moved(graph, node_type, names, source)
    if USER in node_types and "teacher_observed" in names:
        observed = graph[USER].teacher_observed
        own = random_own(graph, USER, observed.size(-1), generator).to(observed.dtype)
        values[USER, "teacher_observed"] = own[:, None, None].expand(observed.shape).contiguous()
    options = f"shuffled {seed} {[t for t in BOTH if t in node_types]} {degree_groups}"
    shuffled = with_knowledge(graph, names, values, options)
    if ITEM in node_types and {"teacher_items", "teacher_x"} <= names:
        shuffled.teacher_inner_product = False
    return shuffled


def cyclic_derangement(group: Tensor, generator: torch.Generator) -> Tensor:
    r"""A permutation without fixed points within groups: one random cycle through each.

    Args:
        group: The group of each element, integers ``[n]``, on the CPU.
        generator: What the cycles are drawn from.

    Returns:
        The element that takes the place of each, int64 ``[n]``. An element that is alone in its
        group keeps its place.

    Example:
        >>> cyclic_derangement(torch.tensor([0, 1, 0, 1]), torch.Generator())
        tensor([2, 3, 0, 1])
    """
    order = torch.randperm(len(group), generator=generator, device=group.device)
    order = order[group[order].sort(stable=True).indices]
    ordered = group[order]
    following = torch.arange(1, len(group) + 1, device=group.device)
    last = torch.ones_like(group, dtype=torch.bool)
    last[:-1] = ordered[1:] != ordered[:-1]
    first = torch.nn.functional.pad(last.nonzero()[:-1, 0] + 1, (1, 0))
    following[last] = first[: int(last.sum())]
    source = torch.empty_like(order)
    source[order] = order[following]
    return source


def _source(
    graph: HeteroData,
    node_type: str,
    names: Collection[str],
    degree_groups: int,
    generator: torch.Generator,
) -> Tensor:
    """Whose knowledge each node gets, int64 ``[n]``."""
    edges = interactions(graph)
    degree = (edges.by_user() if node_type == USER else edges.by_item()).degree.cpu()
    if len(degree) < 2:
        raise ValueError(
            f"a shuffled teacher needs two nodes of type {node_type!r} at least (got {len(degree)})"
        )
    listed = _listed(graph[node_type], names, degree)
    if int(listed.bincount(minlength=2).min()) < 2:  # somebody would be alone
        listed.zero_()
    group = torch.zeros_like(listed)
    for kind in range(2):
        which = (listed == kind).nonzero().squeeze(1)
        if len(which):
            parts = min(degree_groups, len(which) // 2)
            rank = degree[which].sort(stable=True).indices.argsort()
            group[which] = kind * degree_groups + rank * parts // len(which)
    return cyclic_derangement(group, generator).to(edges.edge_index.device)


def _listed(store: Mapping[str, Tensor], names: Collection[str], degree: Tensor) -> Tensor:
    """Whether each node has a list, int64 ``[n]``."""
    for name in (n for n in LISTS if n in names and n in store):
        return (store[name].reshape(len(degree), -1) >= 0).any(1).cpu().long()
    return torch.zeros_like(degree, dtype=torch.long)


def _moved(
    graph: HeteroData, node_type: str, names: Collection[str], source: Tensor
) -> dict[tuple[str, str], Tensor]:
    """The knowledge of one node type, in other places."""
    store, edges = graph[node_type], interactions(graph)
    values = {}
    for name in (n for n in names if n in store):
        if name == "teacher_x":
            values[node_type, name] = store[name][source]
        elif name in LISTS and name != "teacher_observed":
            beside = {p: store[p][source] for p in PLACES if p in store and name == "teacher_items"}
            lists, beside = without_seen(store[name][source], edges, node_type, beside)
            values[node_type, name] = lists
            values |= {(node_type, place): value for place, value in beside.items()}
    return values


def without_seen(
    lists: Tensor, edges: Interactions, node_type: str, beside: dict[str, Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    r"""Take what a node has an edge to off its lists; what comes after moves up.

    Args:
        lists: Ids of the other node type, ``[n, ..., K]``, padded with -1.
        edges: The edges.
        node_type: Whose lists they are.
        beside: What the lists carry, each ``[n, ..., K]``; 0 at padding.

    Returns:
        The same shapes.
    """
    seen, size = edges.by_user(), edges.num_items
    if node_type == ITEM:
        seen, size = edges.by_item(), edges.num_users
    keys = seen.row * size + seen.col
    shape, lists = lists.shape, lists.reshape(len(lists), -1, lists.size(-1)).clone()
    beside = {name: value.reshape(lists.shape).clone() for name, value in beside.items()}
    for rows in row_blocks(len(lists), lists[0].numel(), ENTRIES, lists.device):
        block = lists[rows]
        out = block < 0
        if len(keys):
            key = rows[:, None, None] * size + block
            place = torch.searchsorted(keys, key).clamp_max_(len(keys) - 1)
            out |= keys[place] == key
        order = out.long().sort(dim=-1, stable=True).indices
        lists[rows] = block.masked_fill(out, -1).gather(-1, order)
        for value in beside.values():
            value[rows] = value[rows].masked_fill(out, 0).gather(-1, order)
    return lists.reshape(shape), {name: value.reshape(shape) for name, value in beside.items()}
