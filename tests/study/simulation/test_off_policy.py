from __future__ import annotations

import warnings
from itertools import permutations

import numpy as np
import pytest
import torch
from scipy.stats import t
from torch import Tensor

from pyg_kd.study.simulation import (
    Cascade,
    ClickLog,
    EpsilonShuffle,
    FixedLists,
    PlackettLuce,
    PositionBias,
    TasteWorld,
    expected_clicks,
    fit_click_rates,
    missing_support,
    off_policy,
    serve,
)
from pyg_kd.study.simulation.click_rates import predictions
from pyg_kd.study.simulation.off_policy import estimate, importance_weights

K, POOL = 2, 4
CLICKS = PositionBias(eta=0.7)


def world() -> TasteWorld:
    rng = torch.Generator().manual_seed(0)
    liked = torch.randint(3, (30, 2), generator=rng)
    attraction = torch.rand(POOL, generator=rng, dtype=torch.double)
    return TasteWorld(liked, torch.tensor([0, 1, 2, 0]), attraction=attraction)


def pool(*order: int) -> Tensor:
    return torch.tensor(order).expand(30, POOL).contiguous()


def logging() -> PlackettLuce:
    return PlackettLuce(pool(3, 2, 1, 0), k=K)


def target() -> PlackettLuce:
    return PlackettLuce(pool(0, 1, 2, 3), k=K, temperature=2.0)


def logged(visits: int, seed: int, clicks: PositionBias | Cascade = CLICKS) -> ClickLog:
    rng = torch.Generator().manual_seed(seed)
    users = torch.randint(30, (visits,), generator=rng)
    return serve(world(), logging(), users, clicks=clicks, generator=rng)


def every_list(clicks: PositionBias | Cascade) -> tuple[ClickLog, np.ndarray]:
    """All that can be logged of every user, clicks and lists, and the probability of each."""
    rows, weights = [], []
    for user in range(30):
        for order in permutations(range(POOL), K):
            lists = torch.tensor([order])
            chance = clicks.probabilities(world().relevance(torch.tensor([user]), lists))[0]
            p = float(logging().list_probability(torch.tensor([user]), lists)) / 30
            for place in range(K):  # values are sums over positions: one click at a time
                rows.append((user, order, [j == place for j in range(K)]))
                weights.append(p * float(chance[place]))
    users = torch.tensor([row[0] for row in rows])
    items = torch.tensor([row[1] for row in rows])
    hit = torch.tensor([row[2] for row in rows])
    log = ClickLog(
        users,
        items,
        hit,
        logging().probability(users, items),
        logging().list_probability(users, items),
    )
    return log, np.array(weights)


def test_importance_weights_are_unbiased_by_enumeration() -> None:
    truth = float(expected_clicks(world(), target(), CLICKS).mean())
    log, probability = every_list(CLICKS)
    for slate in ("position", "list"):
        weight = importance_weights(log, target(), slate).numpy()
        value = (probability[:, None] * weight * log.clicks.numpy()).sum()
        assert value == pytest.approx(truth, rel=1e-9)


def test_positions_are_biased_where_readers_stop_and_lists_are_not() -> None:
    model = Cascade(satisfaction=1.0, patience=1.0)
    orders = torch.tensor(list(permutations(range(POOL), K)))
    truth = 0.0
    for user in range(30):
        users = torch.full((len(orders),), user)
        value = model.probabilities(world().relevance(users, orders)).sum(1)
        truth += float((target().list_probability(users, orders) * value).sum()) / 30
    log, probability = every_list(model)
    values = {}
    for slate in ("position", "list"):
        weight = importance_weights(log, target(), slate).numpy()
        values[slate] = (probability[:, None] * weight * log.clicks.numpy()).sum()
    assert values["list"] == pytest.approx(truth, rel=1e-9)
    assert abs(values["position"] - truth) > 1e-3


