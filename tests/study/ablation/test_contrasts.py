"""Against the definition: every order in which components can be added."""

from __future__ import annotations

from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyg_kd.study.ablation import contrasts

sizes = st.integers(1, 5)


def games(n: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(-50, 50), min_size=2**n, max_size=2**n)


def product(weights: list[Fraction], game: list[int]) -> Fraction:
    return sum((w * v for w, v in zip(weights, game, strict=True)), Fraction(0))


def over_all_orders(n: int, game: list[int], i: int) -> float:
    gains = []
    for order in permutations(range(n)):
        before = sum(1 << j for j in order[: order.index(i)])
        gains.append(np.float64(game[before | 1 << i]) - np.float64(game[before]))
    return float(np.mean(gains))


def pair_over_all_orders(n: int, game: list[int], i: int, j: int) -> float:
    """The pair takes part as one component."""
    others = [k for k in range(n) if k not in (i, j)]
    gains = []
    for order in permutations([*others, -1]):
        before = sum(1 << k for k in order[: order.index(-1)])
        gains.append(
            game[before | 1 << i | 1 << j] - game[before | 1 << i] - game[before | 1 << j]
            + game[before]
        )  # fmt: skip
    return float(np.mean(np.array(gains, np.float64)))


@given(st.data(), sizes)
def test_shapley_values_are_means_over_all_orders(data: st.DataObject, n: int) -> None:
    game = data.draw(games(n))
    for i in range(n):
        found = product(contrasts.shapley(n, i), game)
        assert float(found) == pytest.approx(over_all_orders(n, game, i), abs=1e-12)


@given(st.data(), st.integers(2, 5))
def test_interactions_are_means_over_all_orders(data: st.DataObject, n: int) -> None:
    game = data.draw(games(n))
    for i in range(n):
        for j in range(i):
            found = product(contrasts.interaction(n, i, j), game)
            assert found == product(contrasts.interaction(n, j, i), game)
            expected = pair_over_all_orders(n, game, i, j)
            assert float(found) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("n", range(1, 6))
def test_shares_add_up_to_the_total_exactly(n: int) -> None:
    """Efficiency, for every game at once: the weights add up, as fractions."""
    weights = [contrasts.shapley(n, i) for i in range(n)]
    assert [sum(column) for column in zip(*weights, strict=True)] == contrasts.total(n)


@given(st.data(), st.integers(2, 5))
def test_symmetry(data: st.DataObject, n: int) -> None:
    """Components that can be exchanged have the same share."""
    by_size = data.draw(games(n))
    i, j = data.draw(st.permutations(range(n)))[:2]
    game = []
    for subset in range(2**n):
        swapped = subset & ~(1 << i | 1 << j) | (subset >> i & 1) << j | (subset >> j & 1) << i
        game.append(by_size[min(subset, swapped)])
    assert product(contrasts.shapley(n, i), game) == product(contrasts.shapley(n, j), game)


@given(st.data(), sizes)
def test_dummy(data: st.DataObject, n: int) -> None:
    """What adds the same to every subset has that as its share, and interacts with nothing."""
    game, i = data.draw(games(n)), data.draw(st.integers(0, n - 1))
    gain = data.draw(st.integers(-5, 5))
    game = [game[subset & ~(1 << i)] + gain * (subset >> i & 1) for subset in range(2**n)]
    assert product(contrasts.shapley(n, i), game) == gain
    assert product(contrasts.leave_one_out(n, i), game) == gain
    assert product(contrasts.add_one_in(n, i), game) == gain
    for j in set(range(n)) - {i}:
        assert product(contrasts.interaction(n, i, j), game) == 0


@given(st.data(), sizes)
def test_linearity(data: st.DataObject, n: int) -> None:
    one, other = data.draw(games(n)), data.draw(games(n))
    both = [3 * a - b for a, b in zip(one, other, strict=True)]
    for i in range(n):
        weights = contrasts.shapley(n, i)
        assert product(weights, both) == 3 * product(weights, one) - product(weights, other)


@given(st.data(), sizes)
def test_leave_one_out_and_add_one_in(data: st.DataObject, n: int) -> None:
    game, full = data.draw(games(n)), 2**n - 1
    for i in range(n):
        assert product(contrasts.leave_one_out(n, i), game) == game[full] - game[full - 2**i]
        assert product(contrasts.add_one_in(n, i), game) == game[2**i] - game[0]
