from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pyg_kd.study.simulation import PositionBias, interleaving_test, team_draft


def by_the_paper(
    a: list[int], b: list[int], k: int, coins: tuple[bool, ...]
) -> tuple[list[int], list[bool]]:
    """Algorithm 2 of Radlinski et al. with the coins given; ``True`` lets ``b`` pick."""
    made: list[int] = []
    teams: list[bool] = []
    tossed = iter(coins)
    left = lambda ranking: [i for i in ranking if i >= 0 and i not in made]  # noqa: E731
    while len(made) < k and left(a) and left(b):
        size_a, size_b = teams.count(False), teams.count(True)
        coin = next(tossed)
        picks_b = not (size_a < size_b or (size_a == size_b and not coin))
        made.append(left(b)[0] if picks_b else left(a)[0])
        teams.append(picks_b)
    return made, teams


def every(a: list[int], b: list[int], k: int) -> Counter[tuple[tuple[int, ...], tuple[bool, ...]]]:
    found: Counter[tuple[tuple[int, ...], tuple[bool, ...]]] = Counter()
    for coins in product([False, True], repeat=k):
        items, teams = by_the_paper(a, b, k, coins)
        found[tuple(items), tuple(teams)] += 2**-k
    return found


rankings = st.permutations(range(6)).flatmap(
    lambda items: st.integers(0, 4).map(lambda cut: [*items[: 6 - cut], *[-1] * cut])
)


@given(rankings, rankings, st.integers(1, 6))
def test_lists_are_those_of_the_paper(a: list[int], b: list[int], k: int) -> None:
    wanted = every(a, b, k)
    made = team_draft(
        torch.tensor([a] * 200),
        torch.tensor([b] * 200),
        k,
        generator=torch.Generator().manual_seed(0),
    )
    seen = Counter()
    for items, teams in zip(made.items.tolist(), made.treatment.tolist(), strict=True):
        length = sum(i >= 0 for i in items)
        assert items[length:] == [-1] * (k - length) and not any(teams[length:])
        seen[tuple(items[:length]), tuple(teams[:length])] += 1
    assert set(seen) <= set(wanted)
    for key, chance in wanted.items():
        assert abs(seen[key] / 200 - chance) < 5 * (chance * (1 - chance) / 200) ** 0.5 + 1e-9


def credit(a: list[int], b: list[int], k: int, relevance: np.ndarray) -> float:
    """Expected clicks on ``b``'s items minus those on ``a``'s, over all coins."""
    gain = 0.0
    for (items, teams), chance in every(a, b, k).items():
        clicks = PositionBias(1.0).probabilities(torch.tensor(relevance[list(items)])[None])[0]
        gain += chance * sum(c if t else -c for c, t in zip(clicks.tolist(), teams, strict=True))
    return gain


def test_identical_rankers_get_equal_credit_and_a_better_one_gets_more() -> None:
    relevance = np.array([0.9, 0.5, 0.4, 0.2, 0.1])
    order, other = [2, 0, 4, 1, 3], [0, 1, 2, 3, 4]
    for k in range(1, 6):
        assert credit(order, order, k, relevance) == pytest.approx(0)
        assert credit(order, other, k, relevance) == pytest.approx(
            -credit(other, order, k, relevance)
        )
    assert credit(order, other, 3, relevance) > 0.05


def clicks_of_users(
    a: list[int], b: list[int], users: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    made = team_draft(torch.tensor([a] * users), torch.tensor([b] * users), 4, generator=rng)
    relevance = torch.tensor([0.7, 0.5, 0.4, 0.2, 0.1, 0.1])[made.items]
    return made.credit(PositionBias(0.5).sample(relevance, rng))


@pytest.mark.parametrize("test", ["sign", "t"])
def test_alike_rankers_differ_in_one_test_of_twenty(test: str) -> None:
    runs, users = 1_000, 200
    first, second = clicks_of_users([0, 3, 1, 2, 4, 5], [0, 3, 1, 2, 4, 5], runs * users, 1)
    p = [
        interleaving_test(a, b, test=test).p_value
        for a, b in zip(first.view(runs, -1), second.view(runs, -1), strict=True)
    ]
    assert abs(np.mean(np.array(p) < 0.05) - 0.05) <= 0.015


def test_what_the_tests_say_is_what_scipy_says() -> None:
    first, second = clicks_of_users([3, 1, 0, 2, 4, 5], [0, 1, 2, 3, 4, 5], 300, 2)
    gain = (second - first).numpy()
    sign = interleaving_test(first, second)
    wins, losses = (gain > 0).sum(), (gain < 0).sum()
    assert (sign.wins, sign.losses, sign.ties) == (wins, losses, 300 - wins - losses)
    wanted = stats.binomtest(int(wins), int(wins + losses))
    assert sign.p_value == pytest.approx(wanted.pvalue)
    assert sign.effect == pytest.approx((wins + (300 - wins - losses) / 2) / 300 - 0.5)
    share = (wins + losses) / 300
    ends = [share * (end - 0.5) for end in wanted.proportion_ci(0.95, "exact")]
    assert sign.interval == pytest.approx(ends)
    student = interleaving_test(first, second, test="t", confidence=0.9)
    one = stats.ttest_1samp(gain, 0)
    interval = one.confidence_interval(0.9)
    assert student.p_value == pytest.approx(one.pvalue)
    assert student.interval == pytest.approx((interval.low, interval.high))
    assert student.effect > 0 and sign.effect > 0


def test_nobody_prefers_either() -> None:
    for test in ("sign", "t"):
        found = interleaving_test([1, 0], [1, 0], test=test)
        assert (found.effect, found.interval, found.p_value, found.ties) == (0, (0, 0), 1, 2)


def test_bad_input() -> None:
    rng = torch.Generator()
    good = torch.tensor([[0, 1, 2]])
    for pair, message in (
        ((good, good[:, :2]), r"'treatment' must be \[1, >= 3\] \(got \[1, 2\]\)"),
        ((good, good.repeat(2, 1)), r"'treatment' must be \[1, >= 3\] \(got \[2, 3\]\)"),
        ((torch.tensor([[0, 1, 1]]), good), "'control' must list an item once"),
    ):
        with pytest.raises(ValueError, match=message):
            team_draft(*pair, 3, generator=rng)
    with pytest.raises(ValueError, match=r"'k' must be a positive integer \(got 0\)"):
        team_draft(good, good, 0, generator=rng)
    with pytest.raises(ValueError, match=r"'treatment' must be of the users of 'control', \[2\]"):
        interleaving_test([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="'test' must be one of"):
        interleaving_test([1, 2], [1, 2], test="z")
