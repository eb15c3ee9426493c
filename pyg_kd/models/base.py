"""The base class of all recommenders."""

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
from pyg_kd.graph import for_training, interactions, node_ids, version_of
from pyg_kd.models.inference import best_unseen
from pyg_kd.models.sampled import SubgraphModel
from pyg_kd.models.state import check_class, graph_of, pack, unpack
from pyg_kd.models.vectors import Ids, Vectors, both_sides
from pyg_kd.typing import ITEM, USER, Batch, XDict

T = TypeVar("T")


class Recommender(SubgraphModel):
    r"""Base class of models that map a user-item graph to representations of its nodes.

    Teachers and students use the same classes. A subclass implements ``forward(data)``. If its
    score is not an inner product, it sets ``inner_product = False`` and implements
    :meth:`score_block` and :meth:`score`; if it has a loss of its own, :meth:`own_loss`.

    Args:
        data: The training graph; only its sizes are read here.
        dim: Width of the embeddings.
        init_std: Standard deviation of the initial embeddings. If omitted, no embedding tables
            are created: the subclass creates its own parameters, then calls
            :meth:`reset_parameters`, which it overrides.

    Raises:
        ValueError: If ``dim`` is not a positive integer, or ``data`` is not a user-item graph.
    """

    #: The default base loss of :class:`~pyg_kd.training.Trainer`; ``"own"`` is :meth:`own_loss`.
    default_loss: ClassVar[str] = "bpr"

    #: Whether the score of a pair is the inner product of its representations. Ranking
    #: methods need a student of this kind; teachers can be of any kind.
    inner_product: ClassVar[bool] = True

    #: Whether representations are embeddings, which latent methods can imitate.
    latent: ClassVar[bool] = True

    #: Whether there is anything to train. A closed-form model is tied to the graph that it was
    #: computed from.
    trainable: ClassVar[bool] = True

    #: Whether :meth:`own_loss` reads the representations it is given. If no term of the loss
    #: does, the trainer skips computing them and ``x_dict`` is empty.
    own_loss_reads: ClassVar[bool] = True

    #: Whether :meth:`own_loss` is a sum over the triples or the distinct entities of a batch, which
    #: several processes can compute for their shares. Otherwise each takes the whole batch.
    own_loss_splits: ClassVar[bool] = True

    #: Options that change what the same tensors compute: a state saved with other values is
    #: refused, and :func:`~pyg_kd.knowledge.model_fingerprint` includes them.
    structure: ClassVar[tuple[str, ...]] = ()

    #: The class that :meth:`from_embeddings` returns, which registers itself.
    embedding_class: ClassVar[type[Recommender]]

    #: Fingerprint of the graph that the model was last fitted on, if known. Set by
    #: :class:`~pyg_kd.training.Trainer` and saved with the state.
    fitted_on: str | None = None

    def __init__(self, data: HeteroData, dim: int, init_std: float | None = None) -> None:
        super().__init__()
        require_count(dim=dim)
        _, self.num_users, self.num_items = interactions(data)
        self.dim = dim
        self._cached: tuple[dict[EdgeType, Any], list[Any], Any] | None = None
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
        r"""Wrap existing embeddings in a recommender, such as a teacher trained elsewhere.

        They may be factors from another library, arrays on disk
        (``numpy.load(..., mmap_mode="r")``) or representations of another PyG model. Scores are
        inner products; to include biases, append them as a column, and a column of ones on the
        other side.

        Args:
            data: The training graph. Embeddings do not reveal what they were trained on: make
                sure that they have not seen validation or test targets.
            x_user: Embeddings of the users, floating point, ``[U, d]``; copied as float32. Rows
                follow the order of the graph's nodes, unless ``user_ids`` is given.
            x_item: Embeddings of the items, ``[I, d]``.
            user_ids: The ``data["user"].raw_id`` of each row of ``x_user``; rows of users that
                are not in the graph are ignored.
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
        """Reinitialise the embeddings from a normal distribution."""
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
        """Scores of every pair of ``b`` users and ``t`` items, ``[b, t]``."""
        return x_user @ x_item.t()

    def recommend(
        self, data: HeteroData, k: int = 20, *, users: Tensor | Sequence[int] | None = None
    ) -> tuple[Tensor, Tensor]:
        r"""The top ``k`` unseen items of each user.

        Users are scored in blocks and items in tiles, so a full score matrix is never allocated.

        Args:
            data: The graph, whose edges are the items that users have already seen.
            k: Length of the lists.
            users: Ids of the users, ``[n]`` integers; all users by default.

        Returns:
            The items, int64 ``[n, k]``, best first, and their scores ``[n, k]``. A user with
            fewer than ``k`` unseen items gets padding: items of -1 with scores of ``-inf``.

        Raises:
            TypeError: If ``k`` or a user is not an integer.
            ValueError: If ``k`` or a user is out of range, or the graph has other sizes.

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
        interaction_type(data)  # raises unless this is a user-item graph
        sizes = data[USER].num_nodes, data[ITEM].num_nodes
        if sizes != (self.num_users, self.num_items):
            raise ValueError(
                f"'data' has {sizes[0]} users and {sizes[1]} items, the model was built for "
                f"{self.num_users} and {self.num_items}"
            )

    def cached(self, data: HeteroData, make: Callable[[HeteroData], T]) -> T:
        """``make(data)``, computed once per graph and device, and again when any edges change.

        A model keeps one such value, which is not part of its state.
        """
        self.check_data(data)
        edges = {kind: store.get("edge_index") for kind, store in data.edge_items()}
        tensors = [edge_index for edge_index in edges.values() if isinstance(edge_index, Tensor)]
        versions = [version_of(edge_index) for edge_index in tensors]
        if None in versions:
            return make(data)
        cached = self._cached
        if cached is None or not _same(cached[0], edges) or cached[1] != versions:
            with for_training():
                cached = self._cached = (edges, versions, make(data))
        made: T = cached[2]
        return made

    def get_extra_state(self) -> Tensor:
        """Class, structure and :attr:`fitted_on`, which a state holds besides tensors."""
        return pack(self, self.fitted_on)

    def set_extra_state(self, state: object) -> None:
        """Restore :attr:`fitted_on` from a state."""
        self.fitted_on = graph_of(state)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        # Checked before any tensor is copied. States of older versions do not name their class.
        packed = state_dict.setdefault(f"{prefix}_extra_state", pack(self, None))
        check_class(self, unpack(packed))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.num_users}, {self.num_items}, dim={self.dim})"


def _same(one: dict[EdgeType, Any], other: dict[EdgeType, Any]) -> bool:
    """Whether two graphs hold the very same edge tensors under the same types."""
    return one.keys() == other.keys() and all(one[key] is other[key] for key in one)


def _forget(model: Recommender, _: object) -> None:
    """Drop the cached value, which may depend on the replaced state."""
    model._cached = None
