"""Values of every user, of one run or of several seeds, as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyg_kd.evaluation.full_ranking import PerUser

Array = NDArray[np.float64]
#: A metric of every user: of one run, or of several seeds.
PerUserRuns = Tensor | PerUser | Sequence[Tensor | PerUser]
#: The same, by seed.
Seeds = Mapping[int, Tensor | PerUser]


class Runs(NamedTuple):
    """Runs of the same users: float64 ``[num_runs, n]``, and the users if they are known."""

    values: Array
    user: Tensor | None


def stack_runs(
    name: str, given: PerUserRuns, metric: str | None = None, like: Runs | None = None
) -> Runs:
    r"""Check runs, and put them into one array.

    Args:
        name: What to call them in errors.
        given: What ``evaluate(..., per_user=True)`` returned, or a metric of every user, ``[n]``;
            with several seeds, a list of either.
        metric: Which metric, where several were evaluated.
        like: Runs whose users these must have.

    Raises:
        TypeError: If values are something else.
        ValueError: If there is no run, there are fewer than two users, users or shapes differ, a
            value is not finite, or ``metric`` was not evaluated.

    Example:
        >>> stack_runs("student", [torch.ones(3), torch.zeros(3)]).values.shape
        (2, 3)
    """
    single = isinstance(given, (Tensor, PerUser)) or not isinstance(given, Sequence)
    runs: list[object] = [given] if single else list(given)
    if not runs:
        raise ValueError(f"{name!r} must hold a run or more (got {given!r})")
    found = [_one_run(name, run, metric) for run in runs]
    first = found[0] if like is None else (like.values[0], like.user)
    for values, user in found:
        if user is not None and first[1] is not None and not torch.equal(user, first[1]):
            raise ValueError(f"{name!r} must be of the users of 'baseline' (got others)")
        if values.shape != first[0].shape:
            raise ValueError(
                f"{name!r} must be of shape {list(first[0].shape)} (got {list(values.shape)})"
            )
    return Runs(np.stack([values for values, _ in found]), first[1])


def require_seeds(name: str, given: object) -> None:
    """Raise ``TypeError`` unless runs come by seed: their order tells no seeds."""
    if not isinstance(given, Mapping):
        raise TypeError(
            f"{name!r} must be runs by seed, like {{0: values, 1: values}} "
            f"(got {type(given).__name__})"
        )


def _one_run(name: str, run: object, metric: str | None) -> tuple[Array, Tensor | None]:
    user = None
    if isinstance(run, PerUser):
        found, user = run.values, run.user
        key = next(iter(found)) if metric is None and len(found) == 1 else metric
        if key not in found:
            raise ValueError(f"'metric' must be one of {[*found]} (got {metric!r})")
        run = found[key]
    if not isinstance(run, Tensor):
        raise TypeError(
            f"{name!r} must be what evaluate(..., per_user=True) returns, a tensor of one metric, "
            f"or a list of either, one a seed (got {type(run).__name__})"
        )
    array: Array = run.detach().cpu().double().numpy()
    if array.ndim != 1 or len(array) < 2:
        raise ValueError(f"{name!r} must hold two users or more (got shape {list(array.shape)})")
    if not np.isfinite(array).all():
        raise ValueError(f"{name!r} must be finite (got {array[~np.isfinite(array)][0]})")
    return array, user
