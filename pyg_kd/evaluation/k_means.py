"""Clusters of representations, on the device that they are on."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from pyg_kd.checks import require_count

#: Distances held at once.
ENTRIES = 2**22


def k_means(
    x: Tensor, num_clusters: int, *, seed: int = 0, max_rounds: int = 100
) -> tuple[Tensor, Tensor]:
    r"""Lloyd's algorithm from centres drawn as in `"k-means++"
    <https://dl.acm.org/doi/10.5555/1283383.1283494>`_.

    Args:
        x: Rows, floating point ``[n, d]``.
        num_clusters: Number of clusters, at most ``n``.
        seed: Of the first centres. The global random state is not touched.
        max_rounds: Rounds at most; fewer, once no row changes its cluster.

    Returns:
        The cluster of each row, int64 ``[n]``, and the centres ``[num_clusters, d]``. A cluster
        that loses its last row keeps its centre.

    Raises:
        ValueError: If an option is no positive integer, or there are fewer rows than clusters.

    Example:
        >>> label, centre = k_means(torch.tensor([[0.0], [1.0], [9.0], [10.0]]), 2)
        >>> centre.sort(0).values.flatten()
        tensor([0.5000, 9.5000])
    """
    require_count(num_clusters=num_clusters, max_rounds=max_rounds)
    if num_clusters > len(x):
        raise ValueError(
            f"'num_clusters' must be at most the number of rows, {len(x)} (got {num_clusters})"
        )
    centre = _first_centres(x, num_clusters, Generator().manual_seed(seed))
    label = torch.full((len(x),), -1, device=x.device)
    for _ in range(max_rounds):
        found = _assigned(x, centre)
        if torch.equal(found, label):
            break
        label = found
        centre = _means(x, label, centre)
    return label, centre


def _first_centres(x: Tensor, num_clusters: int, generator: Generator) -> Tensor:
    """Each centre is a row drawn by its squared distance to those before."""
    rows = [int(torch.randint(len(x), (1,), generator=generator, device="cpu"))]
    nearest = torch.full((len(x),), torch.inf, device=x.device, dtype=torch.double)
    for _ in range(num_clusters - 1):
        distance = (x - x[rows[-1]]).square().sum(1).double()
        nearest = torch.minimum(nearest, distance)
        nearest[rows] = 0  # exactly, so that none is drawn twice
        mass = nearest.cumsum(0)
        drawn = torch.rand(1, generator=generator, dtype=torch.double, device="cpu")
        at = drawn.to(x.device) * mass[-1]
        place = int(torch.searchsorted(mass, at, right=True))
        if place >= len(x) or float(mass[-1]) == 0:  # all other rows are copies of centres
            free = torch.ones(len(x), dtype=torch.bool, device=x.device)
            free[rows] = False
            place = int(free.nonzero()[0])
        rows.append(place)
    return x[rows].clone()


def _assigned(x: Tensor, centre: Tensor) -> Tensor:
    """The nearest centre of each row, in blocks."""
    norm = centre.square().sum(1)
    size = max(ENTRIES // len(centre), 1)
    return torch.cat([(norm - 2 * part @ centre.t()).argmin(1) for part in x.split(size)])


def _means(x: Tensor, label: Tensor, centre: Tensor) -> Tensor:
    total = torch.zeros_like(centre).index_add_(0, label, x)
    count = torch.bincount(label, minlength=len(centre)).unsqueeze(1)
    return torch.where(count > 0, total / count.clamp(min=1), centre)
