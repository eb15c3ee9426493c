"""What processes that share a batch tell each other: sums, and gradients."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, distributed, nn

#: Gradients with fewer entries travel together.
SMALL = 1 << 18

#: Kinds of a gradient, as processes tell each other.
NONE, DENSE, ROWS = range(3)


def total(x: Tensor) -> Tensor:
    """The sum of a tensor over all processes, which have to ask for it in the same order."""
    found = x.detach().clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(found)
    return found


@torch.no_grad()
def copy_from_first(tensors: Iterable[Tensor]) -> None:
    """Give all processes the contents that tensors have in the first, whatever their types."""
    for x in tensors:
        if x.numel():
            # Not every type travels.
            content = x.detach().contiguous()
            distributed.broadcast(content.flatten().view(torch.uint8), src=0)
            x.copy_(content)


@torch.no_grad()
def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    r"""Replace the gradient of every parameter by its sum over all processes.

    All get the same bits. A parameter that has no gradient anywhere keeps none, as on one process;
    where only some have one, the others count as zero. Of gradients of rows, sparse in their first
    dimension, the rows travel.

    Args:
        parameters: The same in all processes, in the same order.
    """
    given = list(parameters)
    if not given:
        return
    found = _kinds(given)
    kinds = found[..., 0].amax(0).tolist()
    mixed = ((found[..., 0] == DENSE).any(0) & (found[..., 0] == ROWS).any(0)).tolist()
    dense = []
    for place, (parameter, kind) in enumerate(zip(given, kinds, strict=True)):
        if kind == ROWS and not mixed[place]:
            parameter.grad = _sum_rows(parameter, found[:, place, 1].tolist())
        elif kind != NONE:
            dense.append(_as_dense(parameter))
    small = [grad for grad in dense if grad.numel() < SMALL]
    for grad in dense:
        if grad.numel() >= SMALL:
            distributed.all_reduce(grad)
    for dtype in dict.fromkeys(grad.dtype for grad in small):
        _sum_together([grad for grad in small if grad.dtype == dtype])


def _kinds(parameters: Sequence[nn.Parameter]) -> Tensor:
    """The kind of every gradient and its number of rows, in every process, ``[W, P, 2]``."""
    own = []
    for parameter in parameters:
        grad = parameter.grad
        if grad is not None and grad.is_sparse:
            parameter.grad = grad = grad.coalesce()
            own.append((ROWS, grad._nnz()))
        else:
            own.append((NONE if grad is None else DENSE, 0))
    return torch.stack(_gather(torch.tensor(own, device=parameters[0].device)))


def _gather(x: Tensor) -> list[Tensor]:
    """A tensor of every process, all of one shape."""
    found = [torch.empty_like(x) for _ in range(distributed.get_world_size())]
    distributed.all_gather(found, x)
    return found


def _as_dense(parameter: nn.Parameter) -> Tensor:
    """The gradient, contiguous; zeros where there is none."""
    grad = parameter.grad
    if grad is None:
        grad = torch.zeros_like(parameter, memory_format=torch.contiguous_format)
    parameter.grad = (grad.to_dense() if grad.is_sparse else grad).contiguous()
    return parameter.grad


def _sum_together(grads: Sequence[Tensor]) -> None:
    flat = torch.cat([grad.flatten() for grad in grads])
    distributed.all_reduce(flat)
    for grad, part in zip(grads, flat.split([grad.numel() for grad in grads]), strict=True):
        grad.copy_(part.view_as(grad))


def _sum_rows(parameter: nn.Parameter, counts: Sequence[int]) -> Tensor:
    """The sum of gradients of rows, of which every process has as many as ``counts`` says."""
    grad, most = parameter.grad, max(counts)
    rows = torch.zeros(most, dtype=torch.long, device=parameter.device)
    values = torch.zeros(most, *parameter.shape[1:], dtype=parameter.dtype, device=rows.device)
    if grad is not None:
        rows[: grad._nnz()] = grad.indices()[0]
        values[: grad._nnz()] = grad.values()
    rows, values = (
        torch.cat([part[:count] for part, count in zip(_gather(x), counts, strict=True)])
        for x in (rows, values)
    )
    return torch.sparse_coo_tensor(rows.unsqueeze(0), values, parameter.shape).coalesce()
