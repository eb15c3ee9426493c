"""What every recommender has in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType

from pyg_kd.checks import require_count
from pyg_kd.edge_types import interaction_type
from pyg_kd.functional.edge_scores import edge_scores
from pyg_kd.graph import interactions, node_ids
from pyg_kd.models.inference import best_unseen
from pyg_kd.models.state import check_class, graph_of, pack, unpack
from pyg_kd.models.vectors import Ids, Vectors, both_sides
from pyg_kd.typing import ITEM, USER, Batch, XDict

T = TypeVar("T")


class Recommender(nn.Module):
    r"""A graph goes in, representations of its users and items come out.

    Teachers and students are the same classes. A subclass writes
    ``forward(data)``. If its score is not an inner product, it sets
    ``inner_product = False`` and writes :meth:`score_block` and :meth:`score`; if it
    has a loss of its own, it writes :meth:`own_loss`.

    Args:
        data: The training graph; only its sizes are read here.
        dim: Width of the embeddings.
        init_std: Standard deviation of the initial embeddings. Without it there are no embedding
            tables: a subclass makes its own parameters and then calls
            :meth:`reset_parameters`, which it overrides.

    Raises:
        ValueError: If ``dim`` is not a positive integer, or ``data`` not a user-item graph.
    """

    #: The base loss that :class:`~pyg_kd.training.Trainer` takes by default:
    #: ``"own"`` is :meth:`own_loss`.
    default_loss: ClassVar[str] = "bpr"

    #: Whether the score of a pair is the inner product of its representations. Ranking
    #: methods distil into such models only; teachers may be others.
    inner_product: ClassVar[bool] = True

    #: Whether representations are embeddings, which latent methods can imitate.
    latent: ClassVar[bool] = True

    #: Whether there is anything to train. A model in closed form belongs to the graph that it
    #: was computed from.
    trainable: ClassVar[bool] = True

    #: Whether :meth:`own_loss` reads the representations it is given. Where neither it nor
    #: anything else does, the trainer does not make them, and ``x_dict`` is empty.
    own_loss_reads: ClassVar[bool] = True

    #: Options that change what the same tensors compute: loading a state with other values of
    #: them is refused.
    structure: ClassVar[tuple[str, ...]] = ()

    #: The class that :meth:`from_embeddings` returns. It registers itself: a base class does not
    #: import its subclasses.
    embedding_class: ClassVar[type[Recommender]]

    #: The fingerprint of the graph that the model was last fitted on, where that is known:
    #: :class:`~pyg_kd.training.Trainer` sets it, and it is saved with the state.
    fitted_on: str | None = None

    def __init__(self, data: HeteroData, dim: int, init_std: float | None = None) -> None:
        super().__init__()
        require_count(dim=dim)
        _, self.num_users, self.num_items = interactions(data)
        self.dim = dim
        self._cached: tuple[dict[EdgeType, Any], list[int | None], Any] | None = None
        self.register_load_state_dict_post_hook(_forget)
        if init_std is not None:
            self.init_std = init_std
            self.user_embedding = nn.Parameter(torch.empty(self.num_users, dim))
            self.item_embedding = nn.Parameter(torch.empty(self.num_items, dim))
            self.reset_parameters()

    @staticmethod
    def from_embeddings(
        data: HeteroData,
        x_user: Vectors,
        x_item: Vectors,
        *,
        user_ids: Ids | None = None,
        item_ids: Ids | None = None,
    ) -> Recommender:
        r"""A recommender with given vectors, wherever they come from: a teacher from elsewhere.

        Use factors of another library, arrays on disk (``numpy.load(..., mmap_mode="r")``) or
        representations of another PyG model. The score is their inner product; put biases into
        a column of their own, with a column of ones on the other side.

        Args:
            data: The training graph. Vectors do not tell what they were trained on: make sure
                that they have not seen validation or test targets.
            x_user: Vectors of the users, floating point, ``[U, d]``; copied as float32. Rows
                are in the order of the graph's nodes, unless ``user_ids`` say otherwise.
            x_item: Vectors of the items, ``[I, d]``.
            user_ids: The ``data["user"].raw_id`` of each row of ``x_user``; users that are not
                in the graph are left out.
            item_ids: The ``data["item"].raw_id`` of each row of ``x_item``.

        Returns:
            An :class:`~pyg_kd.models.MF`, which can be trained further.

        Raises:
            ValueError: If the rows do not match the nodes, the widths differ, a value is not
                finite, or ids are repeated or missing.

        Example:
            >>> from pyg_kd.datasets import SyntheticInteractions
            >>> data = SyntheticInteractions(None, num_users=20, num_items=10, num_edges=80)[0]
            >>> Recommender.from_embeddings(data, torch.rand(20, 3), torch.rand(10, 3))
            MF(20, 10, dim=3)
        """
        user, item = both_sides(data, x_user, x_item, user_ids, item_ids)
        model = Recommender.embedding_class(data, user.size(1))
        with torch.no_grad():
            model.user_embedding.copy_(user)
            model.item_embedding.copy_(item)
        return model

    def reset_parameters(self) -> None:
        """Draw the embeddings anew from a normal distribution."""
        if not hasattr(self, "init_std"):
            name = type(self).__name__
            raise NotImplementedError(f"{name} has no embedding tables: override reset_parameters")
        nn.init.normal_(self.user_embedding, std=self.init_std)
        nn.init.normal_(self.item_embedding, std=self.init_std)

    def forward(self, data: HeteroData) -> XDict:
        """Representations ``{"user": [U, d], "item": [I, d]}`` of a graph's nodes."""
        raise NotImplementedError

    def own_loss(self, x_dict: XDict, data: HeteroData, batch: Batch) -> Tensor:
        """The model's own loss, a sum over the batch."""
        raise ValueError(f"{type(self).__name__} has no loss of its own (got loss='own')")

    @property
    def out_dim(self) -> int:
        """Width of the representations, by default that of the embeddings."""
        return self.dim

    def score(self, x_dict: XDict, edge_index: Tensor) -> Tensor:
        """Scores of user-item pairs, ``[E]`` for an int64 ``edge_index`` of ``[2, E]``."""
        return edge_scores(x_dict[USER], x_dict[ITEM], edge_index)

    def score_block(self, x_user: Tensor, x_item: Tensor) -> Tensor:
        """Scores of all pairs of ``b`` users and ``t`` items, ``[b, t]``."""
        return x_user @ x_item.t()

    def recommend(
        self, data: HeteroData, k: int = 20, *, users: Tensor | Sequence[int] | None = None
    ) -> tuple[Tensor, Tensor]:
        r"""The best ``k`` items for each user, among those that it has no edge to.

        Users are scored in blocks and items in tiles: nothing with users times items entries
        is allocated.

        Args:
            data: The graph: its edges are what users have already seen.
            k: Length of the lists.
            users: The users, ``[n]`` integers; all of them by default.

        Returns:
            The items, int64 ``[n, k]``, best first and padded with -1, and their scores
            ``[n, k]``, padded with ``-inf``: lists are shorter only where fewer items are left.

        Raises:
            TypeError: If ``k`` or a user is not an integer.
            ValueError: If ``k`` or a user is out of range, or the graph is another.

        Example:
            >>> from pyg_kd.datasets import SyntheticInteractions
            >>> from pyg_kd.models import MF
            >>> data = SyntheticInteractions(None, num_users=20, num_items=10, num_edges=80)[0]
            >>> items, scores = MF(data, dim=4).recommend(data, k=3, users=[7])
            >>> items.shape
            torch.Size([1, 3])
        """
        self.check_data(data)
        if not isinstance(k, Integral) or isinstance(k, bool):
            raise TypeError(f"'k' must be an integer (got {k!r})")
        if not 1 <= k <= self.num_items:
            raise ValueError(f"'k' must lie in 1..{self.num_items} (got {k})")
        rows = None if users is None else node_ids(data, USER, "users", users)
        return best_unseen(self, data, k, rows)

    def check_data(self, data: HeteroData) -> None:
        """Raise ``ValueError`` unless ``data`` has as many users and items as this model."""
        interaction_type(data)  # is it a graph of users and items?
        sizes = data[USER].num_nodes, data[ITEM].num_nodes
        if sizes != (self.num_users, self.num_items):
            raise ValueError(
                f"'data' has {sizes[0]} users and {sizes[1]} items, the model was built for "
                f"{self.num_users} and {self.num_items}"
            )

    def cached(self, data: HeteroData, make: Callable[[HeteroData], T]) -> T:
        """What ``make`` returns for ``data``, computed once per graph and device, and again when
        its edges, of any type, change.

        A model keeps one such value, which is not part of its state.
        """
        self.check_data(data)
        edges = {kind: store.get("edge_index") for kind, store in data.edge_items()}
        tensors = [edge_index for edge_index in edges.values() if isinstance(edge_index, Tensor)]
        # The tensors themselves are kept, so `is` is safe. A version counts changes in place;
        # tensors made in inference mode have none.
        versions = [None if t.is_inference() else t._version for t in tensors]
        cached = self._cached
        if cached is None or not _same(cached[0], edges) or cached[1] != versions:
            cached = (edges, versions, make(data))
            self._cached = cached
        made: T = cached[2]
        return made

    def get_extra_state(self) -> Tensor:
        """What a state says besides tensors: the class, its structure, and :attr:`fitted_on`."""
        return pack(self, self.fitted_on)

    def set_extra_state(self, state: object) -> None:
        """Take :attr:`fitted_on` from a state."""
        self.fitted_on = graph_of(state)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        # Checked before a tensor is copied. States saved earlier do not name their model.
        told = state_dict.setdefault(f"{prefix}_extra_state", pack(self, None))
        check_class(self, unpack(told))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.num_users}, {self.num_items}, dim={self.dim})"


def _same(one: dict[EdgeType, Any], other: dict[EdgeType, Any]) -> bool:
    """Whether two graphs have the very same edges under the same types."""
    return one.keys() == other.keys() and all(one[key] is other[key] for key in one)


def _forget(model: Recommender, _: object) -> None:
    """A cached value may depend on the state that was replaced."""
    model._cached = None
