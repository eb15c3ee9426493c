"""The learning rate over a run."""

from __future__ import annotations

from math import cos, pi
from typing import Literal, get_args

#: How the learning rate goes on after the warm-up.
Schedule = Literal["constant", "cosine"]
SCHEDULES: tuple[str, ...] = get_args(Schedule)


def rate_factor(
    step: int, num_steps: int, *, schedule: str, warmup: float, final_lr: float
) -> float:
    r"""What the learning rate is multiplied by in a step.

    With :math:`W` the steps of the warm-up and :math:`T` all steps, counted from 0, the factor
    is :math:`(t + 1) / W` for :math:`t < W`, and after that 1, or, of a cosine

    .. math::
        f + (1 - f) \, \frac{1 + \cos(\pi \, (t - W) / (T - W))}{2}

    Args:
        step: The step :math:`t`.
        num_steps: :math:`T`.
        schedule: ``"constant"`` or ``"cosine"``.
        warmup: Share of the steps that the warm-up takes.
        final_lr: What the cosine falls to, :math:`f`.

    Example:
        >>> options = {"schedule": "cosine", "warmup": 0.5, "final_lr": 0.0}
        >>> [round(rate_factor(step, 4, **options), 3) for step in range(4)]
        [0.5, 1.0, 1.0, 0.5]
    """
    first = warmup_steps(warmup, num_steps)
    if step < first:
        return (step + 1) / first
    if schedule == "constant":
        return 1.0
    return final_lr + (1 - final_lr) * (1 + cos(pi * (step - first) / (num_steps - first))) / 2


def warmup_steps(warmup: float, num_steps: int) -> int:
    """How many of all steps the warm-up takes.

    Example:
        >>> warmup_steps(0.05, 110)
        6
    """
    return round(warmup * num_steps)
