"""A mixture of small networks; an entity runs only those it is routed to."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pyg_kd.functional.edge_scores import with_ones
from pyg_kd.functional.expert_slots import ExpertSlots
from pyg_kd.functional.precision import add_product_, pad_rows, product_dtype
from pyg_kd.functional.sparse import keep_float32, require_one_device

#: Routing weights below this are exactly zero: they make sharp routing cheap.
MIN_WEIGHT = 1e-6

#: Above this share of edges that matter, routing costs more than it saves.
MAX_DENSITY = 0.5


def mixture_of_experts(
    x: Tensor, weight: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor
) -> Tensor:
    r"""Weighted sum of two-layer networks over the entity-expert edges that matter.

    .. math::
        y_e = \sum_m z_{em} \left( W^2_m \,\mathrm{relu}(W^1_m x_e + b^1_m) + b^2_m \right)

    An edge with :math:`z_{em} < 10^{-6}` is skipped, in value and gradient, so
    the cost depends on the number of edges, not on entities times experts. Under autocast to
    bfloat16 the products run in it where most edges matter; sums over experts do not.

    Args:
        x: Inputs, ``[n, d]``.
        weight: Routing weights :math:`z`, not negative, ``[n, M]``.
        w1: ``[M, d, h]``.
        b1: ``[M, h]``.
        w2: ``[M, h, c]``.
        b2: ``[M, c]``.

    Returns:
        ``[n, c]``.

    Raises:
        ValueError: If the shapes do not fit.
    """
    experts, width, hidden = w1.shape
    shapes = [list(v.shape) for v in (x, weight, b1, w2, b2)]
    n, out = x.size(0), w2.size(-1)
    fitting = [[n, width], [n, experts], [experts, hidden], [experts, hidden, out], [experts, out]]
    if shapes != fitting:
        raise ValueError(f"'x', 'weight', 'b1', 'w2', 'b2' must be {fitting} (got {shapes})")
    low = product_dtype(x.device.type, w1.dtype)
    y: Tensor = _MixtureOfExperts.apply(low, x, weight, w1, b1, w2, b2)
    return y


class _MixtureOfExperts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, low: torch.dtype, *inputs: Tensor) -> Tensor:
        ctx.low = low
        ctx.save_for_backward(*inputs)
        y: Tensor = experts_forward(*inputs, low)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        # Under autocast the forward pass cast its inputs to float32.
        inputs = [v.to(grad.dtype) for v in ctx.saved_tensors]
        return None, *experts_backward(grad.contiguous(), *inputs, ctx.low)


def _that_matter(weight: Tensor) -> Tensor:
    """The weights, zero where they are too small to matter; NaN propagates."""
    return weight.masked_fill(weight < MIN_WEIGHT, 0.0)


def _use_all(weight: Tensor) -> bool:
    """Whether so many edges matter that running all experts on all entities is cheaper."""
    return int((weight >= MIN_WEIGHT).sum()) > MAX_DENSITY * weight.numel()


def _with_one(x: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs with a column of ones and transposed weights with the bias as last column."""
    return with_ones(x), torch.cat([w.transpose(1, 2), b.unsqueeze(2)], 2)


# Below, the routing weight is applied to the input, 21 numbers instead of 110 at the default
# widths: z relu(a) = relu(z a) for z >= 0. The bias is a row of the first layer. In the
# backward pass hidden units are ``[h, n]``, since products of that shape are faster. Where all
# experts run, products are in the precision ``low``; routed ones are too small to gain from it.


@torch.library.custom_op("pyg_kd::experts_forward", mutates_args=())
def experts_forward(
    x: Tensor,
    weight: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    low: torch.dtype,
) -> Tensor:
    """Forward of :func:`mixture_of_experts`."""
    weight = _that_matter(weight)
    y = weight @ b2
    x, w1 = _with_one(x, w1, b1)
    if _use_all(weight):
        return _forward_all(y, x, weight, w1.to(low), w2.to(low))
    slots = ExpertSlots(weight, weight > 0)
    zx = _to_slots(x, slots)
    out = zx.new_empty(len(zx), w2.size(2))
    for m, zx_m, out_m in slots.parts(zx, out):
        hidden = torch.bmm(w1[m], zx_m.transpose(1, 2)).relu_()
        torch.bmm(hidden.transpose(1, 2), w2[m], out=out_m)
    return y.add_(slots.to_entities(out, torch.ones_like(slots.weight)))


def _forward_all(y: Tensor, x: Tensor, weight: Tensor, w1: Tensor, w2: Tensor) -> Tensor:
    n, low = len(x), w1.dtype
    x, weight, y = pad_rows(x, weight, y, low=low)
    # In rows, unlike the backward pass: several threads share them better, and one does not mind.
    for z, w1_m, w2_m in zip(weight.t().contiguous().unsqueeze(2), w1, w2, strict=True):
        hidden = torch.mm((x * z).to(low), w1_m.t()).relu_()
        add_product_(y, hidden, w2_m)
    return y if len(y) == n else y[:n].clone()


