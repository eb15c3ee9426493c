"""Where a curve falls below a threshold, and where it stops to rise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: Places at which a bend is looked for, beside the values themselves.
GRID = 200


def kept_range(
    values: Sequence[float], retention: Sequence[float], threshold: float
) -> tuple[float, float] | None:
    r"""Between which values a curve stays above a threshold, around its highest point.

    Ends are interpolated, linearly over the logarithm of the values.

    Args:
        values: Ascending and positive.
        retention: The curve at these.
        threshold: The threshold.

    Returns:
        Both ends: 0 or infinite where the curve does not break on that side; ``None`` if it is
        nowhere above.

    Example:
        >>> low, high = kept_range([5, 10, 20], [0.8, 0.9, 1.0], 0.85)
        >>> round(low, 2), high
        (7.07, inf)
    """
    place = int(np.argmax(retention))
    if retention[place] < threshold:
        return None
    x, ends = np.log(np.asarray(values, float)), []
    for step, beyond in ((-1, 0.0), (1, float("inf"))):
        here, end = place, beyond
        while 0 <= here + step < len(values):
            there = here + step
            if retention[there] < threshold:
                part = (retention[here] - threshold) / (retention[here] - retention[there])
                end = float(np.exp(x[here] + part * (x[there] - x[here])))
                break
            here = there
        ends.append(end)
    return ends[0], ends[1]


def bend(values: Sequence[float], retention: Sequence[float]) -> float | None:
    r"""Where a curve stops to rise: the bend of a rising line followed by a flat one.

    The least-squares fit of :math:`y = a + b \min(\log v - c, 0)`, over a grid of :math:`c`.

    Args:
        values: Ascending and positive, four or more.
        retention: The curve at these.

    Returns:
        :math:`e^c`; ``None`` for fewer than four values, or where the curve does not rise.

    Example:
        >>> round(bend([1, 2, 4, 8, 16], [0.2, 0.4, 0.6, 0.6, 0.6]), 2)
        4.0
    """
    if len(values) < 4:
        return None
    x, y = np.log(np.asarray(values, float)), np.asarray(retention, float)
    best: tuple[float, float | None] = (float(((y - y.mean()) ** 2).sum()), None)
    corners = np.concatenate([x[1:-1], np.linspace(x[1], x[-1], GRID)])
    for corner in corners:
        columns = np.stack([np.ones_like(x), np.minimum(x - corner, 0)], axis=1)
        fit = np.linalg.lstsq(columns, y, rcond=None)[0]
        error = float(((y - columns @ fit) ** 2).sum())
        if fit[1] > 0 and error < best[0] - 1e-12:
            best = (error, float(np.exp(corner)))
    return best[1]
