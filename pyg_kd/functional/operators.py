"""Operators of this package, which tracers, fake tensors and autocast see as one operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

F = TypeVar("F", bound=Callable[..., Any])

#: The function behind each operator, for whatever has to look inside.
FUNCTIONS: dict[str, Callable[..., Any]] = {}


def operator(name: str) -> Callable[[Callable[..., Any]], Any]:
    """Make a function of tensors the operator ``pyg_kd::name``; it has no gradient of its own.

    It is called through PyTorch's dispatcher alone, in a third of the time of
    :func:`torch.library.custom_op`, which looks for aliases after every call: the function returns
    tensors that it made. :func:`shapes_of` tells what it returns.

    Args:
        name: ``"pyg_kd::name"``.

    Example:
        >>> @operator("pyg_kd::twice")
        ... def twice(x: torch.Tensor) -> torch.Tensor:
        ...     return 2 * x
        >>> twice(torch.ones(2))
        tensor([2., 2.])
    """

    def register(function: Callable[..., Any]) -> Any:
        schema = torch.library.infer_schema(function, mutates_args=())
        torch.library.define(name, schema, tags=torch.Tag.pt2_compliant_tag)
        torch.library.impl(name, "default", function)
        FUNCTIONS[name] = function
        namespace, _, short = name.partition("::")
        return getattr(getattr(torch.ops, namespace), short).default

    return register


def shapes_of(name: str) -> Callable[[F], F]:
    """Register a function that returns empty tensors as what an operator would return."""
    register: Callable[[F], F] = torch.library.register_fake(name)
    return register
