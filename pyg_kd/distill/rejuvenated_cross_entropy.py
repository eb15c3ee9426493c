"""RCE-KD: cross-entropy on lists closed under the student's top items, where it bounds NDCG."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_at_least, require_choice, require_count, require_positive
from pyg_kd.distill.base import Distillation
from pyg_kd.functional.edge_scores import list_scores
from pyg_kd.functional.losses import padded_softmax, soft_cross_entropy
from pyg_kd.functional.ranking import top_unseen
from pyg_kd.functional.ranks import find_in_lists
from pyg_kd.functional.sparse import HeldCSR, gather_rows
from pyg_kd.graph import interactions
from pyg_kd.knowledge.confidence import trusted_lists, trusted_scores
from pyg_kd.knowledge.requirements import check_width
from pyg_kd.typing import ITEM, USER, Batch, XDict

Variant = Literal["paper", "reference"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)

#: Items that the reference variant counts below a candidate, at most.
MAX_BELOW = 50


class RejuvenatedCrossEntropy(Distillation):
    r"""RCE-KD of `"Rejuvenating Cross-Entropy Loss in Knowledge Distillation for Recommender
    Systems" <https://arxiv.org/abs/2509.20989>`_.

    With :math:`Q^T_u, Q^S_u` the top :math:`K` unseen items of teacher and student,

    .. math::
        L = \sum_u (1 - \gamma_u) H_u(Q^S_u) + \gamma_u H_u(A_u), \quad
        H_u(J) = - \sum_{i \in J} c_{ui} \sigma_J(t_{ui}) \log \sigma_J(s_{ui}), \quad
        \gamma_u = e^{-\beta |Q^T_u \cap Q^S_u| / |Q^T_u|}

    over the unique users of a batch (the paper takes the mean), where :math:`\sigma_J` is the
    softmax over the set :math:`J`. At the start of every epoch, or with the first batch, the
    student ranks its candidates, and :math:`L` of them are drawn without replacement, with
    :math:`p_j \propto e^{z_j / \tau}` for the number :math:`z_j` of items of
    :math:`Q^T_u \setminus Q^S_u` that the student ranks below :math:`j`. :math:`A_u` is the union
    of the drawn items and :math:`Q^T_u \setminus Q^S_u`. :math:`c_{ui}` is the teacher's confidence
    in the item's place, or the mean over :math:`Q^T_u` where it does not list the item; 1 unless
    the graph carries ``teacher_confidence``.

    The formulas are those of two summaries of the paper, which agree, and of the authors' code.
    The limit on candidates, drawing without replacement and ``temperature`` come from the code
    alone; its lists also contain training items. A user without a teacher's list contributes
    nothing. :math:`t_{ui}` are inner products of ``teacher_x``, or where the graph has none its
    ``teacher_scores``, of which the lowest of the user is that of every item not listed.

    Args:
        num_listed: Length :math:`K` of both lists.
        num_sampled: Number :math:`L` of items drawn.
        num_candidates: Length of the student's ranking to draw from.
        sampling_temperature: :math:`\tau`.
        beta: :math:`\beta`: the larger it is, the sooner the student's own list dominates.
        temperature: Divides the scores of student and teacher.
        variant: ``"paper"`` (default), or ``"reference"`` for the authors' code: :math:`z_j` counts
            all candidates at or below :math:`j` that are in :math:`Q^T_u`, up to 50, and
            :math:`\gamma_u` takes the share of :math:`Q^T_u` that is among the drawn items.
        scale: Factor on the student's scores :math:`s_{ui}`.

    Raises:
        ValueError: If an option is unknown or out of range, or the graph carries fewer than
            ``num_listed`` items per user.

    Example:
        >>> RejuvenatedCrossEntropy(beta=5.0).num_candidates
        200
    """

    needs: tuple[str, ...] = ("teacher_items", "teacher_x")
    row_wise: tuple[str, ...] = (USER, ITEM)
    tunes = ("temperature", "scale")
    teacher_scores = listed_scores = True

    def __init__(
        self,
        *,
        num_listed: int = 50,
        num_sampled: int = 50,
        num_candidates: int = 200,
        sampling_temperature: float = 10.0,
        beta: float = 3.0,
        temperature: float = 1.0,
        variant: Variant = "paper",
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        require_choice(VARIANTS, variant=variant)
        require_count(num_listed=num_listed, num_sampled=num_sampled)
        require_positive(sampling_temperature=sampling_temperature, temperature=temperature)
        require_positive(scale=scale)
        self.num_listed, self.num_sampled = num_listed, num_sampled
        self.num_candidates, self.sampling_temperature = num_candidates, sampling_temperature
        self.beta, self.temperature, self.variant, self.scale = beta, temperature, variant, scale
        require_at_least(0, beta=beta)
        require_count(max(num_listed, num_sampled), num_candidates=num_candidates)
        self.lists: Tensor | None
        self.target: Tensor | None
        for name in ("taught", "lists", "target"):
            self.register_buffer(name, None, persistent=False)

    def setup(self, graph: HeteroData, dim: int) -> None:
        """Store what is seen and what the teacher lists; the student's lists come later."""
        check_width(graph, type(self).__name__, "teacher_items", self.num_listed, "num_listed")
        self.seen = HeldCSR(interactions(graph).by_user())
        ranked, _ = trusted_lists(graph, self.num_listed)
        self.taught = ranked.to(torch.int32).sort(1).values
        self.lists = self.target = None

    @torch.no_grad()
    def on_epoch_start(self, epoch: int, max_epochs: int, x_dict: XDict | None = None) -> None:
        """Let the student rank, and draw from its candidates."""
        x_dict = self.require_student(x_dict)
        candidates = top_unseen(x_dict[USER], x_dict[ITEM], *self.seen.get(), self.num_candidates)
        taught = find_in_lists(self.taught, candidates)[1] & (candidates >= 0)
        if self.variant == "paper":
            taught[:, : self.num_listed] = False  # on both lists
        below = taught.sum(1, keepdim=True) - taught.cumsum(1)
        below = below if self.variant == "paper" else (below + taught).clamp(max=MAX_BELOW)
        # Gumbel top-k: the largest perturbed log-weights are a draw without replacement.
        key = (below / self.sampling_temperature).masked_fill_(candidates < 0, -torch.inf)
        key -= torch.rand_like(key).log_().neg_().log_()
        place = key.topk(self.num_sampled, dim=1, sorted=False).indices
        parts = candidates[:, : self.num_listed], candidates.gather(1, place)
        self.lists, self.target = torch.cat([part.sort(1).values for part in parts], 1), None

    def _add_teacher(self, graph: HeteroData, lists: Tensor) -> Tensor:
        """Append the teacher's items, and return its weighted distributions over both lists."""
        k = self.num_listed
        taught, confidence = trusted_lists(graph, k)
        both, drawn = (find_in_lists(part, taught)[1] for part in (lists[:, :k], lists[:, k:]))
        self.lists = torch.cat([lists, taught.masked_fill(both | drawn, -1).to(lists.dtype)], 1)
        logits = self._logits(graph, self.lists)
        near, far = (padded_softmax(v / self.temperature) for v in (logits[:, :k], logits[:, k:]))
        listed, shared = taught >= 0, both if self.variant == "paper" else drawn
        share = (shared & listed).sum(1, keepdim=True) / listed.sum(1, keepdim=True)
        gamma = (-self.beta * share).exp()
        target = torch.cat([(1 - gamma) * near, gamma * far], 1).masked_fill(share.isnan(), 0.0)
        return target if confidence is None else target * _weight(self.lists, taught, confidence)

    def _logits(self, graph: HeteroData, items: Tensor) -> Tensor:
        """The teacher's scores of each user's items, -inf at padding."""
        if self.teacher_scores:
            return list_scores(graph[USER].teacher_x, graph[ITEM].teacher_x, items)
        lists, _ = trusted_lists(graph)
        ascending, order = lists.to(items.dtype).sort(1)
        place, listed = find_in_lists(ascending, items)
        scores = trusted_scores(graph).masked_fill(lists < 0, torch.inf)
        lowest = scores.amin(1, keepdim=True).nan_to_num(posinf=0.0)
        found = torch.where(listed, scores.gather(1, order).gather(1, place), lowest)
        return found.masked_fill(items < 0, -torch.inf)

    def _lists_and_target(self, graph: HeteroData) -> tuple[Tensor, Tensor]:
        """All lists, and the teacher's distributions over them, once an epoch as it is wide."""
        assert self.lists is not None
        if self.target is None:
            self.target = self._add_teacher(graph, self.lists)
        return self.lists, self.target

    def rows_read(self, graph: HeteroData, batch: Batch) -> dict[str, Tensor | None]:
        """The unique users of the batch, and the items of their lists."""
        if self.lists is None:  # the student is about to rank for the first time
            return {USER: None, ITEM: None}
        lists, _ = self._lists_and_target(graph)
        return {USER: batch.unique_users, ITEM: lists[batch.unique_users]}

    def forward(self, x_dict: XDict, graph: HeteroData, batch: Batch) -> Tensor:
        """Compute the two cross-entropies of the unique users of the batch."""
        self.ensure_bound(x_dict, graph)
        if self.lists is None:
            self.on_epoch_start(0, 1, x_dict)
        lists, target = self._lists_and_target(graph)
        x_user = gather_rows(x_dict[USER], batch.unique_users) * (self.scale / self.temperature)
        scores = list_scores(x_user, x_dict[ITEM], lists[batch.unique_users])
        target = target[batch.unique_users].to(scores.dtype)
        near = soft_cross_entropy(scores[:, : self.num_listed], target[:, : self.num_listed])
        far = soft_cross_entropy(scores[:, self.num_listed :], target[:, self.num_listed :])
        return (near + far).sum()


def _weight(items: Tensor, taught: Tensor, confidence: Tensor) -> Tensor:
    """The teacher's confidence in items, or its mean over the list where they are not listed."""
    ascending, order = taught.sort(1)
    place, listed = find_in_lists(ascending, items)
    mean = confidence.sum(1, keepdim=True) / (taught >= 0).sum(1, keepdim=True).clamp(min=1)
    return torch.where(listed, confidence.gather(1, order).gather(1, place), mean)
