"""Gradients of a model's parameters beside differences of an oracle."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import nn


def check_gradients(
    model: nn.Module,
    value: Callable[[], float],
    *,
    step: float,
    atol: float,
    rtol: float = 1e-7,
) -> None:
    """Compare every parameter's ``grad`` with central differences of what ``value`` returns.

    ``value`` reads the parameters, which are moved in place one entry at a time.
    """
    for name, table in model.named_parameters():
        numeric = np.zeros(table.shape)
        for place in np.ndindex(*table.shape):
            for sign in (1, -1):
                table.data[place] += sign * step
                numeric[place] += sign * value() / (2 * step)
                table.data[place] -= sign * step
        np.testing.assert_allclose(table.grad.numpy(), numeric, rtol=rtol, atol=atol, err_msg=name)
