from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from pyg_kd.functional import experts, mixture_of_experts
from pyg_kd.functional.experts import MIN_WEIGHT, experts_backward, experts_forward

N, D, H, C, M = 11, 3, 5, 4, 6


def one_by_one(x, weight, w1, b1, w2, b2) -> np.ndarray:
    """Entity by entity and expert by expert, in float64; small weights are zero."""
    x, weight, w1, b1, w2, b2 = (v.detach().double().numpy() for v in (x, weight, w1, b1, w2, b2))
    y = np.zeros((len(x), w2.shape[2]))
    for e in range(len(x)):
        for m in range(len(w1)):
            if weight[e, m] >= 1e-6:
                hidden = np.maximum(x[e] @ w1[m] + b1[m], 0)
                y[e] += weight[e, m] * (hidden @ w2[m] + b2[m])
    return y


def dense(x, weight, w1, b1, w2, b2) -> Tensor:
    """All experts on all entities, for autograd; a weight that is skipped gets no gradient."""
    weight = torch.where(weight >= 1e-6, weight, 0.0)
    hidden = (torch.einsum("ed,mdh->emh", x, w1) + b1).relu()
    return torch.einsum("em,emc->ec", weight, torch.einsum("emh,mhc->emc", hidden, w2) + b2)


def inputs(weight: Tensor, dtype: torch.dtype = torch.double) -> tuple[Tensor, ...]:
    n, m = weight.shape
    generator = torch.Generator().manual_seed(n + m)
    shapes = [(n, D), (m, D, H), (m, H), (m, H, C), (m, C)]
    x, *nets = (torch.randn(s, dtype=torch.double, generator=generator) for s in shapes)
    return tuple(v.to(dtype).detach().requires_grad_() for v in (x, weight, *nets))


