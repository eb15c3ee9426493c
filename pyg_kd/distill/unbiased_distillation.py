"""UnKD: the teacher's order among items of similar popularity."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_count, require_positive
from pyg_kd.distill.base import Distillation
from pyg_kd.functional.edge_scores import list_scores
from pyg_kd.functional.ranking import top_unseen
from pyg_kd.functional.sparse import gather_rows
from pyg_kd.graph import Neighbors, interactions, sorted_neighbors
from pyg_kd.typing import ITEM, USER, Batch, XDict


class UnbiasedDistillation(Distillation):
    r"""Unbiased Knowledge Distillation (UnKD) of `"Unbiased Knowledge Distillation for
    Recommendation" <https://arxiv.org/abs/2211.14729>`_.

    .. math::
        L = - \sum_{u} \sum_{g=1}^{G} \sum_{(i, j) \in S_{ug}} \log \sigma(s_{ui} - s_{uj})

    over the unique users of a batch. Items are split by popularity into :math:`G` groups with
    about the same number of interactions; equally popular items share a group, and items without
    interactions belong to none. At binding, the teacher ranks a user's unseen items in each group
    by inner products, its scores. Every epoch, the same number of pairs is drawn from every group:
    two distinct ranks, both with :math:`p(r) \propto e^{-r / \mu}`, of which :math:`i` has the
    better one.

    The paper averages over users, and a public port also over the pairs of a user; this class
    sums, so divide weights from the port by ``num_groups * num_pairs``. How :math:`j` is drawn
    follows the authors' code (4 groups, 30 pairs per user in all, :math:`\mu = 20`, the first
    1000 items of a group). Only ``num_ranked`` items per group are kept; the rest would have a
    probability of :math:`e^{-\mathit{num\_ranked} / \mu}`.

    Args:
        num_groups: Number :math:`G` of groups.
        num_pairs: Number of pairs per user and group.
        num_ranked: Number of items kept per group; memory grows with users times groups times
            this.
        temperature: :math:`\mu`, in ranks.
        scale: Factor on the student's scores :math:`s_{ui}`: the inverse temperature of its base
            loss, if that has one.

    Raises:
        ValueError: If an option is out of range or, at binding, no user has a pair to draw.

    Example:
        >>> UnbiasedDistillation(num_groups=2)
        UnbiasedDistillation(num_groups=2, num_pairs=8, num_ranked=100, temperature=20.0, scale=1.0)
    """

    needs = ("teacher_x",)
    row_wise: tuple[str, ...] = (USER, ITEM)
    tunes = ("temperature",)
    ranks = True
    teacher_scores = True

    def __init__(
        self,
        *,
        num_groups: int = 4,
        num_pairs: int = 8,
        num_ranked: int = 100,
        temperature: float = 20.0,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        require_count(num_groups=num_groups, num_pairs=num_pairs)
        require_count(2, num_ranked=num_ranked)
        require_positive(temperature=temperature, scale=scale)
        self.num_groups, self.num_pairs, self.num_ranked = num_groups, num_pairs, num_ranked
        self.temperature, self.scale = temperature, scale
        self.ranked: Tensor
        self.pairs: Tensor
        for name in ("ranked", "pairs"):
            self.register_buffer(name, None, persistent=False)

    def setup(self, graph: HeteroData, dim: int) -> None:
        """Group the items, and rank each group for every user."""
        edges = interactions(graph)
        seen, num_items = edges.by_user(), edges.num_items
        group = popularity_groups(torch.bincount(seen.col, minlength=num_items), self.num_groups)
        x_user, x_item = graph[USER].teacher_x, graph[ITEM].teacher_x
        shape = (edges.num_users, self.num_groups, self.num_ranked)
        self.ranked = torch.full(shape, -1, dtype=torch.int32, device=seen.col.device)
        for g in range(self.num_groups):
            members = (group == g).nonzero().squeeze(1)
            if members.numel():
                rank_members(x_user, x_item, members, seen, out=self.ranked[:, g])
        if not bool((self.ranked[:, :, 1] >= 0).any()):
            raise ValueError(
                "UnbiasedDistillation has no pair to draw: none of the "
                f"{edges.num_users} users of 'graph' has two unseen items in one popularity "
                f"group, and items without interactions belong to none (got num_groups="
                f"{self.num_groups})"
            )

    def draw(self) -> None:
        """Redraw all pairs, int32 ``[U, G, 2, P]``, the better item first; -1 where none exists."""
        shape, device = (*self.ranked.shape[:2], self.num_pairs), self.ranked.device
        size = (self.ranked >= 0).sum(2, keepdim=True)
        waiting = torch.empty((2, *shape), dtype=torch.double, device=device).exponential_()
        first, other = (waiting * self.temperature).long()
        # A geometric number modulo n follows the distribution truncated at n. The second skips the
        # first: a pair a < b comes as (b, a) with p(a) p(b), as (a, b) with e^(1/mu) times that.
        first, other = first % size.clamp(min=1), other % (size - 1).clamp(min=1)
        other = other + (other >= first)
        places = torch.stack([torch.minimum(first, other), torch.maximum(first, other)], dim=2)
        items = self.ranked.gather(2, places.flatten(2)).masked_fill_(size < 2, -1)
        self.pairs = items.view_as(places)

    def rows_read(self, graph: HeteroData, batch: Batch) -> dict[str, Tensor | None]:
        """The unique users of the batch, and the items of their pairs."""
        return {USER: batch.unique_users, ITEM: self.pairs[batch.unique_users]}

    def forward(self, x_dict: XDict, graph: HeteroData, batch: Batch) -> Tensor:
        """Compute the pairwise loss of the unique users of the batch."""
        self.ensure_bound(x_dict, graph)
        pairs = self.pairs[batch.unique_users]
        x_user = gather_rows(x_dict[USER], batch.unique_users) * self.scale
        scores = list_scores(x_user, x_dict[ITEM], pairs.flatten(1)).view_as(pairs)
        better, worse = scores.unbind(2)
        listed = pairs[:, :, 0] >= 0
        return softplus(torch.where(listed, worse - better, -torch.inf)).sum()


def popularity_groups(popularity: Tensor, num_groups: int) -> Tensor:
    """Groups with equally many interactions, the most popular first, int64 ``[I]``; -1 for none."""
    value = torch.bincount(popularity)
    mass = value * torch.arange(value.numel(), device=value.device)
    above = mass.sum() - mass.cumsum(0)
    # Equally popular items go where the middle of their mass falls: ids do not matter.
    group = (2 * above + mass) * num_groups // (2 * mass.sum()).clamp(min=1)
    group[0] = -1
    return group.clamp(max=num_groups - 1)[popularity]


def rank_members(
    x_user: Tensor, x_item: Tensor, members: Tensor, seen: Neighbors, *, out: Tensor
) -> None:
    """Write the best unseen ``members`` of every user to ``out``, ``[U, K]``, padded with -1."""
    num_users, x_member = x_user.size(0), x_item[members]
    place = torch.full((x_item.size(0),), -1, device=members.device)
    place[members] = torch.arange(members.numel(), device=members.device)
    owner, hidden = seen.row, place[seen.col]
    inside = hidden >= 0
    seen = sorted_neighbors(owner[inside], hidden[inside], num_users, members.numel())
    ranked = top_unseen(x_user, x_member, *seen, out.size(1))
    items = members[ranked.clamp(min=0).long()].to(out.dtype)
    out.copy_(items.masked_fill_(ranked < 0, -1))
