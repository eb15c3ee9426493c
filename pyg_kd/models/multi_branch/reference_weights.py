"""The weights of several objectives, learned as in the authors' code."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pyg_kd.models.multi_branch.weights import rescale_
from pyg_kd.typing import XDict

Pair = tuple[Tensor, Tensor]

#: Warm-up epochs; the last batch of the last one gives the initial losses.
WARM_UP = 11


class BranchInputs:
    """Two views of both tables per branch: one for its objective, one for everything else.

    In the backward pass they separate the gradients of the branches, and within a branch the
    gradient of its objective from the rest.
    """

    def __init__(self, weights: Tensor, user: Tensor, item: Tensor) -> None:
        #: The losses relative to their initial values, once known. A separate list, so that the
        #: autograd graph holds no reference to tensors that refer back to it.
        self.rates: list[Tensor] = []
        copies = _Copies.apply(weights, self.rates, user, item)
        pairs: list[Pair] = list(zip(copies[::2], copies[1::2], strict=True))
        self.objective, self.other = pairs[: len(weights)], pairs[len(weights) :]


class BranchVectors(dict[str, Tensor]):
    """Representations that keep the branch inputs they were computed from."""

    def __init__(self, x_dict: XDict, inputs: BranchInputs) -> None:
        super().__init__(x_dict)
        self.inputs = inputs


class ReferenceWeights(nn.Module):
    r"""Weights :math:`w_x` of the branches of a model, learned as in the authors' code.

    .. math::
        L_w = \sum_x \Bigl| G_x - \bar G\, r_x^{0.15} \Bigr|, \qquad
        r_x = \frac{w_x L_x / L_x^0}{\operatorname{mean}_y w_y L_y / L_y^0}

    with :math:`G_x` the norm of the *whole* gradient that branch :math:`x` passes to the user
    embeddings, including that of a consensus loss, plus half of that to the item embeddings. Only
    its part from :math:`w_x L_x` depends on the weights; targets are constants. :math:`L_x^0` is
    the weighted loss of the current batch during the warm-up of 11 epochs (:math:`r_x = 1`), and
    afterwards that of the last warm-up batch. An epoch counts as many interactions as the graph
    has edges. Before each batch, weights are scaled to a mean of one and *then* raised to 0.01.

    The authors' code also lets :math:`L_w` reach the model's parameters through second
    derivatives; here, as in the paper, it reaches only the weights.

    Args:
        num_branches: Number of branches.
        learn: Whether to learn the weights; otherwise all stay one.
    """

    #: No weight decay: the authors train the weights with a separate Adam at the model's learning
    #: rate. Its moments are per entry, so sharing the optimiser changes nothing else.
    decays = False

    initial: Tensor
    num_seen: Tensor

    def __init__(self, num_branches: int, learn: bool = True) -> None:
        super().__init__()
        self.learn = learn
        self.value = nn.Parameter(torch.ones(num_branches), requires_grad=learn)
        self.register_buffer("initial", torch.full_like(self.value, torch.nan))
        seen = torch.zeros((), dtype=torch.long, device=self.value.device)
        self.register_buffer("num_seen", seen)

    def reset_parameters(self) -> None:
        """Set all weights to one and restart the warm-up."""
        nn.init.ones_(self.value)
        self.initial.fill_(torch.nan)
        self.num_seen.zero_()

    def inputs(self, user: Tensor, item: Tensor) -> BranchInputs:
        """Wrap the embeddings ``[U, d]`` and ``[I, d]`` for the branches to read."""
        return BranchInputs(self.value, user, item)

    def forward(
        self, losses: Tensor, inputs: BranchInputs, batch_size: int, num_visits: int
    ) -> Tensor:
        """The weighted sum of the losses, whose backward pass also sets the weights' gradient.

        Args:
            losses: The unweighted losses, ``[X]``, computed from ``inputs.objective``.
            inputs: What the branches read.
            batch_size: Interactions in the batch.
            num_visits: Interactions that an epoch visits.
        """
        if not (self.learn and losses.requires_grad):
            return (self.value.detach() * losses).sum()
        rescale_(self.value)
        weighted = self.value.detach() * losses
        now = weighted.detach()
        warm = (self.num_seen < WARM_UP * num_visits) | self.initial.isnan()
        self.initial.copy_(torch.where(warm, now, self.initial))
        if self.training:
            self.num_seen += batch_size
        tiny = torch.finfo(now.dtype).tiny  # a batch may be empty
        rates = now / self.initial.clamp(min=tiny)
        inputs.rates[:] = [rates / rates.mean().clamp(min=tiny)]
        return weighted.sum()


def balance_gradient(
    weights: Tensor,
    total: Sequence[Tensor | None],
    own: Sequence[Tensor | None],
    rates: Tensor,
    power: float = 0.15,
) -> Tensor:
    r"""The gradient of the balance :math:`L_w` with respect to the weights.

    A part :math:`w g + c` of the gradient with norm :math:`n` grows by
    :math:`\langle w g + c, g \rangle / n` with its weight.

    Args:
        weights: :math:`w_x`, ``[X]``.
        total: The gradients that each branch passes to users and to items, ``2 X`` in all, branch
            by branch.
        own: Their part :math:`w_x g_x` from the branch's weighted objective.
        rates: :math:`r_x`, ``[X]``.
        power: Exponent of the rates in the targets.
    """
    norms, slopes = weights.new_zeros(len(total)), weights.new_zeros(len(total))
    for k, (whole, part) in enumerate(zip(total, own, strict=True)):
        if whole is not None:
            norms[k] = torch.linalg.vector_norm(whole)
            if part is not None:
                slopes[k] = (whole * part).sum() / norms[k].clamp(min=torch.finfo(norms.dtype).tiny)
    sides = weights.new_tensor([1.0, 0.5])
    norm = norms.view(-1, 2) @ sides
    target = norm.mean() * rates.pow(power)
    return (norm - target).sign() * (slopes.view(-1, 2) @ sides) / weights


class _Copies(torch.autograd.Function):
    """``2 X`` views of both tables, whose backward pass sees every branch's gradients."""

    @staticmethod
    def forward(
        ctx: Any, weights: Tensor, rates: list[Tensor], user: Tensor, item: Tensor
    ) -> tuple[Tensor, ...]:
        # Not saved for backward: weights are rescaled in place later, and the new values count.
        ctx.weights, ctx.rates = weights, rates
        ctx.set_materialize_grads(False)
        pairs = ((user.view_as(user), item.view_as(item)) for _ in range(2 * len(weights)))
        return tuple(chain.from_iterable(pairs))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        half = len(grads) // 2
        own, other = grads[:half], grads[half:]
        total = [_sum(pair) for pair in zip(own, other, strict=True)]
        balance = None
        if ctx.rates and any(part is not None for part in own):
            balance = balance_gradient(ctx.weights.detach(), total, own, ctx.rates[0])
        return balance, None, _sum(total[::2]), _sum(total[1::2])


def _sum(grads: Sequence[Tensor | None]) -> Tensor | None:
    known = [grad for grad in grads if grad is not None]
    out = known[0] if known else None
    for grad in known[1:]:
        out = grad if out is None else out + grad
    return out
