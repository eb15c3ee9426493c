"""Numbers of a report, as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from pyg_kd.checks import is_number


def mean_deviation(mean: float, deviation: float | None, digits: int = 4) -> str:
    """A mean, and the deviation over seeds where there is one.

    Example:
        >>> mean_deviation(0.25, 0.0123), mean_deviation(0.25, None)
        ('0.2500 ± 0.0123', '0.2500')
    """
    return f"{mean:.{digits}f}" + ("" if deviation is None else f" ± {deviation:.{digits}f}")


def short_p(p: float) -> str:
    """A p-value in one digit.

    Example:
        >>> [short_p(p) for p in (1.0, 0.0312, 2e-9)]
        ['1', '0.03', '<1e-6']
    """
    return "<1e-6" if p < 1e-6 else format(p, ".1g")


def signed_p(difference: float, p: float) -> str:
    """A p-value with the sign of the difference.

    Example:
        >>> signed_p(-0.01, 0.2)
        '- 0.2'
    """
    return f"{'+' if difference > 0 else '-'} {short_p(p)}"


def interval(ends: Sequence[float], digits: int = 4, *, sign: bool = False) -> str:
    """An interval.

    Example:
        >>> interval((-0.1, 0.25), 2, sign=True)
        '-0.10 to +0.25'
    """
    form = f"{'+' if sign else ''}.{digits}f"
    low, high = (format(end, form) for end in ends)
    return f"{low} to {high}"


def percent(share: float) -> str:
    """A share as a percentage.

    Example:
        >>> percent(0.987)
        '99 %'
    """
    return f"{100 * share:.0f} %"


def percent_interval(ends: Sequence[float | None] | None) -> str:
    """An interval of shares, or that it has no bounds.

    Example:
        >>> percent_interval((0.5, 1.25)), percent_interval((None, None))
        ('50 to 125 %', 'unbounded')
    """
    bounds = [end for end in ends or () if end is not None and isfinite(end)]
    if len(bounds) < 2:
        return "unbounded"
    return f"{100 * bounds[0]:.0f} to {100 * bounds[1]:.0f} %"


def size(num_bytes: float) -> str:
    """Bytes in a unit that fits.

    Example:
        >>> size(812), size(1_250_000), size(3.2e9)
        ('812 B', '1.2 MB', '3.2 GB')
    """
    for unit, least in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= least:
            return f"{num_bytes / least:.1f} {unit}"
    return f"{num_bytes:.0f} B"


def seconds(value: float) -> str:
    """Seconds, with a digit where there are few.

    Example:
        >>> seconds(0.25), seconds(83.2), seconds(12_345.0)
        ('0.2', '83', '12,345')
    """
    return f"{value:,.1f}" if value < 10 else f"{value:,.0f}"


def setting_text(chosen: Mapping[str, Any]) -> str:
    """What was chosen, in words.

    Example:
        >>> setting_text({"weight": 30.0, "trainer.weight_decay": 1e-3})
        'weight 30, weight decay 0.001'
    """
    flat = {
        key: value
        for part, values in chosen.items()
        for key, value in (values if isinstance(values, Mapping) else {part: values}).items()
    }
    return ", ".join(f"{_option(key)} {_short(value)}" for key, value in flat.items())


def _option(name: str) -> str:
    for part in ("trainer.", "options.", "model."):
        name = name.removeprefix(part)
    return name.replace("_", " ")


def _short(value: Any) -> str:
    """A number or several, short."""
    if isinstance(value, list):
        return " and ".join(map(_short, value))
    return f"{value:g}" if is_number(value) else str(value)


def metric_text(name: str) -> str:
    """A metric as papers write it.

    Example:
        >>> metric_text("ndcg@20"), metric_text("hit_rate@5")
        ('NDCG@20', 'Hit rate@5')
    """
    kind, at, k = name.partition("@")
    short = {"ndcg": "NDCG", "map": "MAP", "mrr": "MRR"}
    return short.get(kind, kind.replace("_", " ").capitalize()) + at + k


def listed(names: Sequence[str]) -> str:
    """Names in a sentence.

    Example:
        >>> listed(["a", "b", "c"])
        'a, b and c'
    """
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
