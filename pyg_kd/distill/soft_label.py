"""Soft labels: the teacher's list as the target of the student's softmax over the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_at_least, require_choice, require_count, require_positive
from pyg_kd.distill.base import Distillation
from pyg_kd.functional.catalogue import excluded_pairs
from pyg_kd.functional.edge_scores import list_scores
from pyg_kd.functional.losses import catalogue_cross_entropy, padded_softmax, soft_cross_entropy
from pyg_kd.functional.sampling import row_blocks
from pyg_kd.functional.sparse import CSR, HeldCSR, gather_rows
from pyg_kd.graph import interactions
from pyg_kd.knowledge.confidence import trusted_lists, trusted_scores
from pyg_kd.typing import ITEM, USER, Batch, XDict

Target = Literal["rank", "score"]
TARGETS: tuple[Target, ...] = get_args(Target)
Tail = Literal["catalogue", "list"]
TAILS: tuple[Tail, ...] = get_args(Tail)
Own = Literal["ignore", "mask"]
OWN: tuple[Own, ...] = get_args(Own)

#: Places of lists that are weighed at once.
BLOCK_ENTRIES = 2**22


class SoftLabel(Distillation):
    r"""Softmax cross-entropy with the teacher's ranked list as a soft target, after
    `"Distilling the Knowledge in a Neural Network" <https://arxiv.org/abs/1503.02531>`_.

    .. math::
        L = - \sum_u \left[ \sum_{r < K} c_{ur} q_{ur} \log p_u(\pi_r)
        + \beta \frac{1}{|N_u|} \sum_{i \in N_u} \log p_u(i) \right], \qquad
        p_u(i) = \frac{e^{s_{ui}}}{\sum_j e^{s_{uj}}}

    over the unique users of a batch, with :math:`\pi` the teacher's list, :math:`N_u` the
    user's own training items and :math:`c_{ur}` the teacher's confidence in the place, 1 unless
    the graph carries ``teacher_confidence``. The cross-entropy is the paper's; weights by rank, the
    user's own items as a second target and a denominator over the *whole catalogue*
    (:func:`~pyg_kd.functional.catalogue_logsumexp`) are this package's choice. Own items are
    left out of it, so that the loss says nothing of what is never listed, or they are raised by
    ``own_weight``. With either this can be the only loss: ``base_weight=0, batch_by="user"``. With
    ``own="ignore"`` alone they are pushed down, unless a base loss raises them.

    Args:
        num_listed: Length :math:`K` of the list; all that the graph carries if that is fewer.
        target: ``"rank"`` (default), :math:`q_{ur} \propto e^{-r / T}` with :math:`r` from 0, or
            ``"score"``, the softmax over the list of the teacher's scores divided by
            ``temperature_score``: inner products of ``teacher_x``, or ``teacher_scores`` where
            the graph has no embeddings.
        temperature: :math:`T`, in ranks; several for a mixture
            :math:`q_{ur} = \sum_m a_m q^{(m)}_{ur}`: a sharp one for the top of the list beside
            a flat one for the rest.
        mixture: The weights :math:`a_m` of the temperatures, scaled to add up to one; equal by
            default.
        temperature_score: Temperature of the teacher's softmax.
        tail: What :math:`j` runs over: the whole ``"catalogue"`` (default), or the ``"list"``.
        own: What the denominator does with the own items: ``"mask"`` them, which is the default
            where it can be, or ``"ignore"`` that they are own, as it must with ``tail="list"`` or
            ``own_weight``.
        own_weight: :math:`\beta`, for ``tail="catalogue"`` only, and not with ``own="mask"``.
        share: Share of the catalogue that the denominator is estimated from, drawn uniformly in
            every batch and scaled so that its expectation is exact. 1 (default) is all of it.
        scale: Factor on the student's scores :math:`s_{ui}`.

    Raises:
        ValueError: If an option is unknown or out of range, or one is given with another that
            leaves it no meaning.

    Example:
        >>> SoftLabel(own_weight=0.5).num_listed
        100
    """

    needs: tuple[str, ...] = ("teacher_items",)
    row_wise: tuple[str, ...] = (USER,)

    def __init__(
        self,
        *,
        num_listed: int = 100,
        target: Target = "rank",
        temperature: float | Sequence[float] = 20.0,
        mixture: Sequence[float] | None = None,
        temperature_score: float = 1.0,
        tail: Tail = "catalogue",
        own: Own | None = None,
        own_weight: float = 0.0,
        share: float = 1.0,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        require_choice(TARGETS, target=target)
        require_choice(TAILS, tail=tail)
        if own is None:
            own = "ignore" if own_weight or tail == "list" else "mask"
        require_choice(OWN, own=own)
        require_count(num_listed=num_listed)
        require_positive(scale=scale, temperature_score=temperature_score, share=share)
        if not 0 <= own_weight < inf or (own_weight > 0 and (tail, own) != ("catalogue", "ignore")):
            raise ValueError(
                "'own_weight' must be 0, or positive with tail='catalogue' and own='ignore' "
                f"(got {own_weight} with tail={tail!r} and own={own!r})"
            )
        if share > 1 or (tail == "list" and (own == "mask" or share < 1)):
            raise ValueError(
                "'share' must be 1 at most, and 1 with tail='list', which has no own items either "
                f"(got {share} and own={own!r} with tail={tail!r})"
            )
        self.num_listed, self.target, self.tail, self.own = num_listed, target, tail, own
        self.teacher_scores = self.listed_scores = target == "score"
        if self.teacher_scores:
            self.needs = ("teacher_items", "teacher_x")
        self.temperature, self.mixture = _mixture(temperature, mixture)
        self.temperature_score, self.share = temperature_score, share
        self.tunes = ("temperature_score",) if self.teacher_scores else ("temperature",)
        self.own_weight, self.scale = own_weight, scale
        if tail == "list" or share < 1:
            self.row_wise = (USER, ITEM)
        self.mass: Tensor
        self.lists: Tensor
        self.shares: Tensor
        for name in ("mass", "lists", "shares"):
            self.register_buffer(name, None, persistent=False)

    def setup(self, graph: HeteroData, dim: int) -> None:
        """Build the target of every user, once."""
        lists, confidence = trusted_lists(graph, self.num_listed)
        share = self._shares(graph, lists)
        if confidence is not None:
            share = share * confidence.to(share.dtype)
        if self.tail == "list":
            self.lists, self.shares = lists, share
            return
        edges = interactions(graph)
        if self.own == "mask":
            self.seen = HeldCSR(edges.by_user())
        self.mass, listed = share.sum(1), lists >= 0
        degree, col, value = listed.sum(1), lists[listed], share[listed]
        if self.own_weight:
            own = edges.by_user()
            rows = torch.arange(edges.num_users, device=col.device).repeat_interleave(degree)
            order = torch.cat([rows, own.row]).argsort(stable=True)
            col = torch.cat([col, own.col])[order]
            value = torch.cat([value, self.own_weight / own.degree[own.row]])[order]
            degree = degree + own.degree
            self.mass = self.mass + self.own_weight * (own.degree > 0)
        ptr = torch.cat([degree.new_zeros(1), degree.cumsum(0)])
        self.targets = HeldCSR(CSR(ptr.to(torch.int32), col.to(torch.int32), value))

    def _shares(self, graph: HeteroData, lists: Tensor) -> Tensor:
        """The teacher's distribution over each list, ``[U, K]``, zero at padding."""
        if self.target == "rank":
            return self._rank_shares(lists)
        if self.teacher_scores:
            x_user, x_item = graph[USER].teacher_x, graph[ITEM].teacher_x
            # In half precision the shares would not add up to one.
            dtype = torch.promote_types(x_user.dtype, torch.float32)
            logit = list_scores(x_user.to(dtype), x_item.to(dtype), lists)
        else:
            logit = trusted_scores(graph, self.num_listed)
            logit = logit.to(torch.promote_types(logit.dtype, torch.float32))
        logit = logit / self.temperature_score
        return padded_softmax(logit.masked_fill(lists < 0, -torch.inf))

    def _rank_shares(self, lists: Tensor) -> Tensor:
        temperatures = self.temperature
        if isinstance(temperatures, float):
            temperatures = (temperatures,)
        weights = self.mixture or (1.0,) * len(temperatures)
        rank = torch.arange(lists.size(1), device=lists.device)
        shares = torch.zeros(lists.shape, device=lists.device)
        for rows in row_blocks(len(lists), lists.size(1), BLOCK_ENTRIES, lists.device):
            padding = lists[rows] < 0
            for temperature, weight in zip(temperatures, weights, strict=True):
                logit = (-rank / temperature).expand(padding.shape).masked_fill(padding, -torch.inf)
                shares[rows] += weight / sum(weights) * padded_softmax(logit)
        return shares

    def rows_read(self, graph: HeteroData, batch: Batch) -> dict[str, Tensor | None]:
        """The unique users of the batch, and the items of their lists or all items."""
        users = batch.unique_users
        return {USER: users, ITEM: self.lists[users] if self.tail == "list" else None}

    def forward(self, x_dict: XDict, graph: HeteroData, batch: Batch) -> Tensor:
        """Compute the cross-entropy of the unique users of the batch."""
        self.ensure_bound(x_dict, graph)
        x_user, x_item = gather_rows(x_dict[USER], batch.unique_users) * self.scale, x_dict[ITEM]
        if self.tail == "list":
            return self._list_loss(x_user, x_item, batch.unique_users)
        users = batch.unique_users
        excluded = part = None
        if self.own == "mask":
            nothing = users.new_empty(len(users), 0)
            excluded = excluded_pairs(*self.seen.get(), users, nothing)
        if self.share < 1:
            part = _draw(x_item, self.share)
        return catalogue_cross_entropy(
            x_user, x_item, users, self.targets.get(), self.mass, excluded=excluded, part=part
        )

    def _list_loss(self, x_user: Tensor, x_item: Tensor, users: Tensor) -> Tensor:
        scores = list_scores(x_user, x_item, self.lists[users])
        return soft_cross_entropy(scores, self.shares[users]).sum()


def _mixture(
    temperature: float | Sequence[float], mixture: Sequence[float] | None
) -> tuple[float | tuple[float, ...], tuple[float, ...] | None]:
    """Temperatures and their weights, checked."""
    if not isinstance(temperature, (tuple, list)):
        several: tuple[Any, ...] = (temperature,)
    else:
        several = tuple(temperature)
        require_count(temperature=len(several))
    for value in several:
        require_positive(temperature=value)
    weights = None if mixture is None else tuple(mixture)
    for value in weights or ():
        require_at_least(0, mixture=value)
    if weights is not None and (len(weights) != len(several) or not any(weights)):
        raise ValueError(
            "'mixture' must have a weight for each temperature, not all 0 "
            f"(got {mixture} for {temperature})"
        )
    if isinstance(temperature, (tuple, list)):
        return tuple(map(float, several)), weights
    return float(several[0]), weights


def _draw(x_item: Tensor, share: float) -> Tensor:
    """A uniform part of the catalogue, int64, at least one item."""
    size = max(round(share * len(x_item)), 1)
    key = torch.rand_like(x_item.detach()[:, 0].float())  # few numbers are distinct in bfloat16
    return key.topk(size, sorted=False).indices