def check(weight: Tensor) -> None:
    args = inputs(weight)
    y = mixture_of_experts(*args)
    np.testing.assert_allclose(y.detach().numpy(), one_by_one(*args), rtol=1e-10, atol=1e-10)
    target = torch.linspace(-2, 2, y.numel(), dtype=torch.double).view(y.shape)
    actual = torch.autograd.grad((y - target).square().sum(), args)
    expected = torch.autograd.grad((dense(*args) - target).square().sum(), args)
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def soft(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(N, M, dtype=torch.double, generator=generator).softmax(1)


def sharp() -> Tensor:
    """Two experts matter to each entity, of which one a little."""
    weight = torch.zeros(N, M, dtype=torch.double)
    for e in range(N):
        weight[e, e % M], weight[e, (2 * e + 1) % M] = 0.999, 1e-3
    return weight


def one_hot(expert: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(expert, M).double()


def without(weight: Tensor, *absent: int) -> Tensor:
    weight = weight.clone()
    weight[:, list(absent)] = 0
    return weight


CASES = {
    "all matter": soft(),
    "two matter": sharp(),
    "one-hot": one_hot(torch.arange(N) % M),
    "all on one expert": one_hot(torch.full((N,), 3)),
    "an expert without entities, dense": without(soft(), 0),
    "experts without entities, routed": without(sharp(), 0, 5),
    "half below the threshold": torch.where(soft() < 0.15, soft() * 1e-7, soft()),
    "exact zeros": torch.where(soft() < 0.1, 0.0, soft()),
    "at the threshold": torch.where(sharp() == 1e-3, MIN_WEIGHT, sharp()),
    "just below the threshold": torch.where(sharp() == 1e-3, 0.999 * MIN_WEIGHT, sharp()),
    "an entity without experts": torch.cat([sharp()[:-1], torch.zeros(1, M)]),
    "nothing matters": torch.full((N, M), 1e-9, dtype=torch.double),
    "not normalised": 3 * soft(),
    "one expert": torch.rand(N, 1, dtype=torch.double),
    "one entity": soft()[:1],
    "no entity": soft()[:0],
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("max_density", [None, -1.0, 2.0])
def test_value_and_gradient_equal_the_dense_sum(monkeypatch, name, max_density):
    if max_density is not None:  # everyone runs everything, and everyone is routed
        monkeypatch.setattr(experts, "MAX_DENSITY", max_density)
    check(CASES[name])


def test_the_cases_lie_on_both_sides_of_the_switch():
    density = {k: (w >= MIN_WEIGHT).double().mean().item() for k, w in CASES.items() if len(w)}
    assert density["two matter"] < experts.MAX_DENSITY < density["all matter"]
    assert density["one-hot"] < experts.MAX_DENSITY < density["exact zeros"]


@pytest.mark.parametrize("name", ["all matter", "two matter"])
def test_weights_need_not_be_contiguous(name):
    check(CASES[name].t().contiguous().t())


@given(st.integers(0, 9), st.integers(1, 7), st.floats(0, 1), st.integers(0, 999))
def test_any_share_of_edges(n, m, share, seed):
    rng = np.random.default_rng(seed)
    weight = rng.random((n, m)) * np.where(rng.random((n, m)) < share, 1.0, 1e-8)
    check(torch.from_numpy(weight))


@pytest.mark.parametrize("name", ["all matter", "two matter", "one-hot"])
def test_gradcheck(name):
    # Only weights that matter are moved: the others sit below a jump of the function.
    weight = CASES[name][:4]
    x, _, *nets = inputs(weight)
    free = weight[weight >= MIN_WEIGHT].clone().requires_grad_()

    def run(x: Tensor, free: Tensor, *nets: Tensor) -> Tensor:
        return mixture_of_experts(x, weight.masked_scatter(weight >= MIN_WEIGHT, free), *nets)

    assert torch.autograd.gradcheck(run, (x, free, *nets), fast_mode=True)


def test_a_skipped_weight_has_no_gradient():
    for weight in (CASES["half below the threshold"], CASES["just below the threshold"]):
        args = inputs(weight)
        gradient = torch.autograd.grad(mixture_of_experts(*args).square().sum(), args)[1]
        skipped = weight < MIN_WEIGHT
        assert skipped.any() and gradient[skipped].eq(0).all()
        assert gradient[~skipped].ne(0).all()


def test_experts_without_entities_have_no_gradient():
    args = inputs(without(sharp(), 0, 5))
    gradients = torch.autograd.grad(mixture_of_experts(*args).sum(), args)
    for gradient in gradients[2:]:
        assert gradient[[0, 5]].eq(0).all() and gradient[1].ne(0).any()


@pytest.mark.parametrize("temperature", [1.0, 0.1, 1e-3, 1e-10])
def test_annealing_ends_at_the_chosen_expert(temperature):
    logits = torch.randn(N, M, dtype=torch.double)
    weight = (logits / temperature).softmax(1)
    check(weight)
    if temperature == 1e-10:
        assert weight.amax(1).eq(1).all()
        chosen = inputs(one_hot(logits.argmax(1)))
        torch.testing.assert_close(mixture_of_experts(*inputs(weight)), dense(*chosen))


@pytest.mark.parametrize("name", ["all matter", "two matter"])
def test_gradient_reaches_the_selection_net(name):
    args = list(inputs(CASES[name]))
    shift = torch.zeros(M, dtype=torch.double, requires_grad=True)
    gradients = []
    for run in (mixture_of_experts, dense):
        args[1] = (CASES[name].clamp(min=1e-30).log() + shift).softmax(1)
        gradients.append(torch.autograd.grad(run(*args).square().sum(), shift)[0])
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)
    assert gradients[0].abs().max() > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["all matter", "two matter"])
def test_lower_precisions(name, dtype):
    args = inputs(CASES[name], dtype)
    y = mixture_of_experts(*args)
    assert y.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 0.1
    np.testing.assert_allclose(
        y.detach().double().numpy(), one_by_one(*args), rtol=tolerance, atol=tolerance
    )
    gradients = torch.autograd.grad(y.sum(), args)
    wide = [v.detach().double().requires_grad_() for v in args]
    expected = torch.autograd.grad(dense(*wide).sum(), wide)
    for a, b in zip(gradients, expected, strict=True):
        assert a.dtype == dtype
        assert (a.double() - b).norm() <= tolerance * b.norm()


def test_operators_keep_the_rules_of_the_dispatcher():
    for weight in (soft(), sharp()):
        args = tuple(v.detach() for v in inputs(weight))
        for low in (torch.double, torch.bfloat16):
            grad = torch.randn(N, C, dtype=torch.double)
            torch.library.opcheck(experts_forward, (*args, low))
            torch.library.opcheck(experts_backward, (grad, *args, low))


@pytest.mark.parametrize(
    "weight, dtype, low",
    [
        (soft(), torch.float32, True),
        (sharp(), torch.float32, False),
        (soft(), torch.float64, False),
    ],
)
def test_under_autocast_products_are_in_bfloat16(weight, dtype, low):
    args = inputs(weight, dtype)
    expected = dense(*args)
    with torch.autocast("cpu", torch.bfloat16):
        y = mixture_of_experts(*args)
    assert y.dtype == dtype
    gradients = torch.autograd.grad(y.sum(), args), torch.autograd.grad(expected.sum(), args)
    for a, b in ((y, expected), *zip(*gradients, strict=True)):
        assert a.dtype == dtype and a.shape == b.shape
        error = ((a - b).norm() / b.norm()).item()
        assert error < (0.02 if low else 10 * torch.finfo(dtype).eps)
    # Half the digits are gone where they were asked to go, and nowhere else.
    assert ((y - expected).norm() / expected.norm() > 1e-4) == low


def test_in_bfloat16_the_sum_over_experts_is_not():
    m, terms = 300, torch.full((1, 300), 1 / 300)
    x, w1, b1 = torch.ones(1, 1), torch.ones(m, 1, 1), torch.zeros(m, 1)
    args = (x, terms, w1, b1, torch.ones(m, 1, 1), torch.zeros(m, 1))
    with torch.autocast("cpu", torch.bfloat16):
        # Added up in bfloat16, 300 terms of 1/300 would stop growing at about one half.
        torch.testing.assert_close(mixture_of_experts(*args), x, rtol=2**-8, atol=0.0)


def test_fake_tensors_run_on_one_device_only():
    with FakeTensorMode():
        shapes = [(N, D), (N, M), (M, D, H), (M, H), (M, H, C), (M, C)]
        args = [torch.empty(s, device="cuda") for s in shapes]
        y = mixture_of_experts(*args)
        assert y.shape == (N, C) and y.device.type == "cuda"
        gradients = experts_backward(y, *args, torch.float32)
        assert [g.shape for g in gradients] == [a.shape for a in args]
        with pytest.raises(RuntimeError, match=r"one device \(got \['cpu', 'cuda:0'\]\)"):
            mixture_of_experts(*args[:-1], torch.empty(M, C))
        with pytest.raises(RuntimeError, match=r"one device \(got \['cpu', 'cuda:0'\]\)"):
            experts_backward(torch.empty(N, C), *args, torch.float32)


@pytest.mark.parametrize("place", range(6))
def test_shapes_that_do_not_fit(place):
    args = [v.detach() for v in inputs(soft())]
    args[place] = torch.cat([args[place]] * 2, dim=0)
    with pytest.raises(ValueError, match=r"'x', 'weight', 'b1', 'w2', 'b2' must be .*\(got "):
        mixture_of_experts(*args)
