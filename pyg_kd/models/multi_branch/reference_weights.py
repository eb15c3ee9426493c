"""The weights of several objectives as the authors' code learns them."""

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

#: Epochs of which the last batch gives the initial losses: 0 to 10.
WARM_UP = 11


class BranchInputs:
    """Two tables once more for every branch: to its objective, and to all else that reads it.

    Going backward, the gradients of a branch can so be told from those of the others, and those
    of its objective from the rest.
    """

    def __init__(self, weights: Tensor, user: Tensor, item: Tensor) -> None:
        #: The losses relative to what they were at first, once they are known. A list of its own,
        #: so that the graph that waits for them doesn't refer to the tensors that refer to it.
        self.rates: list[Tensor] = []
        copies = _Copies.apply(weights, self.rates, user, item)
        pairs: list[Pair] = list(zip(copies[::2], copies[1::2], strict=True))
        self.objective, self.other = pairs[: len(weights)], pairs[len(weights) :]


class BranchVectors(dict[str, Tensor]):
    """Representations that remember the inputs of the branches they come from."""

    def __init__(self, x_dict: XDict, inputs: BranchInputs) -> None:
        super().__init__(x_dict)
        self.inputs = inputs


class ReferenceWeights(nn.Module):
    r"""Weights :math:`w_x` of the branches of a model, learnt beside it as in the authors' code.

    .. math::
        L_w = \sum_x \Bigl| G_x - \bar G\, r_x^{0.15} \Bigr|, \qquad
        r_x = \frac{w_x L_x / L_x^0}{\operatorname{mean}_y w_y L_y / L_y^0}

    with :math:`G_x` the norm of *all* the gradient that branch :math:`x` hands to the embeddings
    of users, that of a consensus loss included, plus half of that to those of items. Only
    :math:`w_x L_x` in it depends on the weights; targets are constant. The :math:`L_x^0` are
    weighted losses, those of the current batch as long as the warm-up of 11 epochs lasts
    (:math:`r_x = 1`), then those of its last batch. An epoch is as many interactions as the graph
    has edges. Before each batch weights are scaled to a mean of one and *then* raised to 0.01.

    Their code also lets :math:`L_w` reach the parameters of the model, through second
    derivatives; here, as in the paper, it reaches the weights alone.

    Args:
        num_branches: Number of branches.
        learn: Learn the weights; otherwise all stay one.
    """

    #: The authors train the weights by an Adam of their own, at the rate of the model and without
    #: its weight decay. An entry has its own moments in any case.
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
        """All weights are one, and no loss has been seen."""
        nn.init.ones_(self.value)
        self.initial.fill_(torch.nan)
        self.num_seen.zero_()

    def inputs(self, user: Tensor, item: Tensor) -> BranchInputs:
        """Embeddings of users and items, ``[U, d]`` and ``[I, d]``, as the branches read them."""
        return BranchInputs(self.value, user, item)

    def forward(
        self, losses: Tensor, inputs: BranchInputs, batch_size: int, num_edges: int
    ) -> Tensor:
        """The weighted sum of the losses. Going backward, the weights get their gradient too.

        Args:
            losses: ``[X]``, made of ``inputs.objective``.
            inputs: What the branches read.
            batch_size: Interactions in the batch.
            num_edges: Interactions of an epoch.
        """
        if not (self.learn and losses.requires_grad):
            return (self.value.detach() * losses).sum()
        rescale_(self.value)
        weighted = self.value.detach() * losses
        now = weighted.detach()
        warm = (self.num_seen < WARM_UP * num_edges) | self.initial.isnan()
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
    r"""The gradient of the balance :math:`L_w` in the weights.

    A part :math:`w g + c` of the gradient with norm :math:`n` grows by
    :math:`\langle w g + c, g \rangle / n` with its weight.

    Args:
        weights: :math:`w_x`, ``[X]``.
        total: All that a branch hands to users, to items, then the next branch: ``2 X`` gradients.
        own: Of it :math:`w_x g_x`, what its weighted objective hands down.
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
    """The same two tables ``2 X`` times; all gradients of all branches come together again here."""

    @staticmethod
    def forward(
        ctx: Any, weights: Tensor, rates: list[Tensor], user: Tensor, item: Tensor
    ) -> tuple[Tensor, ...]:
        # Weights are rescaled in place before they are used: what counts is how they are then.
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
