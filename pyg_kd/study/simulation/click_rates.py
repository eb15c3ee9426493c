"""Clicks predicted from a log, for doubly robust estimates."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pyg_kd.checks import require_at_least
from pyg_kd.study.simulation.log import ClickLog
from pyg_kd.study.simulation.outcomes import Floats
from pyg_kd.study.simulation.policies import Policy, numbered

#: Called with users int64 ``[n]`` and items int64 ``[n, M]``, returns predicted clicks at each
#: position, float64 ``[n, M, K]``.
RewardModel = Callable[[Tensor, Tensor], Tensor]

#: Numbers in a block of predictions.
ENTRIES = 2**22


def fit_click_rates(log: ClickLog, *, strength: float = 10.0) -> RewardModel:
    r"""Rates of items times rates of positions, as a log shows them.

    .. math::
        \hat q(a, k) = \min\left(1, f_k\, \rho_a\right), \qquad f_k = \frac{n_k^c}{\max_j n_j^c},
        \qquad \rho_a = \frac{c_a + s \bar\rho}{e_a + s}

    with :math:`n_k^c` the clicks at a position, :math:`c_a` those on an item, :math:`e_a` the sum
    of :math:`f_k` over its impressions and :math:`\bar\rho` the rate of all items. It is the same
    for all users, and wrong as far as tastes differ: that costs a doubly robust estimate variance,
    and no bias.

    Args:
        log: What was logged.
        strength: :math:`s`, how many impressions of the average weigh as much as an item's own.

    Raises:
        ValueError: If ``strength`` is negative.
    """
    require_at_least(0, strength=strength)
    listed = log.items >= 0
    clicks = log.clicks.double() * listed
    factor = clicks.sum(0) / clicks.sum(0).max().clamp(min=1)
    shown = factor.expand(listed.shape)[listed]
    size = int(log.items.max()) + 1 if log.items.numel() else 0
    where = log.items[listed]
    zeros = torch.zeros(max(size, 1), dtype=torch.double, device=log.items.device)
    exposure = zeros.index_add(0, where, shown)
    clicked = zeros.index_add(0, where, clicks[listed])
    mean = clicked.sum() / exposure.sum().clamp(min=1e-12)
    rate = (clicked + strength * mean) / (exposure + strength).clamp(min=1e-12)

    def predict(users: Tensor, items: Tensor) -> Tensor:
        known = (items >= 0) & (items < len(rate))
        found = torch.where(known, rate[items.clamp(0, len(rate) - 1)], mean)
        found = torch.where(items >= 0, found, 0.0)
        return (found[..., None] * factor).clamp(max=1)

    return predict


def predictions(log: ClickLog, target: Policy, model: RewardModel | None) -> tuple[Floats, Floats]:
    """Clicks predicted of what was served ``[n, K]``, and of what a target would serve ``[n]``.

    Without a model each half of the users is predicted from the other half's log.
    """
    served = torch.zeros(log.items.shape, dtype=torch.double, device=log.items.device)
    wanted = torch.zeros(len(log.user), dtype=torch.double, device=log.items.device)
    odd = log.user % 2 == 1
    for half in (odd, ~odd) if model is None else (torch.ones_like(odd),):
        rows = half.nonzero().view(-1)
        fitted = model
        if fitted is None:
            others = (~half).nonzero().view(-1)
            fitted = fit_click_rates(ClickLog(*(column[others] for column in log)))
        size = max(target.pool.size(1), log.items.size(1)) * log.items.size(1)
        for part in rows.split(max(ENTRIES // size, 1)):
            served[part], wanted[part] = _of_visits(log, target, fitted, part)
    return served.numpy(force=True), wanted.numpy(force=True)


def _of_visits(
    log: ClickLog, target: Policy, model: RewardModel, rows: Tensor
) -> tuple[Tensor, Tensor]:
    users, items = log.user[rows], log.items[rows]
    # The item at position k of a list is predicted at k alone.
    served = _checked(model(users, items), items).diagonal(dim1=1, dim2=2)
    distinct, back = numbered(users, target.num_users)
    pool = target.pool[distinct]
    value = (target.marginals(distinct) * _checked(model(distinct, pool), items)).sum((1, 2))
    return served, value[back]


def _checked(predicted: Tensor, items: Tensor) -> Tensor:
    if predicted.dim() != 3 or predicted.size(2) != items.size(1):
        raise ValueError(
            f"'model' must return [n, M, {items.size(1)}], clicks at each position "
            f"(got {list(predicted.shape)})"
        )
    if not bool(predicted.isfinite().all()):
        raise ValueError("'model' must return finite predictions (got one that is not)")
    return predicted.double()


def missing_support(logging: Policy, target: Policy, users: Tensor | None = None) -> float:
    r"""The share of a target's places that hold items which the logging policy never puts there.

    .. math::
        \frac{1}{n K} \sum_{u, k, a} \pi(a, k \mid u)\, [\mu(a, k \mid u) = 0]

    Above 0, no estimate from a log of that policy is unbiased.

    Args:
        logging: The policy that served.
        target: The policy to evaluate.
        users: Of whom, int64 ``[n]``; all by default.

    Raises:
        ValueError: If the two are for other users, or lists of other lengths.

    Example:
        >>> from pyg_kd.study.simulation import EpsilonShuffle, FixedLists
        >>> pool = torch.tensor([[0, 1, 2, 3]])
        >>> missing_support(EpsilonShuffle(pool, k=2), FixedLists(torch.tensor([[3, 7]])))
        0.5
    """
    if (logging.num_users, logging.k) != (target.num_users, target.k):
        raise ValueError(
            f"'target' must be for {logging.num_users} users and lists of {logging.k} "
            f"(got {target.num_users} and {target.k})"
        )
    if users is None:
        users = torch.arange(target.num_users, device=target.pool.device)
    size = logging.pool.size(1) * target.pool.size(1) + target.pool.size(1) * target.k
    missing = 0.0
    for part in users.split(max(ENTRIES // size, 1)):
        pool = target.pool[part]
        same = (logging.pool[part][:, None, :] == pool[:, :, None]).double()
        never = same @ (logging.marginals(part) > 0).double() == 0
        shown = target.marginals(part) * (pool >= 0)[..., None]
        missing += float((shown * never).sum())
    return missing / max(len(users) * target.k, 1)
