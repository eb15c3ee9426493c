"""A mixture of small networks; an entity runs only those it is routed to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch_geometric.index import index2ptr

from pyg_kd.functional.edge_scores import with_ones
from pyg_kd.functional.precision import add_product_, pad_rows, product_dtype
from pyg_kd.functional.sparse import csr_matmul, keep_float32, require_one_device

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


class _Edges:
    """The entity-expert edges that matter, sorted by expert, and their segments."""

    def __init__(self, weight: Tensor) -> None:
        entity, expert = (weight >= MIN_WEIGHT).nonzero(as_tuple=True)
        order = torch.argsort(expert, stable=True)
        self.ptr = index2ptr(entity, weight.size(0)).to(torch.int32)
        self.position = torch.empty_like(order)
        self.position[order] = torch.arange(len(order), device=order.device)
        self.position = self.position.to(torch.int32)
        self.entity, self.expert = entity[order], expert[order]
        self.weight = weight[self.entity, self.expert].unsqueeze(1)
        self.count: list[int] = torch.bincount(expert, minlength=weight.size(1)).tolist()
        self.idle = [m for m, count in enumerate(self.count) if count == 0]

    def to_entities(self, edge_value: Tensor) -> Tensor:
        """Sum over the edges of each entity."""
        one = edge_value.new_ones(len(edge_value))
        total: Tensor = csr_matmul(self.ptr, self.position, one, edge_value)
        return total

    def segments(self, *values: Tensor) -> Iterator[tuple[Any, ...]]:
        """The rows of each expert that has any, from arrays sorted by expert."""
        cuts = zip(*(v.split(self.count) for v in values), strict=True)
        return ((m, *cut) for m, cut in enumerate(cuts) if self.count[m])


def _that_matter(weight: Tensor) -> Tensor:
    """The weights, zero where they are too small to matter; NaN propagates."""
    return weight.masked_fill(weight < MIN_WEIGHT, 0.0)


def _use_all(weight: Tensor) -> bool:
    """Whether so many edges matter that running all experts on all entities is cheaper."""
    return int((weight >= MIN_WEIGHT).sum()) > MAX_DENSITY * weight.numel()


def _with_one(x: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs with a column of ones and weights with the bias as last row."""
    return with_ones(x), torch.cat([w, b.unsqueeze(1)], 1)


# Below, the routing weight is applied to the input, 21 numbers instead of 110 at the default
# widths: z relu(a) = relu(z a) for z >= 0. The bias is a row of the first layer. Where all experts
# run, products are in the precision ``low``; routed ones are too small to gain from it.


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
        n, w1, w2 = len(x), w1.to(low), w2.to(low)
        x, weight, y = pad_rows(x, weight, y, low=low)
        for m in range(weight.size(1)):
            zx = (x * weight[:, m, None]).to(low)
            add_product_(y, torch.mm(zx, w1[m]).relu_(), w2[m])
        return y if len(y) == n else y[:n].clone()
    edges = _Edges(weight)
    hidden = _hidden(x[edges.entity].mul_(edges.weight), edges, w1)
    out = hidden.new_empty(len(hidden), w2.size(2))
    for m, hidden_m, out_m in edges.segments(hidden, out):
        torch.mm(hidden_m, w2[m], out=out_m)
    return y.add_(edges.to_entities(out))


def _hidden(x: Tensor, edges: _Edges, w1: Tensor) -> Tensor:
    hidden = x.new_empty(len(x), w1.size(2))
    for m, x_m, hidden_m in edges.segments(x, hidden):
        torch.mm(x_m, w1[m], out=hidden_m)
    return hidden.relu_()


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
    grad, gx = grad.to(low), torch.zeros_like(x)
    gw1, gw2 = torch.empty_like(w1), torch.empty_like(w2)
    for m in range(weight.size(1)):
        z = weight[:, m, None]
        zx = (x * z).to(low)
        hidden = torch.mm(zx, w1[m]).relu_()
        g_hidden = _relu_backward(grad @ w2[m].t(), hidden)
        torch.mm(hidden.t(), grad, out=gw2[m])
        torch.mm(zx.t(), g_hidden, out=gw1[m])
        g_zx = (g_hidden @ w1[m].t()).to(x.dtype)
        g_weight[:, m] += torch.linalg.vecdot(g_zx, x).mul_(z[:, 0] > 0)[:n]
        gx.addcmul_(g_zx, z)
    return [gx[:n], gw1.to(x.dtype), gw2.to(x.dtype)]


def _backward_routed(
    grad: Tensor, g_weight: Tensor, x: Tensor, weight: Tensor, w1: Tensor, w2: Tensor
) -> list[Tensor]:
    edges = _Edges(weight)
    x, grad = x[edges.entity], grad[edges.entity]
    zx = x * edges.weight
    hidden = _hidden(zx, edges, w1)
    g_hidden, g_zx = torch.empty_like(hidden), torch.empty_like(x)
    gw1, gw2 = torch.empty_like(w1), torch.empty_like(w2)
    for m in edges.idle:
        gw1[m], gw2[m] = 0, 0
    for m, grad_m, hidden_m, g_hidden_m in edges.segments(grad, hidden, g_hidden):
        torch.mm(hidden_m.t(), grad_m, out=gw2[m])
        torch.mm(grad_m, w2[m].t(), out=g_hidden_m)
    _relu_backward(g_hidden, hidden)
    for m, zx_m, g_hidden_m, g_zx_m in edges.segments(zx, g_hidden, g_zx):
        torch.mm(zx_m.t(), g_hidden_m, out=gw1[m])
        torch.mm(g_hidden_m, w1[m].t(), out=g_zx_m)
    g_weight[edges.entity, edges.expert] += torch.linalg.vecdot(g_zx, x)
    return [edges.to_entities(g_zx.mul_(edges.weight)), gw1, gw2]


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
