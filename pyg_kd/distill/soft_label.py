"""Soft labels: the teacher's list as the target of the student's softmax over the catalogue."""

from __future__ import annotations

from math import inf
from typing import Literal, get_args

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.index import index2ptr

from pyg_kd.checks import require_choice, require_count, require_positive
from pyg_kd.distill.base import Distillation
from pyg_kd.functional.edge_scores import list_scores
from pyg_kd.functional.losses import catalogue_cross_entropy, padded_softmax, soft_cross_entropy
from pyg_kd.functional.sparse import CSR, HeldCSR, gather_rows
from pyg_kd.graph import interactions
from pyg_kd.typing import ITEM, USER, Batch, XDict

Target = Literal["rank", "score"]
TARGETS: tuple[Target, ...] = get_args(Target)
Tail = Literal["catalogue", "list"]
TAILS: tuple[Tail, ...] = get_args(Tail)


class SoftLabel(Distillation):
    r"""Softmax cross-entropy with the teacher's ranked list as a soft target, after
    `"Distilling the Knowledge in a Neural Network" <https://arxiv.org/abs/1503.02531>`_.

    .. math::
        L = - \sum_u \left[ \sum_{r < K} q_{ur} \log p_u(\pi_r)
        + \beta \frac{1}{|N_u|} \sum_{i \in N_u} \log p_u(i) \right], \qquad
        p_u(i) = \frac{e^{s_{ui}}}{\sum_j e^{s_{uj}}}

    over the unique users of a batch, with :math:`\pi` the teacher's list and :math:`N_u` the
    user's own training items. The cross-entropy is the paper's; weights by rank, the user's own
    items as a second target and a denominator over the *whole catalogue*
    (:func:`~pyg_kd.functional.catalogue_logsumexp`) are this package's choice. The denominator
    includes the own items, too: they are pushed down unless ``own_weight`` or a base loss raises
    them. With ``own_weight`` this can be the only loss: ``base_weight=0, batch_by="user"``.

    Args:
        num_listed: Length :math:`K` of the list; all that the graph carries if that is fewer.
        target: ``"rank"`` (default), :math:`q_{ur} \propto e^{-r / T}` with :math:`r` from 0, or
            ``"score"``, the softmax over the list of the teacher's inner products
            divided by ``temperature_score``, which needs ``teacher_x``.
        temperature: :math:`T`, in ranks.
        temperature_score: Temperature of the teacher's softmax.
        tail: What :math:`j` runs over: the whole ``"catalogue"`` (default), or the ``"list"``.
        own_weight: :math:`\beta`, for ``tail="catalogue"`` only.
        scale: Factor on the student's scores :math:`s_{ui}`.

    Raises:
        ValueError: If an option is unknown or out of range, or ``own_weight`` is given with
            ``tail="list"``.

    Example:
        >>> SoftLabel(own_weight=0.5).num_listed
        100
    """

    needs: tuple[str, ...] = ("teacher_items",)

    def __init__(
        self,
        *,
        num_listed: int = 100,
        target: Target = "rank",
        temperature: float = 20.0,
        temperature_score: float = 1.0,
        tail: Tail = "catalogue",
        own_weight: float = 0.0,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        require_choice(TARGETS, target=target)
        require_choice(TAILS, tail=tail)
        require_count(num_listed=num_listed)
        require_positive(temperature=temperature, scale=scale, temperature_score=temperature_score)
        if not 0 <= own_weight < inf or (own_weight > 0 and tail == "list"):
            raise ValueError(
                f"'own_weight' must be 0, or positive with tail='catalogue' (got {own_weight} "
                f"with tail={tail!r})"
            )
        self.num_listed, self.target, self.tail = num_listed, target, tail
        self.teacher_scores = target == "score"
        if self.teacher_scores:
            self.needs = ("teacher_items", "teacher_x")
        self.temperature, self.temperature_score = temperature, temperature_score
        self.own_weight, self.scale = own_weight, scale
        self.mass: Tensor
        self.lists: Tensor
        self.shares: Tensor
        for name in ("mass", "lists", "shares"):
            self.register_buffer(name, None, persistent=False)

    def setup(self, graph: HeteroData, dim: int) -> None:
        """Build the target of every user, once."""
        lists = graph[USER].teacher_items[:, : self.num_listed]
        share = self._shares(graph, lists)
        if self.tail == "list":
            self.lists, self.shares = lists, share
            return
        edges = interactions(graph)
        user, place = (lists >= 0).nonzero(as_tuple=True)
        item, value, self.mass = lists[user, place], share[user, place], share.sum(1)
        if self.own_weight:
            own = edges.by_user()
            owner = own.row
            user, item = torch.cat([user, owner]), torch.cat([item, own.col])
            value = torch.cat([value, self.own_weight / own.degree[owner]])
            self.mass = self.mass + self.own_weight * (own.degree > 0)
        user, order = torch.sort(user, stable=True)
        ptr, col = index2ptr(user, edges.num_users), item[order]
        self.targets = HeldCSR(CSR(ptr.to(torch.int32), col.to(torch.int32), value[order]))

    def _shares(self, graph: HeteroData, lists: Tensor) -> Tensor:
        """The teacher's distribution over each list, ``[U, K]``, zero at padding."""
        if self.target == "score":
            x_user, x_item = graph[USER].teacher_x, graph[ITEM].teacher_x
            # In half precision the shares would not add up to one.
            dtype = torch.promote_types(x_user.dtype, torch.float32)
            logit = list_scores(x_user.to(dtype), x_item.to(dtype), lists) / self.temperature_score
        else:
            rank = torch.arange(lists.size(1), device=lists.device)
            logit = (-rank / self.temperature).expand(lists.shape)
        return padded_softmax(logit.masked_fill(lists < 0, -torch.inf))

    def forward(self, x_dict: XDict, graph: HeteroData, batch: Batch) -> Tensor:
        """Compute the cross-entropy of the unique users of the batch."""
        self.ensure_bound(x_dict, graph)
        x_user, x_item = gather_rows(x_dict[USER], batch.unique_users) * self.scale, x_dict[ITEM]
        if self.tail == "list":
            return self._list_loss(x_user, x_item, batch.unique_users)
        return catalogue_cross_entropy(
            x_user, x_item, batch.unique_users, self.targets.get(), self.mass
        )

    def _list_loss(self, x_user: Tensor, x_item: Tensor, users: Tensor) -> Tensor:
        scores = list_scores(x_user, x_item, self.lists[users])
        return soft_cross_entropy(scores, self.shares[users]).sum()
