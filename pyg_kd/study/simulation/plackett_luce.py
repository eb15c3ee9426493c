"""The Plackett-Luce policy, and how likely it puts an item at a position."""

from __future__ import annotations

from math import asinh, log, pi

import torch
from torch import Generator, Tensor
from torch.nn.functional import softplus

from pyg_kd.checks import require_positive
from pyg_kd.study.simulation.policies import Policy

#: Numbers in a block of the quadrature.
ENTRIES = 2**22

#: Nodes of the quadrature to each side of the middle.
NODES = 64


class PlackettLuce(Policy):
    r"""Items drawn one by one without replacement, each in proportion to its weight, as in
    `"The Analysis of Permutations" <https://doi.org/10.2307/2346567>`_.

    .. math::
        P(a_1, \dots, a_k) = \prod_{j = 1}^{k}
        \frac{w_{a_j}}{\sum_{b \notin \{a_1, \dots, a_{j - 1}\}} w_b},
        \qquad w_a = e^{s_a / \tau}

    How likely an item is at one position is a sum over all lists; it equals an integral of one
    variable (the items are clocks that ring at random times), which is computed to 1e-10.

    Args:
        pool: The candidates of each user, best first, int64 ``[U, M]``.
        k: Length of the lists; ``M`` by default.
        scores: :math:`s`, finite, ``[U, M]``; by default :math:`-\log` of an item's place.
        temperature: :math:`\tau`; the smaller, the closer to the order of the scores.

    Raises:
        ValueError: If scores have another shape or are not finite.

    Example:
        >>> policy = PlackettLuce(torch.tensor([[4, 2, 7]]), k=2)
        >>> policy.probability(torch.tensor([0]), torch.tensor([[4, 2]])).round(decimals=4)
        tensor([[0.5455, 0.3879]], dtype=torch.float64)
    """

    def __init__(
        self,
        pool: Tensor,
        k: int | None = None,
        *,
        scores: Tensor | None = None,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(pool, k)
        require_positive(temperature=temperature)
        if scores is None:
            place = torch.arange(1, pool.size(1) + 1, dtype=torch.double, device=pool.device)
            scores = -place.log().expand(pool.shape)
        if scores.shape != pool.shape:
            raise ValueError(
                f"'scores' must be {list(pool.shape)}, as 'pool' (got {list(scores.shape)})"
            )
        if not bool(scores.isfinite().all()):
            raise ValueError(
                f"'scores' must be finite (got {float(scores[~scores.isfinite()][0])})"
            )
        self.temperature = temperature
        self.log_weight = scores.double() / temperature
        self._table: Tensor | None = None

    def draw(self, users: Tensor, generator: Generator) -> Tensor:
        """A list for each of some users, int64 ``[n, k]``."""
        self.check(users)
        weight, pool = self.log_weight[users], self.pool[users]
        # The k earliest of exponential clocks, as Gumbel noise on the log-weights.
        clock = torch.empty_like(weight).exponential_(generator=generator)
        return pool.gather(1, (weight - clock.log()).topk(self.k).indices)

    def marginals(self, users: Tensor) -> Tensor:
        """How likely each candidate is at each position, float64 ``[n, M, k]``."""
        self.check(users)
        if self._table is None and self.pool.numel() * self.k <= ENTRIES:
            # Of few users the quadrature is done once, for all that is asked of the policy.
            self._table = self._computed(torch.arange(self.num_users, device=users.device))
        return self._computed(users) if self._table is None else self._table[users]

    def _computed(self, users: Tensor) -> Tensor:
        size = self.pool.size(1)
        rows = max(ENTRIES // (size * self.k * (2 * NODES + 1)), 1)
        blocks = [position_marginals(w, self.k) for w in self.log_weight[users].split(rows)]
        return torch.cat(blocks) if blocks else self.log_weight.new_zeros(0, size, self.k)

    def list_probability(self, users: Tensor, lists: Tensor) -> Tensor:
        """How likely a whole list is, float64 ``[n]``."""
        self.check(users, lists)
        pool, weight = self.pool[users], self.log_weight[users]
        at = lists[:, :, None] == pool[:, None, :]
        left, log_p = (
            weight.clone(),
            torch.zeros(len(users), dtype=torch.double, device=pool.device),
        )
        for place in range(self.k):
            chosen = torch.where(at[:, place], weight, -torch.inf).amax(1)
            log_p = log_p + chosen - left.logsumexp(1)
            left = left.masked_fill(at[:, place], -torch.inf)
        return log_p.exp()


def position_marginals(log_weight: Tensor, k: int) -> Tensor:
    r"""How likely each item is at each of the first positions under Plackett-Luce.

    Item :math:`a` rings at a time :math:`T_a \sim \mathrm{Exp}(w_a)`, and lists are in the order of
    the times. With :math:`x = e^{-w_a T_a}`, which is uniform, another item :math:`b` is earlier
    with probability :math:`1 - x^{w_b / w_a}`, so that

    .. math::
        P(A_j = a) = \int_0^1 P\Big(\sum_{b \neq a} B_b = j - 1\Big) \, dx, \qquad
        B_b \sim \mathrm{Bernoulli}\big(1 - x^{w_b / w_a}\big)

    by double exponential quadrature.

    Args:
        log_weight: :math:`\log w`, float64 ``[n, M]``.
        k: Positions, ``M`` at most.

    Returns:
        float64 ``[n, M, k]``.
    """
    log_x, weight = _nodes(log_weight)
    size = log_weight.size(1)
    counts = log_weight.new_zeros(len(log_weight), size, len(log_x), k)
    counts[..., 0] = 1
    for other in range(size):
        ratio = (log_weight[:, other, None] - log_weight).clamp(max=700).exp()
        exponent = (ratio[..., None] * log_x)[..., None]
        exponent[:, other] = 0  # an item does not precede itself
        up = torch.cat([torch.zeros_like(counts[..., :1]), counts[..., :-1]], -1)
        counts = counts * exponent.exp() - up * exponent.expm1()
    return torch.einsum("nmqk,q->nmk", counts, weight)


def _nodes(like: Tensor) -> tuple[Tensor, Tensor]:
    """The logarithms of the nodes in 0..1, and their weights, float64 ``[2 * NODES + 1]``."""
    end = asinh(log(1e18) / pi)
    t = torch.linspace(-end, end, 2 * NODES + 1, dtype=torch.double, device=like.device)
    z = pi * t.sinh()
    log_x, log_rest = -softplus(-z, threshold=1e9), -softplus(z, threshold=1e9)
    return log_x, (log_x + log_rest).exp() * pi * t.cosh() * (end / NODES)
