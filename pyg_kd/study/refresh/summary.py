"""From measures of single steps to the numbers of a policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

#: Samples of a bootstrap, and how many are drawn at once.
SAMPLES, AT_ONCE = 2_000, 100


@dataclass(frozen=True)
class Row:
    r"""A policy, in means over its refreshes and seeds.

    Args:
        policy: Its name.
        new: The metric on the next block.
        new_sd: The deviation of that over seeds; ``None`` for one seed.
        average: The average so far: the metric on what was held out of all blocks up to now.
        harmonic: The harmonic mean of both, of every refresh.
        forgetting: How far the metric on earlier blocks has fallen from its best, in the end.
        seconds: CPU seconds of a refresh.
        gain: ``new`` less that of the first policy.
        interval: The 95 % interval of the gain, over users; ``None`` for the first policy.
        undominated: Whether no other policy is at least as good and as cheap, and better in one.
    """

    policy: str
    new: float
    new_sd: float | None
    average: float | None
    harmonic: float | None
    forgetting: float | None
    seconds: float
    gain: float
    interval: tuple[float, float] | None
    undominated: bool = True


def harmonic_mean(a: float, b: float) -> float:
    """``2 a b / (a + b)``, 0 where both are.

    Example:
        >>> harmonic_mean(0.2, 0.3)
        0.24
    """
    return 2 * a * b / (a + b) if a + b else 0.0


def forgetting(held: Sequence[Sequence[float]]) -> float | None:
    r"""How much of earlier blocks is forgotten after the last step,

    .. math::
        F = \frac{1}{t} \sum_{j < t} \left( \max_{j \le s < t} a_{sj} - a_{tj} \right)

    with :math:`a_{sj}` the metric on what was held out of block :math:`j` after step :math:`s`, as
    in `"Riemannian Walk for Incremental Learning" <https://arxiv.org/abs/1801.10112>`_. Below zero
    where later blocks have helped.

    Args:
        held: :math:`a_{sj}` for every step :math:`s` and block :math:`j \le s`.

    Returns:
        The forgetting, ``None`` for fewer than two steps.

    Example:
        >>> round(forgetting([[0.5], [0.6, 0.3], [0.4, 0.35, 0.2]]), 3)
        0.075
    """
    last = len(held) - 1
    if last < 1:
        return None
    drops = [max(held[s][j] for s in range(j, last)) - held[last][j] for j in range(last)]
    return sum(drops) / last


def undominated(costs: Sequence[float], values: Sequence[float]) -> list[bool]:
    """Which points no other one beats: as cheap and as good, and better in one.

    Example:
        >>> undominated([0, 1, 2, 3], [0.1, 0.3, 0.2, 0.4])
        [True, True, False, True]
    """
    points = list(zip(costs, values, strict=True))
    return [
        not any(c <= cost and v >= value and (c, v) != (cost, value) for c, v in points)
        for cost, value in points
    ]


def interval_of_gain(
    ours: Sequence[tuple[Array, Array]], others: Sequence[tuple[Array, Array]], *, seed: int = 0
) -> tuple[float, float]:
    r"""The 95 % interval of the mean gain, when other users might have come.

    A cell is a step with one seed: its mean is over its users, and the gain is the mean over
    cells. The bootstrap draws users, each with all that is known of it in all cells, since a
    user's values at several steps and with several seeds go together.

    Args:
        ours: Users, int64 ``[n]``, and their values, ``[n]``, of every cell.
        others: The same cells of the other policy.
        seed: Of the bootstrap.
    """
    names = np.unique(np.concatenate([users for users, _ in ours]))
    gain, present = np.zeros((len(ours), len(names))), np.zeros((len(ours), len(names)))
    for cell, ((users, value), (_, other)) in enumerate(zip(ours, others, strict=True)):
        place = np.searchsorted(names, users)
        gain[cell, place], present[cell, place] = value - other, 1
    rng, means = np.random.default_rng(seed), []
    share = np.full(len(names), 1 / len(names))
    for _ in range(SAMPLES // AT_ONCE):
        drawn = rng.multinomial(len(names), share, size=AT_ONCE).T
        count = present @ drawn
        total = np.divide(gain @ drawn, count, out=np.full(count.shape, np.nan), where=count > 0)
        means.append(np.nanmean(total, axis=0))
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)
