from __future__ import annotations

import pytest
import torch

from pyg_kd.models.layers import dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_share_and_scale(p: float) -> None:
    n = 200_003  # no multiple of four
    out = dropout(torch.full((n,), 2.0), p)
    kept = out != 0
    assert abs(kept.sum().item() - n * (1 - p)) < 5 * (n * p * (1 - p)) ** 0.5
    torch.testing.assert_close(
        out[kept], torch.full_like(out[kept], 2 / (1 - p)), rtol=2e-4, atol=0
    )
    # Entries that share a random number are independent all the same.
    lanes = kept[: n // 4 * 4].view(-1, 4).double()
    assert (torch.corrcoef(lanes.t()) - torch.eye(4)).abs().max() < 5 / len(lanes) ** 0.5
    assert (lanes.mean(0) - 1 + p).abs().max() < 5 * (p * (1 - p) / len(lanes)) ** 0.5


def test_gradient_is_dropped_too() -> None:
    x = torch.ones(64, 3, requires_grad=True)
    out = dropout(x, 0.3)
    out.sum().backward()
    assert torch.equal(x.grad, out.detach()) and bool((x.grad == 0).any())


def test_nothing_dropped() -> None:
    x = torch.randn(3, 2)
    assert dropout(x, 0.0) is x
    assert dropout(x[:0], 0.5).shape == (0, 2)


def test_the_seed_decides() -> None:
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(dropout(torch.ones(100), 0.5))
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_a_share_next_to_one_is_rounded_below_it():
    out = dropout(torch.ones(1000), 1 - 1e-9)
    assert bool(out.isfinite().all())
