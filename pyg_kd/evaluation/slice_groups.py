"""Which users and items belong together: by activity, by popularity, by a teacher's space."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.checks import require_count
from pyg_kd.evaluation.k_means import k_means
from pyg_kd.graph import interactions
from pyg_kd.typing import ITEM, USER

#: Shares of all interactions: of the most popular items, of the middle, and of the long tail.
SHARES = (0.2, 0.6, 0.2)
CLASSES = ("head", "middle", "tail")

#: Items that nobody has interacted with.
COLD = "cold"


class Groups(NamedTuple):
    """A partition of users or of items.

    Args:
        node_type: ``"user"`` or ``"item"``.
        names: The name of each group.
        of: The group of each node, int64 ``[N]``; -1 for none.
    """

    node_type: str
    names: tuple[str, ...]
    of: Tensor


def check_groups(title: str, groups: object) -> None:
    """Raise an error naming ``title`` unless these are groups of users or of items.

    Raises:
        TypeError: If they are no :class:`Groups`, or ``of`` is no tensor of integers.
        ValueError: If the nodes are neither users nor items, or a group has no name.
    """
    if not isinstance(groups, Groups):
        raise TypeError(
            f"{title!r} must be a Groups(node_type, names, of) (got {type(groups).__name__})"
        )
    if groups.node_type not in (USER, ITEM):
        raise ValueError(f"{title!r} must be groups of users or items (got {groups.node_type!r})")
    of, num = groups.of, len(groups.names)
    if not isinstance(of, Tensor) or of.dtype not in (torch.int32, torch.int64):
        found = of.dtype if isinstance(of, Tensor) else type(of).__name__
        raise TypeError(f"'of' of {title!r} must be an int64 tensor, a group a node (got {found})")
    low, high = (int(end) for end in of.aminmax()) if of.numel() else (-1, -1)
    if low < -1 or high >= num:
        raise ValueError(
            f"'of' of {title!r} must lie in -1..{num - 1}, -1 for none of its {num} names "
            f"(got {low if low < -1 else high})"
        )


def activity_groups(data: HeteroData, bins: int | Sequence[int] = 4) -> Groups:
    r"""Groups of users with similar numbers of interactions.

    Args:
        data: The training graph.
        bins: How many groups with about as many users each, or the least number of interactions
            of each group. Equally active users are never parted, so groups may be fewer.

    Returns:
        Groups from the least active on, named after their range; users without interactions
        belong to none of a given number of groups.

    Raises:
        ValueError: If ``bins`` is no positive integer, or does not ascend.

    Example:
        >>> from pyg_kd.datasets import from_interactions
        >>> data = from_interactions([[0, 1, 1, 2, 2, 2], [0, 0, 1, 0, 1, 2]])
        >>> activity_groups(data, bins=(1, 3)).names
        ('1 to 2', '3 and more')
    """
    degree = interactions(data).by_user().degree
    if isinstance(bins, Sequence):
        least = _ascending(bins, degree.device)
        group = torch.bucketize(degree, least, right=True) - 1
        ends = [*(str(int(b) - 1) for b in least[1:]), ""]
        pairs = zip(least.tolist(), ends, strict=True)
        return Groups(USER, tuple(_range(str(a), b) for a, b in pairs), group)
    require_count(bins=bins)
    group = _even(degree, torch.bincount(degree), int(bins))
    found = group.unique()
    found = found[found >= 0]
    names = [degree[group == g].aminmax() for g in found]
    place = torch.searchsorted(found, group).masked_fill(group < 0, -1)
    return Groups(USER, tuple(_range(str(int(a)), str(int(b))) for a, b in names), place)


def popularity_groups(
    data: HeteroData,
    shares: Sequence[float] = SHARES,
    names: Sequence[str] = CLASSES,
) -> Groups:
    r"""Items from the most to the least popular, cut where they make up shares of interactions.

    With the default the head are the few items that a fifth of all interactions fall on, and the
    tail the many that share the last fifth, as in `"User-centered Evaluation of Popularity Bias
    in Recommender Systems" <https://arxiv.org/abs/2103.06364>`_. Equally popular items share a
    group, that in which the middle of their interactions lies; items without any are a group of
    their own, ``"cold"``, if there are some.

    Args:
        data: The training graph.
        shares: The share of the interactions of each group.
        names: Their names.

    Raises:
        ValueError: If the shares are not positive or do not add up to 1, or names do not fit.

    Example:
        >>> from pyg_kd.datasets.graph import interaction_graph
        >>> user, item = torch.tensor([[0, 1, 2, 0, 1], [0, 0, 0, 1, 2]])
        >>> data = interaction_graph(user, item, num_users=3, num_items=4)
        >>> groups = popularity_groups(data, (0.5, 0.5), ("head", "tail"))
        >>> groups.names, groups.of.tolist()
        (('head', 'tail', 'cold'), [0, 1, 1, 2])
    """
    if len(shares) != len(names):
        raise ValueError(f"'names' must be {len(shares)}, one a share (got {tuple(names)})")
    if not all(share > 0 for share in shares) or abs(sum(shares) - 1) > 1e-6:
        raise ValueError(f"'shares' must be positive and add up to 1 (got {tuple(shares)})")
    popularity = interactions(data).by_item().degree
    value = torch.bincount(popularity)
    mass = value * torch.arange(len(value), device=value.device)
    middle = (mass.flip(0).cumsum(0).flip(0) - 0.5 * mass) / mass.sum().clamp(min=1)
    ends = torch.tensor(shares, dtype=torch.double, device=value.device).cumsum(0)[:-1]
    of_value = torch.bucketize(middle.double(), ends, right=True)
    cold = bool(value[0])
    of_value[0] = len(names)
    return Groups(ITEM, (*names, COLD) if cold else tuple(names), of_value[popularity])


def cluster_groups(x: Tensor, num_clusters: int, *, node_type: str = USER, seed: int = 0) -> Groups:
    r"""Clusters of a teacher's space, by :func:`~pyg_kd.evaluation.k_means.k_means`.

    Args:
        x: Representations, ``data["user"].teacher_x`` for example, ``[N, d]``; rows are divided
            by their lengths, so that directions count.
        num_clusters: Number of clusters.
        node_type: Whose they are.
        seed: Of the first centres. The global random state is not touched.

    Raises:
        ValueError: If there are more clusters than rows.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [2.0, 0.1], [0.0, 3.0]])
        >>> cluster_groups(x, 2).of.bincount().sort().values
        tensor([1, 2])
    """
    unit = torch.nn.functional.normalize(x.detach().float(), dim=1)
    label, _ = k_means(unit, num_clusters, seed=seed)
    names = tuple(f"cluster {c + 1}" for c in range(num_clusters))
    return Groups(node_type, names, label)


def _even(degree: Tensor, count: Tensor, bins: int) -> Tensor:
    """Groups of about equally many users with an interaction or more."""
    count = count.clone()
    count[0] = 0
    below = count.cumsum(0) - count
    group = (2 * below + count) * bins // (2 * count.sum()).clamp(min=1)
    group[0] = -1
    return group.clamp(max=bins - 1)[degree]


def _ascending(bins: Sequence[int], device: torch.device) -> Tensor:
    require_count(0, **{f"bins[{i}]": b for i, b in enumerate(bins)})
    if not bins or any(a >= b for a, b in pairwise(bins)):
        raise ValueError(f"'bins' must ascend (got {tuple(bins)})")
    return torch.tensor(list(bins), device=device)


def _range(low: str, high: str) -> str:
    if not high:
        return f"{low} and more"
    return low if low == high else f"{low} to {high}"
