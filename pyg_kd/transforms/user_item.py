"""Any graph with users and items becomes one that the package reads."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.data.storage import EdgeStorage
from torch_geometric.transforms import BaseTransform
from torch_geometric.typing import EdgeType

from pyg_kd.edge_types import all_node_types, types_between, user_item_call
from pyg_kd.graph import as_edges, interactions, num_nodes
from pyg_kd.transforms.attributes import edge_attributes
from pyg_kd.transforms.relations import SPARSE, keys, without_pairs_
from pyg_kd.typing import ITEM, USER


class UserItem(BaseTransform):
    r"""Makes a user-item graph of any :class:`~torch_geometric.data.HeteroData`.

    One edge type is chosen as the interactions, and the node types at its ends are renamed to
    ``user`` and ``item``, in all other edge types too. Other node types, edge types and attributes
    are kept for models that read them; splits, loaders, extraction, fingerprints and evaluation
    only look at the interactions.

    What could carry a target past a split is dropped with a warning: edges from item to user, such
    as the ``rev_*`` types of :class:`~torch_geometric.transforms.ToUndirected`, and other relations
    from user to item, which may repeat the interactions. Relations in ``keep_relations`` are kept,
    and splits remove the pairs they hold out from them. Models make reverse edges by
    ``edge_index.flip(0)``.

    Repeated interactions become one: the latest if they have a ``time``, else the last. Every
    edge counts as an interaction, whatever its rating. An ``edge_label`` without an
    ``edge_label_index``, as in PyG's ``MovieLens``, is a value of each edge and is renamed to
    ``label``.

    Args:
        user: The node type of the users; by default ``"user"``, or the only one connected to
            the items.
        item: The node type of the items; by default ``"item"``, or the only one connected to
            the users.
        edge: The edge type of the interactions; optional if only one leads from user to
            item. If it leads from item to user, its edges are reversed.
        keep_relations: Names of other relations from user to item to keep.

    Raises:
        TypeError: If an option has the wrong type, or the graph is not a ``HeteroData``.
        ValueError: If a type is unknown or ambiguous, the name ``user`` or ``item`` is
            taken by another node type, a node type has no size, or an id is out of range.

    Example:
        >>> import torch
        >>> from torch_geometric.data import HeteroData
        >>> from pyg_kd.transforms import UserItem
        >>> data = HeteroData()
        >>> data["customer"].num_nodes, data["product"].x = 3, torch.rand(2, 4)
        >>> data["customer", "buys", "product"].edge_index = torch.tensor([[0, 2], [1, 0]])
        >>> data["product", "in", "shop"].edge_index = torch.tensor([[0, 1], [0, 0]])
        >>> UserItem(user="customer", item="product")(data).edge_types
        [('item', 'in', 'shop'), ('user', 'buys', 'item')]
    """

    def __init__(
        self,
        user: str | None = None,
        item: str | None = None,
        edge: EdgeType | None = None,
        *,
        keep_relations: Sequence[str] = (),
    ) -> None:
        for name, value in (("user", user), ("item", item)):
            if value is not None and not isinstance(value, str):
                raise TypeError(f"{name!r} must be the name of a node type (got {value!r})")
        if user is not None and user == item:
            raise ValueError(f"'user' and 'item' must be two node types (got {user!r} for both)")
        if edge is not None and [type(part) for part in edge] != [str, str, str]:
            raise TypeError(f"'edge' must be three names: source, relation, target (got {edge!r})")
        if isinstance(keep_relations, str):
            raise TypeError(f"'keep_relations' must be a list of names (got {keep_relations!r})")
        self.user, self.item = user, item
        self.edge = None if edge is None else (edge[0], edge[1], edge[2])
        self.keep_relations = tuple(keep_relations)

    def forward(self, data: HeteroData) -> HeteroData:
        """Choose the interactions of ``data`` and name its node types."""
        if not isinstance(data, HeteroData):
            interactions(data)  # raises, and tells where such a graph comes from
        user, item = self._node_types(data)
        chosen = self._edge_type(data, user, item)
        self._drop(data, chosen, user, item)
        for kind in (*types_between(data, user, item), *types_between(data, item, user)):
            _clean(data, kind)
        if chosen[0] == item:
            chosen = _turned(data, chosen)
        for row, name in enumerate((user, item)):
            num_nodes(data, name, data[chosen].get("edge_index"), row)  # is it known?
        _rename(data, user, item)
        data.interaction_relation = chosen[1]
        if not self.keep_relations:  # it is the only one
            del data.interaction_relation
        return _checked(data, (USER, chosen[1], ITEM))

    def _node_types(self, data: HeteroData) -> tuple[str, str]:
        """The node types of users and items, as given or inferred."""
        known = all_node_types(data)
        user, item = self.user, self.item
        if self.edge is not None:
            ends = [self.edge[0], self.edge[2]]
            if user == ends[1] or item == ends[0] or ((None in (user, item)) and _turns(ends)):
                ends.reverse()
            user, item = user or ends[0], item or ends[1]
        user = user or (USER if USER in known else None)
        item = item or (ITEM if ITEM in known else None)
        if user is None and item is None:
            raise ValueError(
                f"'user' and 'item' must name two of the node types {sorted(known)}: "
                f"{user_item_call(data)}?"
            )
        user = user or _neighbour(data, "user", str(item))
        item = item or _neighbour(data, "item", user)
        for name, kind in (("user", user), ("item", item)):
            if kind not in known:
                raise ValueError(f"{name!r} must be one of {sorted(known)} (got {kind!r})")
            if kind != name and name in known - {user, item}:
                raise ValueError(
                    f"'data' must have no other node type {name!r} when {kind!r} gets that name: "
                    f"data.rename({name!r}, ...) comes first"
                )
        return user, item

    def _edge_type(self, data: HeteroData, user: str, item: str) -> EdgeType:
        """The edge type of the interactions, before any renaming."""
        forward, backward = types_between(data, user, item), types_between(data, item, user)
        found = forward or backward
        if self.edge is not None:
            found = [kind for kind in (*forward, *backward) if kind == self.edge]
        elif "interaction_relation" in data:
            found = [kind for kind in forward if kind[1] == data.interaction_relation] or found
        if len(found) != 1:
            problem = "choose one by 'edge'" if found else "there is none"
            problem += "" if self.edge is None else f" (got edge={self.edge})"
            raise ValueError(
                f"'data' must have one edge type between {user!r} and {item!r}, {problem}: "
                f"{[*forward, *backward] or data.edge_types}"
            )
        return found[0]

    def _drop(self, data: HeteroData, chosen: EdgeType, user: str, item: str) -> None:
        """Delete all edge types between users and items except those chosen or kept."""
        forward = [kind for kind in types_between(data, user, item) if kind != chosen]
        unknown = set(self.keep_relations) - {kind[1] for kind in forward}
        if unknown:
            raise ValueError(
                f"'keep_relations' must name other relations from {user!r} to {item!r}, "
                f"{[kind[1] for kind in forward]} (got {sorted(unknown)})"
            )
        dropped = [kind for kind in forward if kind[1] not in self.keep_relations]
        dropped += [kind for kind in types_between(data, item, user) if kind != chosen]
        for kind in dropped:
            del data[kind]
        if dropped:
            warnings.warn(
                f"UserItem dropped {dropped}: targets of a split of {chosen} could stay in them. "
                "Models make reverse edges by edge_index.flip(0); 'keep_relations' keeps others",
                stacklevel=4,
            )

    def __repr__(self) -> str:
        options = [f"{name}={value!r}" for name, value in vars(self).items() if value]
        return f"UserItem({', '.join(options)})"


def _turns(ends: Sequence[str]) -> bool:
    """Whether an edge type leads from item to user, by the names of its ends."""
    return ends[0] == ITEM or ends[1] == USER


def _neighbour(data: HeteroData, name: str, other: str) -> str:
    """The one node type that has edges with another."""
    found = {end for kind in data.edge_types if other in kind[::2] for end in kind[::2]} - {other}
    if len(found) != 1:
        raise ValueError(
            f"{name!r} must be given: node types with edges to {other!r} are {sorted(found)}"
        )
    return found.pop()


def _clean(data: HeteroData, kind: EdgeType) -> None:
    """Delete sparse copies of the edges; a value of each edge is not called like targets."""
    store = data[kind]
    if "edge_index" in store:
        for key in set(SPARSE) & {*store.keys()}:
            del store[key]
    if "edge_label" in store and "edge_label_index" not in store:
        if "label" in store:
            raise ValueError(
                f"'data[{kind}]' must not have 'label' and 'edge_label' without "
                "'edge_label_index': give one of them another name"
            )
        store.label = store.pop("edge_label")


def _turned(data: HeteroData, kind: EdgeType) -> EdgeType:
    """Reverse the edges of a type."""
    turned = (kind[2], kind[1], kind[0])
    for key, value in data[kind].items():
        turn = key in ("edge_index", "edge_label_index")
        data[turned][key] = as_edges(value, key).flip(0) if turn else value
    del data[kind]
    return turned


def _rename(data: HeteroData, user: str, item: str) -> None:
    # Two steps, as the name of one may be that which the other gets.
    names = [(user, USER), (item, ITEM)]
    for old, new in names:
        if old != new:
            data.rename(old, f"{new} of UserItem")
    for old, new in names:
        if old != new:
            data.rename(f"{new} of UserItem", new)


def _checked(data: HeteroData, chosen: EdgeType) -> HeteroData:
    """The graph with each interaction once and no target in another relation."""
    edge_index = interactions(data).edge_index
    store = data[chosen]
    key = keys(data, edge_index)
    if key.unique().numel() < len(key):
        store.update(edge_attributes(data, store, _last(key, store)))
    if "edge_label_index" in store:
        without_pairs_(data, as_edges(store.edge_label_index, "edge_label_index"))
    return data


def _last(key: Tensor, store: EdgeStorage) -> Tensor:
    """Of the edges with the same key, the position of the latest or last, ascending, int64."""
    order = torch.arange(len(key), device=key.device)
    if "time" in store and store.is_edge_attr("time"):
        order = torch.as_tensor(store.time).to(key.device).argsort(stable=True)
    unique, place = key[order].unique(return_inverse=True)
    last = key.new_empty(len(unique)).scatter_reduce_(
        0, place, torch.arange(len(key), device=key.device), "amax", include_self=False
    )
    return order[last].sort().values
