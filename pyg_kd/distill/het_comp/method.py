"""HetComp: an ensemble of different teachers, from easy states of theirs to the final ones."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_choice, require_count, require_positive
from pyg_kd.distill.base import Distillation
from pyg_kd.distill.het_comp.losses import excluded_pairs, fine_grained_loss, overall_loss
from pyg_kd.distill.het_comp.teacher_states import TeacherStates
from pyg_kd.functional.catalogue import catalogue_logsumexp
from pyg_kd.functional.edge_scores import list_scores
from pyg_kd.functional.ranks import GAINS, Gain
from pyg_kd.functional.sparse import gather_rows
from pyg_kd.graph import interactions
from pyg_kd.typing import ITEM, USER, Batch, XDict


class HetComp(Distillation):
    r"""HetComp of `"Distillation from Heterogeneous Models for Top-K Recommendation"
    <https://arxiv.org/abs/2303.01130>`_.

    A user has a pointer :math:`v_x` to a state on the trajectory of each teacher. At these states
    :math:`c(i) = \sum_x e^{-r_x(i) / 10}` ranks its unobserved items, :math:`N_u` the first
    :math:`K`, and its observed ones, :math:`P_u` the first :math:`K / 10`. Every ``interval``
    epochs a pointer moves on if :math:`D_{then} / D_{now} > \alpha_e` or :math:`< 1`, with
    :math:`\alpha_e = 1.05 \cdot 0.995^{e / interval}` and :math:`D = 1 - \textrm{NDCG@50}` between
    student and state :math:`v_x + 1`, now and when that became the next one; the first time it is
    only measured. The loss is :math:`L_O` until all pointers of all users have arrived, then
    ``fine_weight`` times :math:`L_F`:

    .. math::
        L_O = - \sum_u \sum_{i \in P_u \cup N_u} \log \frac{e^{s_i}}{e^{s_i} + e^{z_u}}, \quad
        L_F = \sum_u L(P_u) + \frac{1}{2} \left[ L(N_u^{1:K/2}) + L(N_u^{1:K/10}) \right]

    over the unique users of a batch: :math:`z_u` is the log-sum-exp over *all* unobserved items
    outside :math:`N_u`. The tail of RRD's list likelihood :math:`L` are all unobserved items that
    are not on the list itself, and with :math:`P_u` those not in :math:`N_u^{1:K/2}`, as in the
    authors' code. With weight 1e-2 the two have the paper's weights. The authors train on them
    alone: give the trainer ``base_weight=0``, and ``batch_by="user"``, which then repeats nobody.

    Theirs are also the first measurement and one phase for all users; they enter the second when
    the mean pointer of every teacher rounds to the last state at two digits, and move pointers
    after epoch 11, 21, ..., not 10, 20, .... Their :math:`P_u` stays as it was loaded. Since
    :math:`\alpha_e < 1` from the tenth move on, all have arrived a few moves later at the latest.
    Ranks beyond a recorded list count for nothing.

    Args:
        num_listed: :math:`K`, or as many as the graph carries.
        interval: Epochs between moves of the pointers.
        alpha: :math:`\alpha_0`, the least approach to the next state.
        alpha_decay: Factor of :math:`\alpha` at every move.
        num_compared: Items at the top of both rankings that :math:`D` looks at.
        gain: What an item is worth to :math:`D`, by its rank in the list of the ``"teacher"``
            (default) or of the ``"student"``, as in the authors' code.
        consistency: Add :math:`e^{-\sigma / 100}` to an item's importance, :math:`\sigma` the
            deviation of its ranks over the states up to the pointer (this package's reading).
        dynamic: ``False`` lists by the final states; the pointers still decide the phase.
        adaptive: ``False``: :math:`L_F` from the start.
        fine_weight: Factor of :math:`L_F`.
        scale: Factor of the student's scores :math:`s_{ui}`.

    Raises:
        ValueError: If an option is unknown or out of range.

    Example:
        >>> HetComp(interval=5).alpha
        1.05
    """

    needs = ("teacher_trajectory", "teacher_observed")

    def __init__(
        self,
        *,
        num_listed: int = 100,
        interval: int = 10,
        alpha: float = 1.05,
        alpha_decay: float = 0.995,
        num_compared: int = 50,
        gain: Gain = "teacher",
        consistency: bool = False,
        dynamic: bool = True,
        adaptive: bool = True,
        fine_weight: float = 0.5,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        require_choice(GAINS, gain=gain)
        require_count(num_listed=num_listed, interval=interval, num_compared=num_compared)
        require_positive(alpha=alpha, fine_weight=fine_weight, scale=scale)
        self.num_listed, self.interval, self.num_compared = num_listed, interval, num_compared
        self.alpha, self.alpha_decay, self.gain = alpha, alpha_decay, gain
        self.consistency, self.dynamic, self.adaptive = consistency, dynamic, adaptive
        self.fine_weight, self.scale = fine_weight, scale
        if not 0 < alpha_decay <= 1:
            raise ValueError(f"'alpha_decay' must lie in (0, 1] (got {alpha_decay})")
        self.lists: Tensor
        self.fine: Tensor
        for name in ("lists", "fine"):
            self.register_buffer(name, None, persistent=False)
        self.register_load_state_dict_post_hook(_relist)

    def setup(self, graph: HeteroData, dim: int) -> None:
        """Point at the first states, and list by them."""
        seen, store = interactions(graph).by_user(), graph[USER]
        items, observed = store.teacher_trajectory, store.teacher_observed
        num = min(self.num_listed, items.size(-1))
        self.sizes = num, max(num // 10, 1)
        self.states = TeacherStates(items, observed, seen, self.num_compared, self.gain)
        self.relist()

    @torch.no_grad()
    def on_epoch_start(self, epoch: int, max_epochs: int, x_dict: XDict | None = None) -> None:
        """Every ``interval`` epochs, let the student rank, move pointers and list anew."""
        if epoch > 0 and epoch % self.interval == 0:
            x_dict = self.require_student(x_dict)
            threshold = self.alpha * self.alpha_decay ** (epoch // self.interval)
            self.states.move(x_dict, threshold)
            self.relist()

    def relist(self) -> None:
        """Lists and phase follow from the pointers."""
        options = {"final": not self.dynamic, "consistency": self.consistency}
        self.lists = self.states.ensemble(*self.sizes, **options)
        self.fine = self.states.arrived | (not self.adaptive)

    def forward(self, x_dict: XDict, graph: HeteroData, batch: Batch) -> Tensor:
        """The loss of the unique users of the batch, coarse or fine."""
        self.ensure_bound(x_dict, graph)
        states, lists = self.states, self.lists[batch.unique_users]
        num_observed = self.sizes[1]
        x_user, x_item = gather_rows(x_dict[USER], batch.unique_users) * self.scale, x_dict[ITEM]
        pairs = excluded_pairs(*states.seen.get(), batch.unique_users, lists[:, num_observed:])
        tail = catalogue_logsumexp(x_user, x_item, excluded=pairs)
        scores = list_scores(x_user, x_item, lists).to(tail.dtype)
        # What remains is cheap beside the tail: both, rather than wait for the device.
        fine = fine_grained_loss(scores[:, :num_observed], scores[:, num_observed:], tail)
        loss = torch.where(self.fine, self.fine_weight * fine, overall_loss(scores, tail))
        return loss.sum()


def _relist(method: HetComp, _: object) -> None:
    if method._bound is not None:
        method.relist()
