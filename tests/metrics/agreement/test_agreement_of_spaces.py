from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyg_kd.metrics.agreement import (
    cka,
    compare_gradients,
    effective_rank,
    nearest,
    neighbourhood_agreement,
    uniformity,
    variance_share,
)


def centred_kernel(x: np.ndarray) -> np.ndarray:
    middle = np.eye(len(x)) - 1 / len(x)
    return middle @ x @ x.T @ middle


def cka_by_kernels(x: np.ndarray, y: np.ndarray) -> float:
    k, m = centred_kernel(x), centred_kernel(y)
    return np.sum(k * m) / np.sqrt(np.sum(k * k) * np.sum(m * m))


def unbiased_hsic(x: np.ndarray, y: np.ndarray) -> float:
    """Song et al. 2012, equation 5, with whole kernels."""
    n, one = len(x), np.ones(len(x))
    k, m = x @ x.T, y @ y.T
    np.fill_diagonal(k, 0)
    np.fill_diagonal(m, 0)
    return (
        np.trace(k @ m)
        + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
        - 2 / (n - 2) * one @ k @ m @ one
    ) / (n * (n - 3))


spaces = st.tuples(
    st.integers(5, 30), st.integers(1, 8), st.integers(1, 8), st.integers(0, 2**32 - 1)
)


@given(spaces, st.integers(1, 40))
def test_cka_is_that_of_whole_kernels(shape, block):
    n, a, b, seed = shape
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, a)) + 3, rng.normal(size=(n, b)) @ rng.normal(size=(b, b))
    found = cka(torch.from_numpy(x), torch.from_numpy(y), block=block)
    assert found == pytest.approx(cka_by_kernels(x, y), rel=1e-8)
    unbiased = cka(torch.from_numpy(x), torch.from_numpy(y), debiased=True, block=block)
    own = unbiased_hsic(x, x) * unbiased_hsic(y, y)
    if min(unbiased_hsic(x, x), unbiased_hsic(y, y)) > 1e-9:
        assert unbiased == pytest.approx(unbiased_hsic(x, y) / np.sqrt(own), rel=1e-6, abs=1e-9)


def test_unrelated_wide_spaces_are_unlike_only_without_bias():
    x, y = torch.randn(30, 200), torch.randn(30, 200)
    assert cka(x, y) > 0.7
    assert abs(cka(x, y, debiased=True)) < 0.2


def test_cka_ignores_rotation_scale_and_shift():
    x = torch.randn(40, 6, dtype=torch.double)
    rotated = 0.1 * x @ torch.linalg.qr(torch.randn(6, 6, dtype=torch.double)).Q + 5
    assert cka(x, rotated) == pytest.approx(1)
    assert cka(x, rotated, debiased=True) == pytest.approx(1)
    assert cka(x, torch.ones(40, 3)) == 0


def neighbours(x: np.ndarray, k: int) -> list[list[int]]:
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -np.inf)
    return np.argsort(-cosine, axis=1, kind="stable")[:, :k].tolist()


@given(spaces, st.integers(1, 4))
def test_neighbourhoods_are_compared_entity_by_entity(shape, k):
    n, a, b, seed = shape
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, a + 1)), rng.normal(size=(n, b + 1))
    first, second = neighbours(x, k), neighbours(y, k)
    assert nearest(torch.from_numpy(x), k).tolist() == first
    expected = [len(set(s) & set(t)) / k for s, t in zip(first, second, strict=True)]
    found = neighbourhood_agreement(torch.from_numpy(x), torch.from_numpy(y), k)
    np.testing.assert_allclose(found, expected)
    some = torch.tensor([3, 0])
    part = neighbourhood_agreement(torch.from_numpy(x), torch.from_numpy(y), k, rows=some)
    assert part.tolist() == found[some].tolist()


def test_too_many_neighbours_are_refused():
    with pytest.raises(ValueError, match="'k' must be below the number of entities, 3"):
        nearest(torch.eye(3), 3)
    with pytest.raises(ValueError, match="one row per entity"):
        cka(torch.eye(3), torch.eye(4))
    with pytest.raises(ValueError, match="'first' must hold 4"):
        cka(torch.eye(3), torch.eye(3), debiased=True)


@given(spaces)
def test_effective_rank_is_that_of_the_singular_values(shape):
    n, a, _, seed = shape
    x = np.random.default_rng(seed).normal(size=(n, a)) * np.arange(1, a + 1) + 2
    singular = np.linalg.svd(x - x.mean(0), compute_uv=False)
    p = singular / singular.sum()
    p = p[p > 0]
    assert effective_rank(torch.from_numpy(x)) == pytest.approx(
        np.exp(-(p * np.log(p)).sum()), rel=1e-5
    )
    share = singular**2 / (singular**2).sum()
    assert variance_share(torch.from_numpy(x), 2) == pytest.approx(share[:2].sum())


def test_a_collapsed_space_shows():
    line = torch.randn(50, 1) @ torch.randn(1, 8)
    assert effective_rank(line) == pytest.approx(1, abs=0.02)
    assert variance_share(line) == pytest.approx(1)
    assert uniformity(line.abs()) == pytest.approx(0, abs=1e-5)
    assert effective_rank(torch.ones(5, 3)) == 0
    assert uniformity(torch.randn(200, 8)) < -2


@given(spaces)
def test_uniformity_is_the_mean_over_pairs(shape):
    n, a, _, seed = shape
    x = np.random.default_rng(seed).normal(size=(n, a))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    pairs = [
        np.exp(-2 * np.sum((unit[i] - unit[j]) ** 2)) for i in range(n) for j in range(n) if i != j
    ]
    assert uniformity(torch.from_numpy(x)) == pytest.approx(np.log(np.mean(pairs)), abs=1e-9)


def test_uniformity_of_many_entities_takes_some_of_them():
    x = torch.randn(300, 4, dtype=torch.double)
    assert uniformity(x, max_entities=150) == pytest.approx(uniformity(x), abs=0.05)


def test_gradients_are_compared_and_left_alone():
    weight = torch.randn(3, 4, dtype=torch.double, requires_grad=True)
    other = torch.randn(2, dtype=torch.double, requires_grad=True)
    unused = torch.randn(2, dtype=torch.double, requires_grad=True)
    first, second = (weight.square().sum() + other.sum()), (weight.sin().sum() - 2 * other[0])
    pair = compare_gradients(first, second, [weight, other, unused])
    g1 = np.concatenate([2 * weight.detach().numpy().ravel(), [1, 1]])
    g2 = np.concatenate([np.cos(weight.detach().numpy()).ravel(), [-2, 0]])
    assert pair.cosine == pytest.approx(g1 @ g2 / np.linalg.norm(g1) / np.linalg.norm(g2))
    assert (pair.first, pair.second) == pytest.approx((np.linalg.norm(g1), np.linalg.norm(g2)))
    assert weight.grad is None
    assert compare_gradients(first, torch.zeros(()), [weight]).cosine is None
    (first + second).backward()  # both graphs are still there
    with pytest.raises(ValueError, match="'second' must be a scalar"):
        compare_gradients(first, weight, [weight])
