"""HetComp: learn from an ensemble of different teachers, from their early states to the last."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_choice, require_count, require_positive
from pyg_kd.distill.base import Distillation
from pyg_kd.distill.het_comp.losses import fine_grained_loss, overall_loss
from pyg_kd.distill.het_comp.teacher_states import TeacherStates
from pyg_kd.functional.catalogue import catalogue_logsumexp, excluded_pairs
from pyg_kd.functional.edge_scores import list_scores
from pyg_kd.functional.ranks import GAINS, Gain
from pyg_kd.functional.sparse import gather_rows
from pyg_kd.graph import interactions
from pyg_kd.typing import ITEM, USER, Batch, XDict


class HetComp(Distillation):
    r"""HetComp of `"Distillation from Heterogeneous Models for Top-K Recommendation"
    <https://arxiv.org/abs/2303.01130>`_.

    For every teacher a user has a pointer :math:`v_x` to a state on its trajectory. At these states
    :math:`c(i) = \sum_x e^{-r_x(i) / 10}` ranks the user's unobserved items, of which :math:`N_u`
    are the first :math:`K`, and its observed ones, of which :math:`P_u` are the first
    :math:`K / 10`. Every ``interval`` epochs a pointer advances if
    :math:`D_{then} / D_{now} > \alpha_e` or :math:`< 1`. Here
    :math:`\alpha_e = 1.05 \cdot 0.995^{e / interval}`, and :math:`D = 1 - \textrm{NDCG@50}`
    between the student and state :math:`v_x + 1`, now and when that became the next state; the
    first time it is only measured. The loss is :math:`L_O` until all pointers of all users have
    arrived, then ``fine_weight`` times :math:`L_F`:

    .. math::
        L_O = - \sum_u \sum_{i \in P_u \cup N_u} \log \frac{e^{s_i}}{e^{s_i} + e^{z_u}}, \quad
        L_F = \sum_u L(P_u) + \frac{1}{2} \left[ L(N_u^{1:K/2}) + L(N_u^{1:K/10}) \right]

    over the unique users of a batch, with :math:`z_u` the log-sum-exp over *all* unobserved items
    outside :math:`N_u`. The tail of RRD's list likelihood :math:`L` is all unobserved items that
    are not on the list; for :math:`P_u` it is those not in :math:`N_u^{1:K/2}`, as in the
    authors' code. At weight 1e-2 both losses have the paper's weights. The authors train on them
    alone: pass ``base_weight=0`` to the trainer, and ``batch_by="user"``, so that an epoch visits
    every user once.

    That the first time only measures, and that all users share one phase, is taken from the
    authors' code as well. Theirs differs in that it enters the second phase when the mean pointer
    of every teacher, rounded to two digits, is the last state; moves pointers after epoch 11,
    21, ... instead of 10, 20, ...; and keeps :math:`P_u` as it was loaded. Since
    :math:`\alpha_e < 1` from the tenth move on, all pointers arrive a few moves later at the
    latest. Ranks beyond the recorded lists are ignored.

    Args:
        num_listed: :math:`K`, at most what the graph carries.
        interval: Epochs between moves of the pointers.
        alpha: :math:`\alpha_0`, how much closer to the next state a student must have come.
        alpha_decay: Factor of :math:`\alpha` at every move.
        num_compared: Items at the top of both rankings that :math:`D` compares.
        gain: Whose rank decides what an item is worth to :math:`D`: the ``"teacher"``'s (default),
            or the ``"student"``'s, as in the authors' code.
        consistency: Add :math:`e^{-\sigma / 100}` to an item's importance, :math:`\sigma` the
            deviation of its ranks over the states up to the pointer (our reading of the paper).
        dynamic: With ``False``, lists are those of the final states, and the pointers decide the
            phase alone.
        adaptive: With ``False``, the loss is :math:`L_F` from the start.
        fine_weight: Factor of :math:`L_F`.
        scale: Factor of the student's scores :math:`s_{ui}`.

    Raises:
        ValueError: If an option is unknown or out of range.

    Example:
        >>> HetComp(interval=5).alpha
        1.05
    """

    needs = ("teacher_trajectory", "teacher_observed")
    row_wise: tuple[str, ...] = (USER,)

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
        self.register_buffer("lists", None, persistent=False)
        self.fine = not adaptive
        self.register_load_state_dict_post_hook(_relist)

    def setup(self, graph: HeteroData, dim: int) -> None:
        """Point at the first states, and make their lists."""
        seen, store = interactions(graph).by_user(), graph[USER]
        items, observed = store.teacher_trajectory, store.teacher_observed
        num = min(self.num_listed, items.size(-1))
        self.sizes = num, max(num // 10, 1)
        self.states = TeacherStates(items, observed, seen, self.num_compared, self.gain)
        self.relist()

    @torch.no_grad()
    def on_epoch_start(self, epoch: int, max_epochs: int, x_dict: XDict | None = None) -> None:
        """Every ``interval`` epochs, rank by the student, advance pointers and update the lists."""
        if epoch > 0 and epoch % self.interval == 0:
            x_dict = self.require_student(x_dict)
            threshold = self.alpha * self.alpha_decay ** (epoch // self.interval)
            self.states.move(x_dict, threshold)
            self.relist()

    def relist(self) -> None:
        """Update the lists and the phase from the pointers."""
        options = {"final": not self.dynamic, "consistency": self.consistency}
        self.lists = self.states.ensemble(*self.sizes, **options)
        # Read here, so that no step has to wait for the device to know its loss.
        self.fine = not self.adaptive or bool(self.states.arrived)

    def forward(self, x_dict: XDict, graph: HeteroData, batch: Batch) -> Tensor:
        """The loss of the unique users of the batch, coarse or fine."""
        self.ensure_bound(x_dict, graph)
        states, lists = self.states, self.lists.index_select(0, batch.unique_users)
        num_observed = self.sizes[1]
        x_user, x_item = gather_rows(x_dict[USER], batch.unique_users) * self.scale, x_dict[ITEM]
        pairs = excluded_pairs(*states.seen.get(), batch.unique_users, lists[:, num_observed:])
        tail = catalogue_logsumexp(x_user, x_item, excluded=pairs)
        scores = list_scores(x_user, x_item, lists).to(tail.dtype)
        if not self.fine:
            return overall_loss(scores, tail).sum()
        fine = fine_grained_loss(scores[:, :num_observed], scores[:, num_observed:], tail)
        return self.fine_weight * fine.sum()


def _relist(method: HetComp, _: object) -> None:
    if method._bound is not None:
        method.relist()
