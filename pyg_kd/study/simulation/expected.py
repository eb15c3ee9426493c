"""The true value of a policy: expected clicks, computed and not drawn."""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_kd.study.simulation.clicks import ClickModel
from pyg_kd.study.simulation.log import ENTRIES, check_policy
from pyg_kd.study.simulation.policies import FixedLists, Policy
from pyg_kd.study.simulation.world import TasteWorld


def expected_clicks(
    world: TasteWorld, policy: Policy, clicks: ClickModel, users: Tensor | None = None
) -> Tensor:
    r"""Expected clicks on a list of each user, exact.

    Of fixed lists, the sum over positions of the probability of a click. Of a stochastic policy,
    where positions are independent,

    .. math::
        V(u) = \sum_k \sum_a P(A_k = a \mid u)\, P(c_k = 1 \mid u, a)

    Args:
        world: Whose tastes decide.
        policy: What serves.
        clicks: How relevance becomes clicks.
        users: Whose lists, int64 ``[n]``; all by default.

    Returns:
        float64 ``[n]``.

    Raises:
        ValueError: If the policy is stochastic and a click depends on the rest of the list: then
            only a sum over all lists is exact.

    Example:
        >>> from pyg_kd.study.simulation import PositionBias
        >>> world = TasteWorld(torch.tensor([[0, 1]]), torch.tensor([0, 1, 2]))
        >>> expected_clicks(world, FixedLists(torch.tensor([[0, 1, 2]])), PositionBias())
        tensor([0.7667], dtype=torch.float64)
    """
    check_policy(world, policy)
    if users is None:
        users = torch.arange(world.num_users, device=world.device)
    fixed = isinstance(policy, FixedLists)
    if not fixed and not clicks.independent:
        raise ValueError(
            f"'clicks' must be independent by position for a stochastic policy (got {clicks!r})"
        )
    size = policy.pool.size(1)
    rows = max(ENTRIES // (policy.k if fixed else size * policy.k), 1)
    value = _of_fixed if fixed else _of_stochastic
    parts = [value(world, policy, clicks, block) for block in users.split(rows)]
    return torch.cat(parts) if parts else world.readiness.new_zeros(0)


def _of_fixed(world: TasteWorld, policy: Policy, clicks: ClickModel, users: Tensor) -> Tensor:
    lists = policy.pool[users, : policy.k]
    return clicks.probabilities(world.relevance(users, lists)).sum(1)


def _of_stochastic(world: TasteWorld, policy: Policy, clicks: ClickModel, users: Tensor) -> Tensor:
    relevance = world.relevance(users, policy.pool[users])
    at_each = relevance[..., None].expand(-1, -1, policy.k)
    return (policy.marginals(users) * clicks.probabilities(at_each)).sum((1, 2))
