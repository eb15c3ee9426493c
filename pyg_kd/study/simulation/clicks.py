"""Who clicks what on a served list: click models with known probabilities."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Generator, Tensor

from pyg_kd.checks import require_at_least, require_number


class ClickModel(Protocol):
    """How relevance becomes clicks."""

    #: Whether a click depends on nothing but the item and its position.
    independent: bool

    def probabilities(self, relevance: Tensor) -> Tensor:
        """The probability of a click at each position, ``[..., K]`` as ``relevance``."""

    def sample(self, relevance: Tensor, generator: Generator) -> Tensor:
        """Clicks drawn, bool ``[..., K]``."""


class PositionBias:
    r"""The position-based model, as in `"An Experimental Comparison of Click Position-Bias Models"
    <https://doi.org/10.1145/1341531.1341545>`_: a click needs a look and an item that pleases.

    .. math::
        P(c_k = 1) = \theta_k\, r_k, \qquad \theta_k = k^{-\eta}

    with :math:`r_k` the relevance of the item at position :math:`k = 1, 2, \dots`. Looks at
    different positions are independent.

    Args:
        eta: How fast attention falls; 0 for none.

    Raises:
        ValueError: If ``eta`` is negative or not finite.

    Example:
        >>> PositionBias(eta=1.0).probabilities(torch.tensor([[0.6, 0.6, 0.3]]))
        tensor([[0.6000, 0.3000, 0.1000]])
    """

    independent = True

    def __init__(self, eta: float = 1.0) -> None:
        require_at_least(0, eta=eta)
        self.eta = eta

    def examination(self, like: Tensor) -> Tensor:
        """The probability of a look at each position, ``[K]`` for the last axis of a tensor."""
        place = torch.arange(1, like.size(-1) + 1, dtype=like.dtype, device=like.device)
        return place**-self.eta

    def probabilities(self, relevance: Tensor) -> Tensor:
        """The probability of a click at each position, ``[..., K]``."""
        return relevance * self.examination(relevance)

    def sample(self, relevance: Tensor, generator: Generator) -> Tensor:
        """Clicks drawn, bool ``[..., K]``."""
        return _flips(self.probabilities(relevance), generator)

    def __repr__(self) -> str:
        return f"PositionBias(eta={self.eta})"


class Cascade:
    r"""A list read from the top, as in `"A Dynamic Bayesian Network Click Model for Web Search
    Ranking" <https://doi.org/10.1145/1526709.1526711>`_.

    The first item is looked at, and one that is looked at is clicked with the probability of its
    relevance. A click satisfies with probability :math:`s`, and ends the visit; otherwise the
    reader goes on with probability :math:`\gamma`:

    .. math::
        P(c_k = 1) = r_k \prod_{j < k} \gamma\,(1 - s\, r_j)

    What stands above an item decides whether it is seen: estimators that take positions for
    independent are biased here.

    Args:
        satisfaction: :math:`s`, from 0 to 1.
        patience: :math:`\gamma`, from 0 to 1.

    Raises:
        ValueError: If an option lies outside of 0..1.

    Example:
        >>> Cascade(satisfaction=1.0, patience=1.0).probabilities(torch.tensor([[0.5, 0.5, 1.0]]))
        tensor([[0.5000, 0.2500, 0.2500]])
    """

    independent = False

    def __init__(self, satisfaction: float = 0.5, patience: float = 0.9) -> None:
        require_share(satisfaction=satisfaction, patience=patience)
        self.satisfaction, self.patience = satisfaction, patience

    def probabilities(self, relevance: Tensor) -> Tensor:
        """The probability of a click at each position, ``[..., K]``."""
        goes_on = self.patience * (1 - self.satisfaction * relevance)
        seen = torch.cat([torch.ones_like(goes_on[..., :1]), goes_on[..., :-1]], -1).cumprod(-1)
        return seen * relevance

    def sample(self, relevance: Tensor, generator: Generator) -> Tensor:
        """Clicks drawn, bool ``[..., K]``."""
        pleased = _flips(relevance, generator)
        stops = pleased & _flips(torch.full_like(relevance, self.satisfaction), generator)
        leaves = ~_flips(torch.full_like(relevance, self.patience), generator)
        ended = (stops | leaves).cumsum(-1)
        # A position is seen if the visit has not ended above it.
        return pleased & (ended - (stops | leaves).long() == 0)

    def __repr__(self) -> str:
        return f"Cascade(satisfaction={self.satisfaction}, patience={self.patience})"


def require_share(**options: float) -> None:
    """Raise ``ValueError`` for the first option that lies outside of 0..1."""
    require_number(**options)
    for name, value in options.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name!r} must lie in 0..1 (got {value})")


def _flips(probability: Tensor, generator: Generator) -> Tensor:
    drawn = torch.rand(
        probability.shape, generator=generator, device=probability.device, dtype=torch.double
    )
    return drawn < probability
