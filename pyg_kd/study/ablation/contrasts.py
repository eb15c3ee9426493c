"""What a component adds, as exact weights of the values of all subsets.

Subsets of ``n`` components are numbered by their bits: component ``i`` is on in subset ``s`` if
``s >> i & 1``. Everything here is a list of one fraction for each subset; its product with the
subsets' values :math:`v` is the quantity that a function is named after.
"""

from __future__ import annotations

from fractions import Fraction
from math import factorial

Weights = list[Fraction]

#: Components at most: 32 rows are trained for five, each at every seed.
MOST = 5


def total(n: int) -> Weights:
    r"""What all components add together, :math:`v(N) - v(\emptyset)`.

    Example:
        >>> [int(weight) for weight in total(2)]
        [-1, 0, 0, 1]
    """
    return _weights(n, {2**n - 1: 1, 0: -1})


def leave_one_out(n: int, i: int) -> Weights:
    r"""What is lost without a component, :math:`v(N) - v(N \setminus i)`."""
    full = 2**n - 1
    return _weights(n, {full: 1, full ^ 1 << i: -1})


def add_one_in(n: int, i: int) -> Weights:
    r"""What a component adds alone, :math:`v(i) - v(\emptyset)`."""
    return _weights(n, {1 << i: 1, 0: -1})


def shapley(n: int, i: int) -> Weights:
    r"""The Shapley value of a component: what it adds, on average over all orders of adding.

    .. math::
        \varphi_i = \sum_{S \subseteq N \setminus i} \frac{|S|! \, (n - |S| - 1)!}{n!}
        \left[ v(S \cup i) - v(S) \right]

    as in `"A Value for n-Person Games" <https://doi.org/10.1515/9781400881970-018>`_. These are the
    only shares that add up to :func:`total`, are equal for components that add the same to every
    subset, are zero for one that never adds anything, and are linear in :math:`v`.

    Example:
        >>> [str(weight) for weight in shapley(2, 0)]
        ['-1/2', '1/2', '-1/2', '1/2']
    """
    found: dict[int, Fraction] = {}
    for subset in _without(n, 1 << i):
        size = subset.bit_count()
        share = Fraction(factorial(size) * factorial(n - size - 1), factorial(n))
        found[subset | 1 << i], found[subset] = share, -share
    return _weights(n, found)


def interaction(n: int, i: int, j: int) -> Weights:
    r"""The Shapley interaction index of two components.

    .. math::
        I_{ij} = \sum_{S \subseteq N \setminus ij} \frac{|S|! \, (n - |S| - 2)!}{(n - 1)!}
        \left[ v(S \cup ij) - v(S \cup i) - v(S \cup j) + v(S) \right]

    as in `"An axiomatic approach to the concept of interaction among players in cooperative games"
    <https://doi.org/10.1007/s001820050125>`_: above zero where the two add more together than
    each does without the other, below where they add the same thing. Of two components it is the
    interaction of a two-way factorial experiment.

    Example:
        >>> [int(weight) for weight in interaction(2, 0, 1)]
        [1, -1, -1, 1]
    """
    one, other = 1 << i, 1 << j
    found: dict[int, Fraction] = {}
    for subset in _without(n, one | other):
        size = subset.bit_count()
        share = Fraction(factorial(size) * factorial(n - size - 2), factorial(n - 1))
        found[subset | one | other] = found[subset] = share
        found[subset | one] = found[subset | other] = -share
    return _weights(n, found)


def _without(n: int, taken: int) -> list[int]:
    """The subsets of the components that are not taken."""
    return [subset for subset in range(2**n) if not subset & taken]


def _weights(n: int, found: dict[int, Fraction] | dict[int, int]) -> Weights:
    return [Fraction(found.get(subset, 0)) for subset in range(2**n)]
