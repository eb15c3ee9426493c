"""Visits: lists served by a policy, what was clicked, and how likely the lists were."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from pyg_kd.graph import check_ids
from pyg_kd.study.simulation.clicks import ClickModel, require_share
from pyg_kd.study.simulation.lists import check_lists
from pyg_kd.study.simulation.policies import Policy
from pyg_kd.study.simulation.world import TasteWorld

#: Numbers in a block of visits.
ENTRIES = 2**20


class ClickLog(NamedTuple):
    r"""What is logged of ``n`` visits.

    Args:
        user: Whom a list was served to, int64 ``[n]``.
        items: The lists, int64 ``[n, K]``, padded with -1.
        clicks: What was clicked, bool ``[n, K]``.
        propensity: How likely each item was at its position, float64 ``[n, K]``.
        list_propensity: How likely each whole list was, float64 ``[n]``.
    """

    user: Tensor
    items: Tensor
    clicks: Tensor
    propensity: Tensor
    list_propensity: Tensor


def serve(
    world: TasteWorld,
    policy: Policy,
    users: Tensor,
    *,
    clicks: ClickModel,
    generator: Generator,
    stay: float = 1.0,
) -> ClickLog:
    r"""Serve a list on every visit, and draw its clicks.

    Args:
        world: Whose tastes decide.
        policy: What serves.
        users: Who visits, with repetitions, int64 ``[n]``.
        clicks: How relevance becomes clicks.
        generator: Of everything random, on the device of the world.
        stay: The share of visits that wait for the list; the others see and click nothing.

    Returns:
        The log, where ``world`` is.

    Raises:
        ValueError: If the policy is for other users, lists items that the world does not have, or
            ``stay`` lies outside of 0..1.

    Example:
        >>> from pyg_kd.study.simulation import FixedLists, PositionBias
        >>> world = TasteWorld(torch.tensor([[0, 1]]), torch.tensor([0, 1, 2]))
        >>> policy = FixedLists(torch.tensor([[0, 1, 2]]))
        >>> visits = torch.zeros(4, dtype=torch.long)
        >>> seeded = torch.Generator().manual_seed(0)
        >>> serve(world, policy, visits, clicks=PositionBias(), generator=seeded).clicks.sum()
        tensor(2)
    """
    check_policy(world, policy)
    require_share(stay=stay)
    check_ids("users", users, world.num_users)
    rows = max(ENTRIES // (policy.pool.size(1) * policy.k), 1)
    parts = [_block(world, policy, part, clicks, generator, stay) for part in users.split(rows)]
    return ClickLog(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def check_policy(world: TasteWorld, policy: Policy) -> None:
    """Raise ``ValueError`` unless a policy serves the users and items of a world."""
    if policy.num_users != world.num_users:
        raise ValueError(
            f"'policy' must be for {world.num_users} users, as 'world' (got {policy.num_users})"
        )
    check_lists("policy", policy.pool, world.num_items)


def check_log(log: ClickLog) -> None:
    """Raise ``ValueError`` unless a log is one that a policy can have written.

    Lists must be as wide as clicks and propensities and list no item twice, propensities lie in
    0..1, and nothing was served that had no chance of being served.
    """
    check_lists("items", log.items, None)
    shape = log.items.shape
    for name in ("clicks", "propensity"):
        found = getattr(log, name).shape
        if found != shape:
            raise ValueError(f"{name!r} must be {list(shape)}, as 'items' (got {list(found)})")
    for name in ("user", "list_propensity"):
        found = getattr(log, name).shape
        if found != shape[:1]:
            raise ValueError(f"{name!r} must be {list(shape[:1])} (got {list(found)})")
    if bool(((log.clicks != 0) & (log.clicks != 1)).any()):
        raise ValueError(f"'clicks' must be 0 or 1 (got {float(log.clicks.double().max())})")
    _check_propensities(log)


def _check_propensities(log: ClickLog) -> None:
    for name in ("propensity", "list_propensity"):
        value = getattr(log, name)
        outside = ~((value >= 0) & (value <= 1 + 1e-9))
        if bool(outside.any()):
            raise ValueError(f"{name!r} must lie in 0..1 (got {float(value[outside][0])})")
    never = (log.propensity == 0) & (log.items >= 0)
    if bool(never.any()):
        row, place = (int(v) for v in never.nonzero()[0])
        what = "a click was logged" if bool(log.clicks[row, place]) else "an item was served"
        raise ValueError(
            f"'propensity' must be above 0 where {what} (got 0.0 at visit {row}, position {place})"
        )


def _block(
    world: TasteWorld,
    policy: Policy,
    users: Tensor,
    model: ClickModel,
    generator: Generator,
    stay: float,
) -> ClickLog:
    lists = policy.draw(users, generator)
    clicked = model.sample(world.relevance(users, lists), generator)
    if stay < 1:
        stays = torch.rand(len(users), generator=generator, device=users.device) < stay
        clicked = clicked & stays[:, None]
    propensity = policy.probability(users, lists)
    propensity = torch.where(lists >= 0, propensity, 1.0)
    return ClickLog(users, lists, clicked, propensity, policy.list_probability(users, lists))
