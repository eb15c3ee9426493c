"""Learned weights for objectives that share embedding tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def gradient_balance_loss(
    weights: Tensor, norms: Tensor, losses: Tensor, initial: Tensor, *, power: float = 0.15
) -> Tensor:
    r"""The loss for objective weights from `"GradNorm: Gradient Normalization for Adaptive Loss
    Balancing in Deep Multitask Networks" <https://arxiv.org/abs/1711.02257>`_.

    .. math::
        L_w = \sum_x \Bigl| G_x - \bar G\, r_x^{\alpha} \Bigr|, \qquad G_x = w_x g_x, \qquad
        r_x = \frac{L_x / L_x^0}{\operatorname{mean}_y L_y / L_y^0}

    :math:`g_x` is the gradient norm of the unweighted loss. The norms and the targets
    :math:`\bar G\, r_x^{\alpha}` are treated as constants: only the weights get a gradient.

    Args:
        weights: :math:`w_x`, floating point ``[X]``, non-negative.
        norms: :math:`g_x`, ``[X]``.
        losses: The losses :math:`L_x`, ``[X]``.
        initial: The initial losses :math:`L_x^0`, ``[X]``.
        power: :math:`\alpha`; 0 pulls all norms towards their mean.

    Example:
        >>> ones, weights = torch.ones(2), torch.ones(2, requires_grad=True)
        >>> gradient_balance_loss(weights, torch.tensor([1.0, 3.0]), ones, ones).backward()
        >>> weights.grad
        tensor([-1.,  3.])
    """
    tiny = torch.finfo(losses.dtype).tiny  # a batch may be empty
    rate = losses.detach() / initial.clamp(min=tiny)
    scaled = weights * norms.detach()
    target = scaled.detach().mean() * (rate / rate.mean().clamp(min=tiny)).pow(power)
    return (scaled - target).abs().sum()


@torch.no_grad()
def rescale_(weights: Tensor, *, floor: float = 0.01) -> Tensor:
    """Scale weights to a mean of one, then raise them to at least ``floor``, in place.

    Example:
        >>> rescale_(torch.tensor([3.0, 0.005, 0.995]))
        tensor([2.2500, 0.0100, 0.7463])
    """
    return weights.mul_(weights.numel() / weights.sum()).clamp_(min=floor)


@torch.no_grad()
def renormalize_(weights: Tensor, *, floor: float = 0.01) -> Tensor:
    """Scale weights to a mean of one with none below ``floor``, in place.

    Weights are raised to the floor before scaling, so that their sum is positive even after an
    optimiser step made them negative. Those that scaling takes below the floor are raised again,
    which can lift the mean above one by less than the floor.

    Example:
        >>> renormalize_(torch.tensor([3.0, -1.0, 0.99]))
        tensor([2.2500, 0.0100, 0.7425])
    """
    return rescale_(weights.clamp_(min=floor), floor=floor)


class BranchWeights(nn.Module):
    r"""Weights :math:`w_x` of the branches of a model, learned alongside it.

    They minimise only :func:`~pyg_kd.models.multi_branch.weights.gradient_balance_loss`, with
    :math:`g_x` the gradient norm of :math:`L_x` with respect to the user embeddings plus half of
    that with respect to the item embeddings. :math:`L_x^0` is the loss of the first batch; it is
    part of the state, like the weights.

    Args:
        num_branches: Number of branches.
        learn: Whether to learn the weights; otherwise all stay one.
    """

    initial: Tensor

    def __init__(self, num_branches: int, learn: bool = True) -> None:
        super().__init__()
        self.learn = learn
        self.value = nn.Parameter(torch.ones(num_branches), requires_grad=learn)
        self.register_buffer("initial", torch.full_like(self.value, torch.nan))

    def reset_parameters(self) -> None:
        """Set all weights to one and forget the initial losses."""
        nn.init.ones_(self.value)
        self.initial.fill_(torch.nan)

    def forward(
        self,
        losses: Tensor,
        inputs: Sequence[tuple[Tensor, Tensor]],
        parameters: Sequence[Sequence[Tensor]],
    ) -> Tensor:
        r"""The weighted sum of the losses, which also passes a gradient to the weights.

        Branches share nothing above their inputs, so a single backward pass from the sum of all
        losses yields the gradient of each; the gradients of the weighted sum are multiples of them.

        Args:
            losses: The unweighted losses, ``[X]``.
            inputs: Embeddings of users and items, as separate tensors for each branch.
            parameters: The other tensors that each loss depends on.
        """
        if not (self.learn and losses.requires_grad):
            return (self.value.detach() * losses).sum()
        renormalize_(self.value)
        weights, now = self.value.detach(), losses.detach()
        self.initial.copy_(torch.where(self.initial.isnan(), now, self.initial))
        leaves = [[*pair, *own] for pair, own in zip(inputs, parameters, strict=True)]
        flat = [leaf for own in leaves for leaf in own]
        grads = iter(torch.autograd.grad(losses.sum(), flat, materialize_grads=True))
        norms, scaled = [], []
        for weight, own in zip(weights, leaves, strict=True):
            found = [next(grads) for _ in own]
            user, item = (torch.linalg.vector_norm(grad) for grad in found[:2])
            norms.append(user + 0.5 * item)
            scaled += [weight * grad for grad in found]
        total: Tensor = _KnownGradient.apply((weights * now).sum(), len(flat), *flat, *scaled)
        balance = gradient_balance_loss(self.value, torch.stack(norms), now, self.initial)
        return total + (balance - balance.detach())  # adds a gradient, not a value


class _KnownGradient(torch.autograd.Function):
    """A value whose gradients are already known."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, num_leaves: int, *leaves_and_grads: Tensor) -> Tensor:
        ctx.save_for_backward(*leaves_and_grads[num_leaves:])
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grads = ctx.saved_tensors
        return (None, None, *(grad * known for known in grads), *(None for _ in grads))
