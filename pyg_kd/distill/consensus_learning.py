"""ConCF: the heads of one model learn what they agree on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch_geometric.data import HeteroData
from torch_geometric.index import index2ptr

from pyg_kd.checks import require_count, require_positive
from pyg_kd.distill.base import Distillation
from pyg_kd.functional.consensus import Head, consensus
from pyg_kd.functional.list_likelihood import list_likelihood_loss
from pyg_kd.functional.ranking import top_unseen
from pyg_kd.functional.sparse import HeldCSR, csr_matmul, gather_rows, sampled_matmul
from pyg_kd.graph import interactions
from pyg_kd.typing import ITEM, USER, Batch, XDict


class ConsensusLearning(Distillation):
    r"""Consensus learning (ConCF) of `"Consensus Learning from Heterogeneous Objectives for
    One-Class Collaborative Filtering" <https://arxiv.org/abs/2202.13140>`_.

    .. math::
        L = - \sum_x \min(\max(w_x, 0.5), 2) \sum_u \sum_{k=1}^{K / 2}
        \log \frac{\exp(s^x_{u, \pi_k})}{\sum_{j=k}^{K} \exp(s^x_{u, \pi_j})}

    over the heads :math:`x` of a model and the unique users of a batch, with :math:`\pi` the
    ``num_listed`` items, unseen by the user, that the heads agree on. The teacher is the model
    itself: nothing is needed on the graph.

    Every ``period`` epochs each head ranks; from the last ``window`` rankings,
    :func:`~pyg_kd.functional.consensus.consensus` takes how high items stand now and how
    little they moved. Until there are as many the loss is zero: by default it begins with epoch
    50. The rankings are part of the state, so that a run can go on.

    The authors keep the places of all items, here are the first ``num_listed`` of each ranking.
    So the deviation of an item that was further down at some time counts that time as place
    ``num_listed``, which is less than theirs. Whether theirs is that of a population (as here)
    or of a sample could not be established.

    Args:
        heads: The heads of the student, ``model.layout`` of a
            :class:`~pyg_kd.models.MultiBranch`; or their number, if they are inner products of
            equal width side by side. 1 (default) teaches any such model by its own past.
        weights: Called with the names of the heads, returns their weights :math:`w_x`:
            ``model.branch_weights``. All are 1 by default.
        window: Rankings that the consensus looks back on.
        period: Epochs from one ranking to the next.
        num_listed: Length :math:`K` of the lists.
        temperature: Decay of the places, in places.
        deviation: Decay of their deviation, in places.
        distance_scale: Factor of the scores of heads that are squared distances.
        scale: Factor of all scores.

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
    ) -> None:
        super().__init__()
        self.heads, self.weights = heads, weights
        self.window, self.period, self.num_listed = window, period, num_listed
        self.temperature, self.deviation = temperature, deviation
        self.distance_scale, self.scale = distance_scale, scale
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
        size = self.window, len(self.layout), edges.num_users, self.num_listed
        self.lists = torch.full(size, -1, dtype=torch.int32, device=edges.edge_index.device)
        self.agreed, self.num_rankings = self.lists[0, 0].clone(), 0

    @property
    def first_epoch(self) -> int:
        """The epoch, from 0, with which the loss begins."""
        return self.window * self.period

    def on_epoch_start(self, epoch: int, max_epochs: int, x_dict: XDict | None = None) -> None:
        """Let the heads rank in place of the oldest ranking, and see what they agree on."""
        if epoch == 0 or epoch % self.period:
            return
        x_dict = self.require_student(x_dict)
        newest = self.num_rankings % self.window
        for x, head in enumerate(self.layout):
            vectors = head.vectors(x_dict[USER], x_dict[ITEM])
            self.lists[newest, x] = top_unseen(*vectors, *self.seen.get(), self.num_listed)
        self.num_rankings += 1
        if self.num_rankings >= self.window:
            self.agreed, _ = consensus(
                self.lists,
                self.num_listed,
                newest=newest,
                temperature=self.temperature,
                deviation=self.deviation,
            )

    def forward(self, x_dict: XDict, graph: HeteroData, batch: Batch) -> Tensor:
        """The list losses of the heads for the unique users of the batch."""
        self.ensure_bound(x_dict, graph)
        x_user, x_item = gather_rows(x_dict[USER], batch.unique_users), x_dict[ITEM]
        if self.num_rankings < self.window:
            return (0.0 * (x_user.sum() + x_item.sum())).detach()  # what is NaN has to show
        vectors = [self._vectors(head, x_user, x_item) for head in self.layout]
        scores, half = head_scores(vectors, self.agreed[batch.unique_users]), self.num_listed // 2
        losses = list_likelihood_loss(scores[..., :half], scores[..., half:], reduction="none")
        if self.weights is None:
            return losses.sum()
        weights = self.weights([head.name for head in self.layout])
        return (weights.to(losses.dtype).clamp(0.5, 2.0) * losses.sum(1)).sum()

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


def head_scores(vectors: Sequence[tuple[Tensor, Tensor]], items: Tensor) -> Tensor:
    r"""The scores that several heads give to each user's own list of items.

    The same as :func:`~pyg_kd.functional.list_scores` for each head; the edges are sorted
    by item, which the backward pass needs, once and not for every head.

    Args:
        vectors: Users ``[B, d]`` and items ``[I, d]`` of each head, ``d`` its own.
        items: Item ids, ``[B, K]``, padded with -1.

    Returns:
        ``[heads, B, K]``, with ``-inf`` at the padding.

    Example:
        >>> x = torch.eye(2)
        >>> head_scores([(x, x), (2 * x, x)], torch.tensor([[0], [-1]]))[:, :, 0]
        tensor([[1., -inf],
                [2., -inf]])
    """
    flat = [x for pair in vectors for x in pair]
    scores: Tensor = _HeadScores.apply(items.clamp(min=0).to(torch.int32), *flat)
    return torch.where(items < 0, -torch.inf, scores)


class _HeadScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, items: Tensor, *flat: Tensor) -> Tensor:
        ctx.save_for_backward(items, *flat)
        steps = torch.arange(items.size(0) + 1, device=items.device, dtype=torch.int32)
        ctx.ptr = steps * items.size(1)
        x = [value.contiguous() for value in flat]
        pairs = zip(x[::2], x[1::2], strict=True)
        scores = [sampled_matmul(ctx.ptr, items.flatten(), user, item) for user, item in pairs]
        return torch.stack(scores).view(len(scores), *items.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        items, *flat = ctx.saved_tensors
        col, order = items.flatten().sort(stable=True)
        row = order.div(items.size(1), rounding_mode="floor").to(torch.int32)
        col_ptr, out = index2ptr(col, flat[1].size(0)), list[Tensor | None]([None])
        for g, user, item in zip(grad.flatten(1), flat[::2], flat[1::2], strict=True):
            out.append(csr_matmul(ctx.ptr, items.flatten(), g, item.contiguous()))
            out.append(csr_matmul(col_ptr, row, g[order], user.contiguous()))
        return tuple(out)