def test_estimators_by_their_formulas() -> None:
    log = logged(40, seed=3)
    weight = target().probability(log.user, log.items).numpy() / log.propensity.numpy()
    clicks = log.clicks.numpy()

    def model(users: Tensor, items: Tensor) -> Tensor:
        found = 0.5 * world().relevance(users, items)
        return torch.stack([found, found / 2], -1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {e: off_policy(log, target(), estimator=e, model=model) for e in ("ips", "dr")}
        found["snips"] = off_policy(log, target())
    snips = sum(
        sum(weight[i, k] * clicks[i, k] for i in range(40)) / weight[:, k].sum() for k in range(K)
    )
    assert found["snips"].value == pytest.approx(snips)
    assert found["ips"].value == pytest.approx((weight * clicks).sum() / 40)
    total = 0.0
    for i in range(40):
        user = log.user[i : i + 1]
        for k in range(K):
            for item in range(POOL):
                place = pool(0, 1, 2, 3)[0].tolist().index(item)
                chance = float(target().marginals(user)[0, place, k])
                total += chance * float(model(user, torch.tensor([[item]]))[0, 0, k])
            predicted = float(model(user, log.items[i : i + 1])[0, k, k])
            total += weight[i, k] * (float(clicks[i, k]) - predicted)
    assert found["dr"].value == pytest.approx(total / 40)
    effective = min(w.sum() ** 2 / (w * w).sum() for w in weight.T)
    assert found["ips"].effective == pytest.approx(effective)
    each = (weight * clicks).sum(1)  # the variance with users as units
    sums = [(each - each.mean())[log.user.numpy() == u].sum() for u in log.user.unique().tolist()]
    error = np.sqrt(np.square(sums).sum() * len(sums) / (len(sums) - 1)) / 40
    assert found["ips"].standard_error == pytest.approx(error)


def test_the_same_policy_gives_the_mean_of_what_was_logged() -> None:
    log = logged(500, seed=4)
    mean = float(log.clicks.sum(1).double().mean())
    for estimator in ("ips", "snips"):
        found = off_policy(log, logging(), estimator=estimator)
        assert found.value == pytest.approx(mean)
        assert (found.effective, found.mean_weight) == (500, 1.0)
    with_users = off_policy(log, logging(), estimator="ips", unit=torch.arange(500))
    spread = log.clicks.sum(1).double().std() / 500**0.5
    assert with_users.standard_error == pytest.approx(float(spread))


RUNS, VISITS = 1_000, 500


@pytest.fixture(scope="module")
def many() -> dict[str, np.ndarray]:
    """Many logs at once: weights, clicks, and what a model fitted elsewhere predicts."""
    log = logged(RUNS * VISITS, seed=5)
    predicted, base = predictions(log, target(), fit_click_rates(logged(2_000, seed=10)))
    found = {"clicks": log.clicks.double().numpy(), "predicted": predicted}
    found["weight"] = importance_weights(log, target()).numpy()
    by_run = {name: value.reshape(RUNS, VISITS, K) for name, value in found.items()}
    return {**by_run, "base": base.reshape(RUNS, VISITS)}


@pytest.mark.parametrize("estimator", ["ips", "snips", "dr"])
def test_the_true_value_lies_in_its_interval(estimator: str, many: dict[str, np.ndarray]) -> None:
    truth = float(expected_clicks(world(), target(), CLICKS).mean())
    extra = (many["predicted"], many["base"]) if estimator == "dr" else ()
    value, influence = estimate(many["clicks"], many["weight"], estimator, *extra)
    error = np.sqrt((influence**2).sum(1) / (VISITS - 1) / VISITS)
    inside = np.abs(value - truth) <= t.ppf(0.975, VISITS - 1) * error
    assert 0.93 <= inside.mean() <= 0.97
    assert value.mean() == pytest.approx(truth, abs=4 * value.std() / RUNS**0.5 + 1e-3)


def test_doubly_robust_with_a_good_model_varies_least() -> None:
    def truth(users: Tensor, items: Tensor) -> Tensor:
        like = torch.zeros(1, K, dtype=torch.double)
        return world().relevance(users, items)[..., None] * CLICKS.examination(like)

    log = logged(2_000, seed=6)
    visit = torch.arange(2_000)
    errors = {
        e: off_policy(log, target(), estimator=e, unit=visit).standard_error for e in ("ips", "dr")
    }
    best = off_policy(log, target(), estimator="dr", model=truth, unit=visit).standard_error
    assert best < errors["dr"] < errors["ips"]


def test_clipping_lowers_the_estimate_and_is_reported() -> None:
    log = logged(2_000, seed=7)
    plain = off_policy(log, target(), estimator="ips")
    clipped = off_policy(log, target(), estimator="ips", clip=1.0)
    assert clipped.value < plain.value and plain.clipped == 0
    weight = importance_weights(log, target()).numpy()
    assert clipped.clipped == pytest.approx((weight > 1).mean())
    assert clipped.standard_error < plain.standard_error


def test_missing_support_is_named() -> None:
    top = EpsilonShuffle(pool(3, 2, 1, 0)[:, :3], k=K, epsilon=0.5)
    wanted = FixedLists(pool(3, 0, 1, 2), k=K)
    assert missing_support(top, wanted) == 0.5
    assert missing_support(logging(), target()) == 0
    log = serve(
        world(),
        top,
        torch.arange(30).repeat(50),
        clicks=CLICKS,
        generator=torch.Generator().manual_seed(0),
    )
    with pytest.warns(UserWarning) as found:
        off_policy(log, wanted, estimator="ips")
    assert "the mean weight is 0.00 at position 1 and should be 1" in str(found[0].message)
    assert "the estimate rests on 0 effective visits of 1500" in str(found[1].message)
    with pytest.raises(ValueError, match="'log' must hold something that 'target' would serve at"):
        off_policy(log, wanted)


def test_few_effective_visits_are_named() -> None:
    with pytest.warns(UserWarning, match=r"the estimate rests on \d+ effective visits of 50"):
        off_policy(logged(50, seed=8), target())


def test_rates_of_items_are_shrunk_shares() -> None:
    log = ClickLog(
        torch.tensor([0, 1, 2]),
        torch.tensor([[0, 1], [0, 2], [1, 0]]),
        torch.tensor([[True, True], [True, False], [False, False]]),
        torch.ones(3, 2, dtype=torch.double),
        torch.ones(3, dtype=torch.double),
    )
    factor = np.array([1.0, 0.5])  # two clicks at the first position, one at the second
    mean = 3 / (3 * factor.sum())
    exposure = {0: 1 + 1 + 0.5, 1: 0.5 + 1, 2: 0.5, 7: 0.0}
    clicks = {0: 2, 1: 1, 2: 0, 7: 0}
    found = fit_click_rates(log, strength=4.0)(torch.tensor([0]), torch.tensor([[0, 1, 2, 7, -1]]))
    for place, item in enumerate((0, 1, 2, 7)):
        rate = (clicks[item] + 4 * mean) / (exposure[item] + 4)
        np.testing.assert_allclose(found[0, place].numpy(), np.minimum(rate * factor, 1))
    assert found[0, 4].eq(0).all()


def test_logs_that_no_policy_wrote() -> None:
    good = logged(4, seed=9)
    none = torch.zeros_like(good.propensity)
    hit = torch.ones_like(good.clicks)
    for change, message in (
        (
            {"propensity": none, "clicks": hit},
            "'propensity' must be above 0 where a click was logged "
            "(got 0.0 at visit 0, position 0)",
        ),
        (
            {"propensity": none, "clicks": ~hit},
            "'propensity' must be above 0 where an item was served "
            "(got 0.0 at visit 0, position 0)",
        ),
        ({"propensity": none + 1.5}, "'propensity' must lie in 0..1 (got 1.5)"),
        ({"propensity": none - 0.5}, "'propensity' must lie in 0..1 (got -0.5)"),
        ({"propensity": none[:, :1]}, "'propensity' must be [4, 2], as 'items' (got [4, 1])"),
        ({"clicks": hit[:2]}, "'clicks' must be [4, 2], as 'items' (got [2, 2])"),
        ({"clicks": 3 * hit.long()}, "'clicks' must be 0 or 1 (got 3.0)"),
        ({"user": good.user[:3]}, "'user' must be [4] (got [3])"),
        (
            {"items": torch.ones_like(good.items)},
            "'items' must list an item once (got item 1 twice in row 0)",
        ),
    ):
        with pytest.raises(ValueError) as error:
            off_policy(good._replace(**change), target())
        assert str(error.value) == message
    with pytest.raises(ValueError, match=r"'lists' must be \[4, 3\], as the policy's"):
        off_policy(good, PlackettLuce(pool(0, 1, 2, 3), k=3))
    with pytest.raises(ValueError, match="'estimator' must be one of"):
        off_policy(good, target(), estimator="magic")
    with pytest.raises(ValueError, match=r"'unit' must be \[4\] \(got \[2\]\)"), pytest.warns():
        off_policy(good, target(), unit=torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"'clip' must be positive \(got 0\)"):
        off_policy(good, target(), clip=0)
