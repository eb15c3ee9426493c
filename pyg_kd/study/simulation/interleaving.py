"""Team-draft interleaving: both rankers in one list, and clicks decide."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from pyg_kd.checks import require_choice, require_count
from pyg_kd.study.simulation.ab import check_share
from pyg_kd.study.simulation.lists import check_lists
from pyg_kd.study.simulation.outcomes import Floats, arm, values_of


class Interleaved(NamedTuple):
    """Lists made of two rankers' lists.

    Args:
        items: int64 ``[n, k]``, padded with -1.
        treatment: Whether an item was picked for the treatment's team, bool ``[n, k]``.
    """

    items: Tensor
    treatment: Tensor

    def credit(self, clicks: Tensor) -> tuple[Tensor, Tensor]:
        """Clicks on the items of the control's team and of the treatment's, int64 ``[n]`` each."""
        clicked = clicks.bool() & (self.items >= 0)
        return (clicked & ~self.treatment).sum(1), (clicked & self.treatment).sum(1)


class Preference(NamedTuple):
    """Which of two interleaved rankers users preferred.

    Args:
        wins: Users with more clicks on the treatment's items.
        losses: Users with more clicks on the control's items.
        ties: Users with as many on both.
        effect: Of the sign test :math:`(wins + ties / 2) / n - 1/2`; of the t-test the mean
            difference of the clicks of a user.
        interval: Its confidence interval.
        p_value: Two-sided.
        confidence: Of the interval.
    """

    wins: int
    losses: int
    ties: int
    effect: float
    interval: tuple[float, float]
    p_value: float
    confidence: float


def team_draft(control: Tensor, treatment: Tensor, k: int, *, generator: Generator) -> Interleaved:
    r"""Interleave two lists of each user, as in `"How Does Clickthrough Data Reflect Retrieval
    Quality?" <https://doi.org/10.1145/1458082.1458092>`_.

    The teams pick in turns, and a coin decides who picks first in every turn; a team picks its best
    item that is not in the list yet. It ends at ``k`` items, or when a team has none left.

    Args:
        control: Lists, best first, int64 ``[n, >= k]``, padded with -1.
        treatment: The other ranker's, ``[n, >= k]``.
        k: Length of the lists made.
        generator: Of the coins, on the device of the lists.

    Raises:
        ValueError: If lists are shorter than ``k``, differ in number, or list an item twice.

    Example:
        >>> lists = torch.tensor([[5, 3, 8]]), torch.tensor([[3, 9, 5]])
        >>> found = team_draft(*lists, k=3, generator=torch.Generator().manual_seed(0))
        >>> found.items, found.treatment
        (tensor([[3, 5, 9]]), tensor([[ True, False,  True]]))
    """
    require_count(k=k)
    for name, lists in (("control", control), ("treatment", treatment)):
        check_lists(name, lists, None)
        if lists.size(1) < k or len(lists) != len(control):
            raise ValueError(f"{name!r} must be [{len(control)}, >= {k}] (got {list(lists.shape)})")
    items = torch.full((len(control), k), -1, device=control.device)
    team = torch.zeros(items.shape, dtype=torch.bool, device=control.device)
    taken = [control < 0, treatment < 0]
    picks = torch.zeros((len(control), 2), dtype=torch.long, device=control.device)
    for place in range(k):
        coin = torch.rand(len(control), generator=generator, device=control.device) < 0.5
        now = torch.where(picks[:, 0] == picks[:, 1], coin, picks[:, 1] < picks[:, 0])
        ended = taken[0].all(1) | taken[1].all(1)
        best = [_best(lists, gone) for lists, gone in zip((control, treatment), taken, strict=True)]
        chosen = torch.where(ended, -1, torch.where(now, best[1], best[0]))
        items[:, place], team[:, place] = chosen, now & ~ended
        picks.scatter_add_(1, now.long()[:, None], (~ended).long()[:, None])
        taken = [
            gone | (lists == chosen[:, None])
            for lists, gone in zip((control, treatment), taken, strict=True)
        ]
    return Interleaved(items, team)


def interleaving_test(
    control: object, treatment: object, *, test: str = "sign", confidence: float = 0.95
) -> Preference:
    r"""Whether users click more on one ranker's items of their interleaved lists.

    Of several visits of a user the clicks are added up first: users are the unit.

    Args:
        control: Clicks of each user on the control's items ``[n]``.
        treatment: Clicks of the same users on the treatment's ``[n]``.
        test: ``"sign"``, the exact binomial test of who wins, without ties; or ``"t"``, Student's
            of the differences, which counts by how much.
        confidence: Of the interval.

    Raises:
        ValueError: If there are fewer than two users, or shapes differ.

    Example:
        >>> found = interleaving_test([0, 1, 0, 2, 0, 0], [1, 2, 1, 2, 1, 1])
        >>> found.wins, found.losses, found.ties, found.p_value
        (5, 0, 1, 0.0625)
    """
    require_choice(("sign", "t"), test=test)
    check_share(confidence=confidence)
    first, second = values_of("control", control), values_of("treatment", treatment)
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(
            f"'treatment' must be of the users of 'control', [{first.shape[-1]}] "
            f"(got {list(second.shape)})"
        )
    gain = second - first
    counts = int((gain > 0).sum()), int((gain < 0).sum()), int((gain == 0).sum())
    found = _sign(*counts, confidence) if test == "sign" else _student(gain, confidence)
    return Preference(*counts, *found, confidence)


def _sign(
    wins: int, losses: int, ties: int, confidence: float
) -> tuple[float, tuple[float, float], float]:
    from scipy.special import bdtr, betaincinv

    decided = wins + losses
    if not decided:
        return 0.0, (0.0, 0.0), 1.0
    share, tail = decided / (decided + ties), (1 - confidence) / 2
    # Clopper and Pearson's interval of the share of wins.
    low = betaincinv(wins, losses + 1, tail) if wins else 0.0
    high = betaincinv(wins + 1, losses, 1 - tail) if losses else 1.0
    interval = share * (float(low) - 0.5), share * (float(high) - 0.5)
    p_value = min(1.0, 2 * float(bdtr(min(wins, losses), decided, 0.5)))
    return share * (wins / decided - 0.5), interval, p_value


def _student(gain: Floats, confidence: float) -> tuple[float, tuple[float, float], float]:
    from scipy.stats import t

    mean, spread = arm("gain", gain)
    freedom = len(gain) - 1
    error = np.sqrt((spread**2).sum() / freedom / len(gain))
    width = t.ppf(0.5 + confidence / 2, freedom) * error
    statistic = 0.0 if mean == 0 else abs(mean) / error if error else np.inf
    interval = float(mean - width), float(mean + width)
    return float(mean), interval, float(2 * t.sf(statistic, freedom))


def _best(lists: Tensor, taken: Tensor) -> Tensor:
    """The first item that is not taken, of each row."""
    return lists.gather(1, taken.long().argmin(1, keepdim=True)).view(-1)
