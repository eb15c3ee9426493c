from __future__ import annotations

from itertools import permutations
from math import perm

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyg_kd.study.simulation import EpsilonShuffle, FixedLists, PlackettLuce, Policy
from pyg_kd.study.simulation.plackett_luce import position_marginals

ONE = torch.tensor([0])


def plackett_luce_lists(log_weight: np.ndarray, k: int) -> dict[tuple[int, ...], float]:
    """Every list and its probability, by the definition."""
    weight, found = np.exp(log_weight), {}
    for order in permutations(range(len(weight)), k):
        probability, left = 1.0, set(range(len(weight)))
        for item in order:
            probability *= weight[item] / sum(weight[b] for b in left)
            left.remove(item)
        found[order] = probability
    return found


@given(
    st.lists(st.floats(-8, 8), min_size=1, max_size=5),
    st.integers(1, 5),
)
def test_marginals_of_plackett_luce_are_sums_over_all_lists(scores: list[float], k: int) -> None:
    k = min(k, len(scores))
    wanted = np.zeros((len(scores), k))
    lists = plackett_luce_lists(np.array(scores), k)
    for order, probability in lists.items():
        for place, item in enumerate(order):
            wanted[item, place] += probability
    found = position_marginals(torch.tensor([scores], dtype=torch.double), k)[0].numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-9)
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-9)


def test_marginals_with_weights_far_apart() -> None:
    scores = torch.tensor([[0.0, -400.0, 300.0]], dtype=torch.double)
    found = position_marginals(scores, 3)[0]
    wanted = torch.tensor([[0, 1, 0], [0, 0, 1], [1, 0, 0]], dtype=torch.double)
    torch.testing.assert_close(found, wanted, atol=1e-9, rtol=0)


def pools() -> torch.Tensor:
    return torch.tensor([[3, 1, 4, 0], [2, 5, 0, 1]])


def every_policy() -> list[Policy]:
    scores = torch.tensor([[2.0, 1.0, 0.5, -1.0], [0.0, 0.3, 0.1, 0.2]])
    return [
        FixedLists(pools(), k=2),
        EpsilonShuffle(pools(), k=2, epsilon=0.3),
        EpsilonShuffle(pools(), k=3, epsilon=1.0),
        PlackettLuce(pools(), k=2),
        PlackettLuce(pools(), k=3, scores=scores, temperature=0.7),
    ]


@pytest.mark.parametrize("policy", every_policy(), ids=repr)
def test_probabilities_of_all_lists_add_up_to_one_and_to_the_marginals(policy: Policy) -> None:
    for user in range(2):
        lists = torch.tensor(list(permutations(pools()[user].tolist(), policy.k)))
        users = torch.full((len(lists),), user)
        probability = policy.list_probability(users, lists)
        assert probability.sum() == pytest.approx(1)
        wanted = torch.stack(
            [((lists == item) * probability[:, None]).sum(0) for item in pools()[user].tolist()]
        )
        found = policy.marginals(torch.tensor([user]))[0]
        torch.testing.assert_close(found, wanted, atol=1e-9, rtol=0)
        rows = [pools()[user].tolist().index(i) for i in lists[5].tolist()]
        marginal = policy.probability(users[:1], lists[5:6])[0]
        torch.testing.assert_close(marginal, found[rows, torch.arange(policy.k)])


@pytest.mark.parametrize("policy", every_policy(), ids=repr)
def test_lists_are_drawn_as_often_as_said(policy: Policy) -> None:
    draws = 20_000
    lists = policy.draw(torch.ones(draws, dtype=torch.long), torch.Generator().manual_seed(1))
    assert (lists.sort(1).values.diff(dim=1) > 0).all()  # no item twice
    found, count = lists.unique(dim=0, return_counts=True)
    expected = policy.list_probability(torch.ones(len(found), dtype=torch.long), found) * draws
    assert len(found) <= perm(4, policy.k) and expected.sum() == pytest.approx(draws)
    # Pearson's statistic against its mean and deviation under the probabilities said.
    statistic = float(((count - expected) ** 2 / expected).sum())
    freedom = len(found) - 1
    assert statistic < freedom + 4 * (2 * freedom) ** 0.5 + 1e-9


def test_what_is_never_served_has_no_probability() -> None:
    for policy in every_policy():
        stranger = torch.full((1, policy.k), 9)
        assert policy.probability(ONE, stranger).eq(0).all()
        assert policy.list_probability(ONE, stranger).eq(0).all()
        padded = FixedLists(torch.tensor([[3, -1]]))
        assert padded.probability(ONE, torch.tensor([[3, -1]])).tolist() == [[1, 0]]


def test_bad_pools_and_options() -> None:
    for pool, message in (
        ([[1, 1]], "'pool' must list an item once (got item 1 twice in row 0)"),
        ([[1, -1]], "'pool' must have 2 items for every user (got 1 for user 0)"),
        ([[-1, 2]], "'pool' must be padded at the end (got [-1, 2])"),
        ([[-5, 2]], "'pool' must hold items, or -1 for padding (got -5)"),
    ):
        with pytest.raises(ValueError) as error:
            EpsilonShuffle(torch.tensor(pool))
        assert str(error.value) == message
    with pytest.raises(ValueError, match=r"'k' must be 4 at most, as the pool \(got 5\)"):
        FixedLists(pools(), k=5)
    with pytest.raises(ValueError, match=r"'epsilon' must lie in 0\.\.1 \(got 1.5\)"):
        EpsilonShuffle(pools(), epsilon=1.5)
    with pytest.raises(ValueError, match=r"'temperature' must be positive \(got 0.0\)"):
        PlackettLuce(pools(), temperature=0.0)
    with pytest.raises(ValueError, match=r"'scores' must be \[2, 4\], as 'pool' \(got \[2, 3\]\)"):
        PlackettLuce(pools(), scores=torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"'scores' must be finite \(got inf\)"):
        PlackettLuce(pools(), scores=torch.full((2, 4), torch.inf))
    with pytest.raises(
        ValueError, match=r"'lists' must be \[1, 4\], as the policy's \(got \[1, 2\]"
    ):
        FixedLists(pools()).probability(ONE, torch.tensor([[1, 2]]))
    with pytest.raises(ValueError, match=r"'users' must lie in 0\.\.1 \(got 2\)"):
        FixedLists(pools()).draw(torch.tensor([2]), torch.Generator())
