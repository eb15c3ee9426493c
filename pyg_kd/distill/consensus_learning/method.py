"""ConCF: the heads of a model learn from what they agree on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from numbers import Real
from typing import Literal, get_args

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_choice, require_count, require_positive
from pyg_kd.distill.base import Distillation
from pyg_kd.distill.consensus_learning.head_scores import head_scores
from pyg_kd.functional.consensus import Head, consensus
from pyg_kd.functional.list_likelihood import list_likelihood_loss
from pyg_kd.functional.ranking import top_unseen
from pyg_kd.functional.sparse import HeldCSR, gather_rows
from pyg_kd.graph import interactions
from pyg_kd.typing import ITEM, USER, Batch, XDict

#: After the paper, or as the authors' code times and teaches.
Variant = Literal["paper", "reference"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)

#: A head that ranks in the authors' code and isn't taught.
UNTAUGHT = "item_multinomial"


class ConsensusLearning(Distillation):
    r"""Consensus learning (ConCF) of `"Consensus Learning from Heterogeneous Objectives for
    One-Class Collaborative Filtering" <https://arxiv.org/abs/2202.13140>`_.

    .. math::
        L = - \sum_x \min(\max(w_x, 0.5), 2) \sum_u \sum_{k=1}^{K / 2}
        \log \frac{\exp(s^x_{u, \pi_k})}{\sum_{j=k}^{K} \exp(s^x_{u, \pi_j})}

    over the heads :math:`x` of a model and the unique users of a batch, with :math:`\pi` the
    ``num_listed`` items, unseen by the user, that the heads agree on. The teacher is the model
    itself, so nothing is needed on the graph.

    Every ``period`` epochs each head ranks; from the last ``window`` rankings,
    :func:`~pyg_kd.functional.consensus.consensus` finds the items that stand high now and have
    moved little. Until there are that many the loss is zero: by default it begins with epoch
    50. The rankings are part of the state, so that a run can be resumed.

    The authors' code, ``variant="reference"``, does it as follows.

    * Heads rank after the first epoch, then every ``period`` epochs, and the consensus is always
      that of the ranking *before* the newest. By default the loss begins with epoch 51.
    * In the first consensus all deviations are zero. In all others they are those of the first
      ``window`` rankings after the very first, whatever the heads do later.
    * The head ``"item_multinomial"``, if there is one, ranks and isn't taught.

    In both, a ranking is kept up to ``num_listed``, where the authors keep all places. An item
    that was further down at some time has place ``num_listed`` then, so that its deviation is
    less than theirs. Like theirs it is that of a population. They clip the scores of two heads
    at 40 before they are exponentiated, which is not needed here.

    On CiteULike consensus learning improves the heads, but a matrix factorisation of the same width
    whose weight decay is tuned is above every head and above their consensus, in all metrics: try
    :class:`~pyg_kd.models.MF` with a few weight decays first.

    Args:
        heads: The heads of the student, such as ``model.layout`` of a
            :class:`~pyg_kd.models.MultiBranch`; or their number, if they are inner products of
            equal width side by side. With 1 (default) any such model learns from its own past.
        weights: Called with the names of the heads, returns their weights :math:`w_x`;
            ``model.branch_weights``, for example. By default all are 1.
        window: Rankings that the consensus looks back on.
        period: Epochs from one ranking to the next.
        num_listed: Length :math:`K` of the lists.
        temperature: Decay of the places, in places.
        deviation: Decay of their deviation, in places.
        distance_scale: Factor of the scores of heads of distances.
        scale: Factor of all scores.
        variant: ``"paper"`` (default) or ``"reference"``.

    Raises:
        ValueError: If an option is out of range, or the representations do not hold the heads.

    Example:
        >>> ConsensusLearning(window=3).first_epoch
        30
    """

    lists: Tensor
    agreed: Tensor

    def __init__(
        self,
        *,
        heads: int | Sequence[Head] = 1,
        weights: Callable[[Sequence[str]], Tensor] | None = None,
        window: int = 5,
        period: int = 10,
        num_listed: int = 100,
        temperature: float = 10.0,
        deviation: float = 100.0,
        distance_scale: float = 10.0,
        scale: float = 1.0,
        variant: Variant = "paper",
    ) -> None:
        super().__init__()
        require_choice(VARIANTS, variant=variant)
        self.heads, self.weights = heads, weights
        self.window, self.period, self.num_listed = window, period, num_listed
        self.temperature, self.deviation = temperature, deviation
        self.distance_scale, self.scale, self.variant = distance_scale, scale, variant
        require_count(window=window, period=period)
        require_count(2, num_listed=num_listed)
        require_positive(temperature=temperature, deviation=deviation)
        require_positive(distance_scale=distance_scale, scale=scale)
        if isinstance(heads, Real):
            require_count(heads=heads)
        elif not heads:
            raise ValueError(f"'heads' must be one or more (got {heads})")
        self.num_rankings = 0
        for name in ("lists", "agreed"):
            self.register_buffer(name, None)

    def setup(self, graph: HeteroData, dim: int) -> None:
        """Note who has seen what, and make room for the rankings."""
        edges = interactions(graph)
        self.layout = _heads(self.heads, dim)
        self.seen = HeldCSR(edges.by_user())
        # In the reference variant the newest ranking has a place of its own behind the window.
        num_kept = self.window + (self.variant == "reference")
        size = num_kept, len(self.layout), edges.num_users, self.num_listed
        self.lists = torch.full(size, -1, dtype=torch.int32, device=edges.edge_index.device)
        self.agreed, self.num_rankings = self.lists[0, 0].clone(), 0

    @property
    def first_epoch(self) -> int:
        """The epoch, from 0, with which the loss begins."""
        return self.window * self.period + (self.variant == "reference")

    def on_epoch_start(self, epoch: int, max_epochs: int, x_dict: XDict | None = None) -> None:
        """Let the heads rank, and see what they agree on."""
        reference = self.variant == "reference"
        if epoch == 0 or (epoch - reference) % self.period:
            return
        x_dict = self.require_student(x_dict)
        if reference:
            self._refresh_late(x_dict)
        else:
            newest = self.num_rankings % self.window
            self._rank(x_dict, newest)
            if self.num_rankings >= self.window:
                self._agree(newest, self.deviation)

    def _refresh_late(self, x_dict: XDict) -> None:
        """The consensus of the ranking before, then a new one; see ``variant="reference"``."""
        if self.num_rankings >= self.window:
            first = self.num_rankings == self.window
            self._agree(self.window, inf if first else self.deviation, self.window)
        self._rank(x_dict, self.window)
        if self.num_rankings <= self.window + 1:
            self.lists[(self.num_rankings - 1) % self.window] = self.lists[self.window]

    def _rank(self, x_dict: XDict, place: int) -> None:
        for x, head in enumerate(self.layout):
            vectors = head.vectors(x_dict[USER], x_dict[ITEM])
            self.lists[place, x] = top_unseen(*vectors, *self.seen.get(), self.num_listed)
        self.num_rankings += 1

    def _agree(self, newest: int, deviation: float, num_counted: int | None = None) -> None:
        self.agreed, _ = consensus(
            self.lists,
            self.num_listed,
            newest=newest,
            temperature=self.temperature,
            deviation=deviation,
            num_counted=num_counted,
        )

    def forward(self, x_dict: XDict, graph: HeteroData, batch: Batch) -> Tensor:
        """The list losses of the heads for the unique users of the batch."""
        self.ensure_bound(x_dict, graph)
        x_user, x_item = gather_rows(x_dict[USER], batch.unique_users), x_dict[ITEM]
        if self.num_rankings < self.window + (self.variant == "reference"):
            return (0.0 * (x_user.sum() + x_item.sum())).detach()  # zero, but lets NaN propagate
        taught = [head for head in self.layout if not self._only_ranks(head)]
        vectors = [self._vectors(head, x_user, x_item) for head in taught]
        scores, half = head_scores(vectors, self.agreed[batch.unique_users]), self.num_listed // 2
        losses = list_likelihood_loss(scores[..., :half], scores[..., half:], reduction="none")
        if self.weights is None:
            return losses.sum()
        weights = self.weights([head.name for head in taught])
        return (weights.to(losses.dtype).clamp(0.5, 2.0) * losses.sum(1)).sum()

    def _only_ranks(self, head: Head) -> bool:
        return self.variant == "reference" and head.name == UNTAUGHT

    def _vectors(self, head: Head, x_user: Tensor, x_item: Tensor) -> tuple[Tensor, Tensor]:
        x_user, x_item = head.vectors(x_user, x_item)
        return x_user * (
            self.scale * (self.distance_scale if head.kind == "distance" else 1)
        ), x_item

    def get_extra_state(self) -> Tensor:
        """How many rankings there have been."""
        return torch.tensor(self.num_rankings, device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        """Go on from as many rankings."""
        self.num_rankings = int(state)


def _heads(given: int | Sequence[Head], dim: int) -> tuple[Head, ...]:
    """The heads as columns of representations of width ``dim``."""
    if isinstance(given, int):
        if dim % given:
            raise ValueError(f"'heads' must divide the width {dim} (got {given})")
        width = dim // given
        return tuple(Head(f"head {x}", x * width, (x + 1) * width) for x in range(given))
    if max(head.stop for head in given) > dim:
        raise ValueError(f"'heads' must lie within the width {dim} (got {list(given)})")
    return tuple(given)
