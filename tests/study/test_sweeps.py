from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.evaluation import evaluate
from pyg_kd.models import EASE, MF
from pyg_kd.study.breaking_point import bend, kept_range
from pyg_kd.study.insight import sweep_section
from pyg_kd.study.report import to_html, to_markdown
from pyg_kd.study.sweeps import sweep
from pyg_kd.training import AlternatingLeastSquares
from pyg_kd.transforms import UserSplit


@pytest.fixture(scope="module")
def found():
    data = SyntheticInteractions(num_users=120, num_items=70, num_edges=2_400)[0]
    train, val, _ = UserSplit(val=0.2, seed=0)(data)
    als = AlternatingLeastSquares(alpha=5.0, regularization=5.0, progress=False)
    models = {}

    def make(dim):
        models[dim] = als.fit(MF(train, int(dim)), train)
        return models[dim]

    teacher = EASE(train)
    result = sweep(make, (16, 1, 4, 8), train, val, reference=teacher, metric="ndcg@10")
    return result, models, teacher, train, val


def test_points_are_what_evaluate_tells(found):
    result, models, teacher, train, val = found
    reference = evaluate(teacher, train, val, 10, ("ndcg",))["ndcg@10"]
    assert result.values == [1, 4, 8, 16] and result.reference == pytest.approx(reference)
    for point in result:
        value = evaluate(models[point.value], train, val, 10, ("ndcg",))["ndcg@10"]
        assert point.metric == pytest.approx(value)
        assert point.retention == pytest.approx(value / reference)
        assert point.size_bytes == 4 * point.value * (120 + 70)
        assert point.cpu_seconds >= 0 and point.interval[0] < point.retention < point.interval[1]


def by_hand(values, retention, threshold):
    """Look along a fine line of interpolated points, from the top to both sides."""
    x = np.linspace(np.log(values[0]), np.log(values[-1]), 200_001)
    y = np.interp(x, np.log(values), retention)
    top = int(np.argmax(y))
    below = np.flatnonzero(y < threshold)
    left, right = below[below < top], below[below > top]
    low = np.exp(x[left[-1]]) if len(left) else 0.0
    return low, np.exp(x[right[0]]) if len(right) else np.inf


@given(st.integers(1, 8), st.integers(0, 2**32 - 1), st.floats(0.05, 0.95))
def test_the_range_ends_where_the_line_crosses(n, seed, threshold):
    rng = np.random.default_rng(seed)
    values = np.cumsum(rng.integers(1, 6, n)).astype(float)
    retention = rng.random(n)
    found = kept_range(values, retention, threshold)
    if retention.max() < threshold:
        assert found is None
    else:
        np.testing.assert_allclose(found, by_hand(values, retention, threshold), rtol=1e-3)


def test_a_bend_is_found_where_it_is():
    values = np.array([1, 2, 4, 8, 16, 32, 64])
    curve = 0.9 + 0.2 * np.minimum(np.log(values) - np.log(11), 0)
    assert bend(values, curve) == pytest.approx(11, rel=0.05)
    noisy = curve + np.random.default_rng(0).normal(0, 0.01, 7)
    assert 8 < bend(values, noisy) < 16
    assert bend(values, curve[::-1] * -1 * 0 + 0.5) is None  # flat
    assert bend(values[:3], curve[:3]) is None


def test_it_prints_and_reports(found):
    result = found[0]
    assert "ndcg@10" in str(result) and str(result).count("\n") == 5
    assert result.to_dict()["points"][0]["value"] == 1
    section = sweep_section(result)
    assert "| 16 |" in to_markdown(section)
    pytest.importorskip("matplotlib").use("Agg")
    assert "<svg" in to_html(section) or "data:image" in to_html(section)


def test_bad_input_is_named(found):
    _, _, teacher, train, val = found
    for values in ((), (1, 1)):
        with pytest.raises(ValueError, match="'values' must be one or more"):
            sweep(lambda dim: teacher, values, train, val, reference=teacher)
    with pytest.raises(ValueError, match=r"'values\[1\]' must be positive"):
        sweep(lambda dim: teacher, (1, 0), train, val, reference=teacher)
