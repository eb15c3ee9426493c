"""What serves lists: policies that know how likely each item is at each position."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import exp, lgamma

import torch
from torch import Generator, Tensor

from pyg_kd.checks import require_count
from pyg_kd.graph import check_ids
from pyg_kd.study.simulation.clicks import require_share
from pyg_kd.study.simulation.lists import check_lists


class Policy(ABC):
    r"""Draws a list of ``k`` items for a user from a pool of candidates.

    Args:
        pool: The candidates of each user, best first, int64 ``[U, M]``.
        k: Length of the lists; ``M`` by default.

    Raises:
        ValueError: If a pool lists an item twice or has fewer than ``k``.
    """

    #: Whether a pool may end early, with padding of -1.
    padded = False

    def __init__(self, pool: Tensor, k: int | None = None) -> None:
        check_lists("pool", pool, None)
        self.pool, self.k = pool, pool.size(1) if k is None else k
        require_count(k=self.k)
        if self.k > pool.size(1):
            raise ValueError(f"'k' must be {pool.size(1)} at most, as the pool (got {self.k})")
        if not self.padded and bool((pool < 0).any()):
            row = int((pool < 0).any(1).nonzero()[0])
            raise ValueError(
                f"'pool' must have {pool.size(1)} items for every user (got "
                f"{int((pool[row] >= 0).sum())} for user {row})"
            )

    @property
    def num_users(self) -> int:
        """Number of users that lists are known for."""
        return len(self.pool)

    @abstractmethod
    def draw(self, users: Tensor, generator: Generator) -> Tensor:
        """A list for each of some users, int64 ``[n, k]``."""

    @abstractmethod
    def marginals(self, users: Tensor) -> Tensor:
        """How likely each candidate is at each position, float64 ``[n, M, k]``."""

    @abstractmethod
    def list_probability(self, users: Tensor, lists: Tensor) -> Tensor:
        """How likely a whole list is, float64 ``[n]``."""

    def probability(self, users: Tensor, lists: Tensor) -> Tensor:
        r"""How likely each item of some lists is at its position, given the user.

        Args:
            users: int64 ``[n]``.
            lists: int64 ``[n, k]``.

        Returns:
            :math:`P(A_k = a_k \mid u)`, float64 ``[n, k]``; 0 for what the policy never does.
        """
        self.check(users, lists)
        # Many visits are of few users: marginals are computed once for each.
        distinct, back = numbered(users, self.num_users)
        table, pool = self.marginals(distinct)[back], self.pool[users]
        at = (pool[:, :, None] == lists[:, None, :]) & (pool[:, :, None] >= 0)
        return torch.where(at, table, 0.0).sum(1)

    def check(self, users: Tensor, lists: Tensor | None = None) -> None:
        """Raise ``ValueError`` unless users and lists fit the policy."""
        check_ids("users", users, self.num_users)
        if lists is not None and lists.shape != (len(users), self.k):
            raise ValueError(
                f"'lists' must be {[len(users), self.k]}, as the policy's (got {list(lists.shape)})"
            )

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.num_users} users, {self.pool.size(1)} items, k={self.k})"
        )


class FixedLists(Policy):
    """The first ``k`` of every user, always: what a model without exploration serves.

    Example:
        >>> policy = FixedLists(torch.tensor([[4, 2, 7]]), k=2)
        >>> policy.probability(torch.tensor([0]), torch.tensor([[4, 7]]))
        tensor([[1., 0.]], dtype=torch.float64)
    """

    padded = True

    def draw(self, users: Tensor, generator: Generator) -> Tensor:
        """A list for each of some users, int64 ``[n, k]``."""
        self.check(users)
        return self.pool[users, : self.k]

    def marginals(self, users: Tensor) -> Tensor:
        """How likely each candidate is at each position, float64 ``[n, M, k]``."""
        return _in_order(self, users)

    def list_probability(self, users: Tensor, lists: Tensor) -> Tensor:
        """How likely a whole list is, float64 ``[n]``."""
        self.check(users, lists)
        return (self.pool[users, : self.k] == lists).all(1).double()

    def probability(self, users: Tensor, lists: Tensor) -> Tensor:
        """1 where an item is at its own position, float64 ``[n, k]``."""
        self.check(users, lists)
        own = self.pool[users, : self.k]
        return ((own == lists) & (own >= 0)).double()


class EpsilonShuffle(Policy):
    r"""With probability :math:`\epsilon` a random order of the pool, otherwise the best ``k``.

    At each position

    .. math::
        P(A_k = a) = (1 - \epsilon)\,[a \text{ is the } k\text{-th}] + \frac{\epsilon}{M}

    for the ``M`` items of the pool. With :math:`\epsilon = 1` and a pool of ``k`` it is the
    shuffled top-k whose clicks show how attention falls.

    Args:
        pool: The candidates of each user, best first, int64 ``[U, M]``.
        k: Length of the lists; ``M`` by default.
        epsilon: From 0 to 1.

    Example:
        >>> policy = EpsilonShuffle(torch.tensor([[4, 2, 7, 5]]), k=2, epsilon=0.2)
        >>> policy.probability(torch.tensor([0]), torch.tensor([[4, 7]]))
        tensor([[0.8500, 0.0500]], dtype=torch.float64)
    """

    def __init__(self, pool: Tensor, k: int | None = None, *, epsilon: float = 0.1) -> None:
        super().__init__(pool, k)
        require_share(epsilon=epsilon)
        self.epsilon = epsilon

    def draw(self, users: Tensor, generator: Generator) -> Tensor:
        """A list for each of some users, int64 ``[n, k]``."""
        self.check(users)
        pool = self.pool[users]
        key = torch.rand(pool.shape, generator=generator, device=pool.device, dtype=torch.double)
        shuffled = pool.gather(1, key.argsort(1)[:, : self.k])
        explores = torch.rand(len(users), generator=generator, device=pool.device) < self.epsilon
        return torch.where(explores[:, None], shuffled, pool[:, : self.k])

    def marginals(self, users: Tensor) -> Tensor:
        """How likely each candidate is at each position, float64 ``[n, M, k]``."""
        return (1 - self.epsilon) * _in_order(self, users) + self.epsilon / self.pool.size(1)

    def probability(self, users: Tensor, lists: Tensor) -> Tensor:
        """How likely each item is at its position, float64 ``[n, k]``."""
        self.check(users, lists)
        pool = self.pool[users]
        known = (lists[:, :, None] == pool[:, None, :]).any(2)
        own = (lists == pool[:, : self.k]).double()
        return (1 - self.epsilon) * own + self.epsilon / pool.size(1) * known.double()

    def list_probability(self, users: Tensor, lists: Tensor) -> Tensor:
        """How likely a whole list is, float64 ``[n]``."""
        self.check(users, lists)
        pool = self.pool[users]
        best = (pool[:, : self.k] == lists).all(1)
        known = (lists[:, :, None] == pool[:, None, :]).any(2).all(1)
        size = pool.size(1)
        orders = exp(lgamma(size - self.k + 1) - lgamma(size + 1))
        return (1 - self.epsilon) * best.double() + self.epsilon * known.double() * orders


def numbered(users: Tensor, num_users: int) -> tuple[Tensor, Tensor]:
    """The distinct ones among some users, ascending, and where each user is among these."""
    there = torch.zeros(num_users, dtype=torch.bool, device=users.device)
    there[users] = True
    return there.nonzero().view(-1), (there.cumsum(0) - 1)[users]


def _in_order(policy: Policy, users: Tensor) -> Tensor:
    """1 where a position has its own candidate, float64 ``[n, M, k]``."""
    policy.check(users)
    size = policy.pool.size(1), policy.k
    one = torch.eye(*size, dtype=torch.double, device=policy.pool.device)
    return one.expand(len(users), *size)
