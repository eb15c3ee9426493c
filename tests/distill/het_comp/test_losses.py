from __future__ import annotations

from math import exp, log

import numpy as np
import pytest
import torch

from pyg_kd.distill.het_comp.losses import fine_grained_loss, overall_loss


def log_add(*terms: float) -> float:
    top = max(terms)
    return top if top == -np.inf else top + log(sum(exp(t - top) for t in terms))


def overall(scores: list[float], tail: float) -> float:
    return sum(log_add(s, tail) - s for s in scores if s > -np.inf)


def ordered(scores: list[float], tail: float) -> float:
    scores = [s for s in scores if s > -np.inf]
    return sum(log_add(*scores[k:], tail) - s for k, s in enumerate(scores))


def fine_grained(observed: list[float], listed: list[float], tail: float) -> float:
    """Each list against all that is not on it; observed items not against the first half."""
    behind_half, behind_tenth = log_add(*listed[15:], tail), log_add(*listed[3:], tail)
    unobserved = ordered(listed[:15], behind_half) + ordered(listed[:3], behind_tenth)
    return ordered(observed, behind_half) + 0.5 * unobserved


def problem(size: float, dtype=torch.double):
    generator = torch.Generator().manual_seed(0)
    draw = torch.randn(8, 34, dtype=torch.double, generator=generator) * size
    observed, listed, tail = draw.split([3, 30, 1], dim=1)
    observed, listed = observed.clone(), listed.clone()
    observed[1, 1:], observed[2], listed[3, 4:], listed[4] = (-torch.inf,) * 4
    tail = tail[:, 0].clone()
    tail[5] = -torch.inf
    return [x.to(dtype).requires_grad_() for x in (observed, listed, tail)]


@pytest.mark.parametrize("size", [1.0, 50.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.double, torch.float32])
def test_values_and_finite_gradients(size, dtype):
    observed, listed, tail = problem(size, dtype)
    rows = [x.detach().tolist() for x in (observed, listed, tail)]
    expected = {
        overall_loss: [overall(o + n, z) for o, n, z in zip(*rows, strict=True)],
        fine_grained_loss: [fine_grained(o, n, z) for o, n, z in zip(*rows, strict=True)],
    }
    for loss, values in expected.items():
        args = (torch.cat([observed, listed], 1),) if loss is overall_loss else (observed, listed)
        found = loss(*args, tail)
        assert found.shape == (8,)
        tolerance = 1e-6 if dtype == torch.float32 else 1e-8  # softplus is linear above 20
        np.testing.assert_allclose(found.detach(), values, rtol=tolerance, atol=tolerance * size)
        grads = torch.autograd.grad(found.sum(), (observed, listed, tail))
        assert all(bool(g.isfinite().all()) for g in grads)


def test_gradients():
    # At some distance from padding, which has no neighbours.
    observed, listed, tail = (x.detach()[6:].requires_grad_() for x in problem(1.0))
    assert torch.autograd.gradcheck(fine_grained_loss, (observed, listed, tail))
    assert torch.autograd.gradcheck(overall_loss, (listed, tail))


def test_all_of_the_list_learns():
    observed, listed, tail = (x.detach()[6:].requires_grad_() for x in problem(1.0))
    fine_grained_loss(observed, listed, tail).sum().backward()
    # What is listed but not first is part of the tails: it goes down.
    assert bool((listed.grad[:, 15:] > 0).all()) and bool((listed.grad[:, 0] < 0).all())


def test_lists_shorter_than_ten_keep_a_head():
    tail = torch.zeros(1, dtype=torch.double)
    nothing = torch.full((1, 1), -torch.inf, dtype=torch.double)
    found = fine_grained_loss(nothing, torch.zeros(1, 1, dtype=torch.double), tail)
    assert found.item() == pytest.approx(log(2))


def test_nan_shows():
    listed = torch.tensor([[0.0, torch.nan], [0.0, 0.0]])
    assert overall_loss(listed, torch.zeros(2)).isnan().tolist() == [True, False]
    observed = torch.zeros(2, 1)
    assert fine_grained_loss(observed, listed.flip(1), torch.zeros(2)).isnan().tolist() == [
        True,
        False,
    ]
