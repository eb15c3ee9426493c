"""Applying a model without training it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import nn


class HasModules(Protocol):
    """A module, or what consists of modules."""

    def modules(self) -> Iterator[nn.Module]:
        """Return the module and all modules inside of it."""


@contextmanager
def inference(model: HasModules) -> Iterator[None]:
    """No gradients and evaluation mode inside; every module's own mode comes back after."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in modes:
            module.training = False
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