def _to_slots(x: Tensor, slots: ExpertSlots) -> Tensor:
    return x.index_select(0, slots.entity_of).mul_(slots.weight_of.unsqueeze(1))


@torch.library.custom_op("pyg_kd::experts_backward", mutates_args=())
def experts_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    low: torch.dtype,
) -> list[Tensor]:
    """Gradients of all six inputs; recomputing the hidden layer is a thirtieth of the work."""
    weight = _that_matter(weight)
    g_weight = (grad @ b2.t()).mul_(weight > 0)
    gb2 = weight.t() @ grad
    x, w1 = _with_one(x, w1, b1)
    if _use_all(weight):
        gx, gw1, gw2 = _backward_all(grad, g_weight, x, weight, w1.to(low), w2.to(low))
    else:
        gx, gw1, gw2 = _backward_routed(grad, g_weight, x, weight, w1, w2)
    views = (gx[:, :-1], gw1[:, :-1], gw1[:, -1])  # which an operator must not return
    gx, gw1, gb1 = (v.clone(memory_format=torch.contiguous_format) for v in views)
    return [gx, g_weight, gw1, gb1, gw2, gb2]


def _backward_all(
    grad: Tensor, g_weight: Tensor, x: Tensor, weight: Tensor, w1: Tensor, w2: Tensor
) -> list[Tensor]:
    n, low = len(x), w1.dtype
    grad, x, weight = pad_rows(grad, x, weight, low=low)
    grad, x, weight = grad.to(low), x.t().contiguous(), weight.t().contiguous()
    gx, gz = torch.zeros_like(x), torch.empty_like(weight)
    gw1, gw2 = torch.empty_like(w1.mT, memory_format=torch.contiguous_format), torch.empty_like(w2)
    for m, z in enumerate(weight):
        zx = (x * z).to(low)
        hidden = torch.mm(w1[m], zx).relu_()
        g_hidden = _relu_backward(w2[m] @ grad.t(), hidden)
        torch.mm(hidden, grad, out=gw2[m])
        torch.mm(zx, g_hidden.t(), out=gw1[m])  # the short side first: three quarters of the time
        g_zx = (w1[m].t() @ g_hidden).to(x.dtype)
        torch.sum(g_zx * x, 0, out=gz[m])
        gx.addcmul_(g_zx, z)
    g_weight += gz.mul_(weight > 0).t()[:n]
    return [gx.t()[:n], gw1.to(x.dtype), gw2.to(x.dtype)]


def _backward_routed(
    grad: Tensor, g_weight: Tensor, x: Tensor, weight: Tensor, w1: Tensor, w2: Tensor
) -> list[Tensor]:
    slots = ExpertSlots(weight, weight > 0)
    zx, grad = _to_slots(x, slots), grad.index_select(0, slots.entity_of)
    g_zx, gw1, gw2 = torch.empty_like(zx), torch.empty_like(w1), torch.empty_like(w2)
    for idle in slots.idle():
        gw1[idle], gw2[idle] = 0.0, 0.0
    for m, zx_m, grad_m, g_zx_m in slots.parts(zx, grad, g_zx):
        hidden = torch.bmm(w1[m], zx_m.transpose(1, 2)).relu_()
        g_hidden = torch.bmm(w2[m], grad_m.transpose(1, 2))
        torch.bmm(hidden, grad_m, out=gw2[m])
        _relu_backward(g_hidden, hidden)
        torch.bmm(g_hidden, zx_m, out=gw1[m])
        torch.bmm(g_hidden.transpose(1, 2), w1[m], out=g_zx_m)
    found = torch.linalg.vecdot(g_zx, x.index_select(0, slots.entity_of))
    g_weight.view(-1).index_add_(0, slots.edge, found.index_select(0, slots.slot))
    return [slots.to_entities(g_zx, slots.weight), gw1.transpose(1, 2), gw2]


def _relu_backward(grad: Tensor, output: Tensor) -> Tensor:
    """``grad`` where the output of the unit is positive, in place."""
    kept: Tensor = torch.ops.aten.threshold_backward.grad_input(grad, output, 0, grad_input=grad)
    return kept


@experts_forward.register_fake
def _(*inputs: Any) -> Tensor:
    *tensors, _low = inputs
    require_one_device(*tensors)
    x, w2 = tensors[0], tensors[4]
    y: Tensor = x.new_empty(x.size(0), w2.size(-1))
    return y


@experts_backward.register_fake
def _(grad: Tensor, *inputs: Any) -> list[Tensor]:
    *tensors, _low = inputs
    require_one_device(grad, *tensors)
    return [torch.empty_like(v) for v in tensors]


keep_float32("pyg_kd::experts_forward", "pyg_kd::experts_backward")
