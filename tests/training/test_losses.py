from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pyg_kd.training import BPR, SampledSoftmax
from pyg_kd.training.losses import resolve_loss
from pyg_kd.typing import Batch

U, I, D = 5, 9, 4  # noqa: E741


def representations(seed: int = 0, dtype: torch.dtype = torch.double) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sizes = {"user": U, "item": I}
    return {
        name: torch.randn(n, D, generator=generator, dtype=torch.double).to(dtype)
        for name, n in sizes.items()
    }


def random_batch(seed: int, size: int, num_negatives: int | None) -> Batch:
    rng = np.random.default_rng(seed)
    shape = (size,) if num_negatives is None else (size, num_negatives)
    arrays = rng.integers(0, U, size), rng.integers(0, I, size), rng.integers(0, I, shape)
    return Batch(*(torch.from_numpy(array) for array in arrays))


def bpr_oracle(x: dict[str, Tensor], batch: Batch) -> float:
    user, item = x["user"].double().numpy(), x["item"].double().numpy()
    total = 0.0
    for u, p, negatives in zip(
        batch.user.tolist(), batch.positive.tolist(), batch.negative.tolist(), strict=True
    ):
        for n in negatives if isinstance(negatives, list) else [negatives]:
            total += math.log1p(math.exp(-(user[u] @ item[p] - user[u] @ item[n])))
    return total


@given(st.integers(0, 10_000), st.integers(1, 12), st.sampled_from([None, 1, 3]))
def test_bpr_equals_the_sum_over_triples(seed, size, num_negatives):
    x, batch = representations(seed), random_batch(seed, size, num_negatives)
    assert BPR()(x, batch).item() == pytest.approx(bpr_oracle(x, batch), rel=1e-10)


def similarity(u: np.ndarray, v: np.ndarray, cosine: bool) -> float:
    score = float(u @ v)
    return score / (np.linalg.norm(u) * np.linalg.norm(v)) if cosine else score


def softmax_oracle(x, batch, *, uniform, temperature, negatives, cosine) -> float:
    """Row by row, candidate by candidate; an in-batch one is divided by how often it comes."""
    user, item = x["user"].numpy(), x["item"].numpy()
    positives = batch.positive.tolist()
    total = 0.0
    for u, p in zip(batch.user.tolist(), positives, strict=True):
        logit = similarity(user[u], item[p], cosine) / temperature
        weights = []
        if negatives in ("uniform", "both"):
            weights += [(n, 1.0) for n in uniform]
        if negatives in ("in_batch", "both"):
            # Its share of the batch, relative to the 1 / I of a uniform draw.
            weights += [(n, positives.count(n) / len(positives) * I) for n in positives]
        denominator = math.exp(logit)
        for n, often in weights:
            if n != p:
                denominator += math.exp(similarity(user[u], item[n], cosine) / temperature) / often
        total -= math.log(math.exp(logit) / denominator)
    return total


@pytest.mark.parametrize("cosine", [True, False])
@pytest.mark.parametrize("negatives", ["uniform", "in_batch", "both"])
@given(seed=st.integers(0, 10_000), size=st.integers(1, 10), temperature=st.floats(0.1, 3.0))
def test_sampled_softmax_equals_the_sum_over_candidates(negatives, cosine, seed, size, temperature):
    x, batch = representations(seed), random_batch(seed, size, None)
    loss = SampledSoftmax(
        temperature=temperature, num_negatives=6, negatives=negatives, normalize=cosine
    )
    torch.manual_seed(seed)
    value = loss(x, batch).item()
    torch.manual_seed(seed)
    uniform = torch.randint(I, (6,)).tolist()
    expected = softmax_oracle(
        x, batch, uniform=uniform, temperature=temperature, negatives=negatives, cosine=cosine
    )
    # The share of an item in the batch is computed in float32.
    assert value == pytest.approx(expected, rel=1e-5, abs=1e-9)


def test_the_only_candidate_is_the_positive():
    x = representations()
    batch = Batch(torch.tensor([0, 1]), torch.tensor([3, 3]), torch.tensor([1, 1]))
    value = SampledSoftmax(negatives="in_batch")(
        {k: v.requires_grad_() for k, v in x.items()}, batch
    )
    assert value.item() == 0
    value.backward()
    assert all(bool(v.grad.isfinite().all()) for v in x.values())


def test_in_batch_draws_nothing():
    state = torch.get_rng_state()
    SampledSoftmax(negatives="in_batch")(representations(), random_batch(0, 6, None))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    "loss",
    [
        BPR(),
        *(
            SampledSoftmax(temperature=0.5, num_negatives=4, negatives=negatives, normalize=cosine)
            for negatives in ("uniform", "in_batch", "both")
            for cosine in (True, False)
        ),
    ],
    ids=repr,
)
def test_gradients(loss):
    x, batch = representations(), random_batch(1, 7, 2)

    def value(user: Tensor, item: Tensor) -> Tensor:
        torch.manual_seed(0)
        return loss({"user": user, "item": item}, batch)

    inputs = tuple(v.requires_grad_() for v in x.values())
    assert torch.autograd.gradcheck(value, inputs)


@pytest.mark.parametrize("negatives", ["uniform", "in_batch", "both"])
def test_large_scores_stay_finite(negatives):
    x = {k: (v * 100).requires_grad_() for k, v in representations(dtype=torch.float).items()}
    batch = random_batch(0, 8, None)
    for loss in (BPR(), SampledSoftmax(negatives=negatives, normalize=False)):
        value = loss(x, batch)
        value.backward()
        assert bool(value.isfinite())
        assert all(bool(v.grad.isfinite().all()) for v in x.values())


@pytest.mark.parametrize("num_negatives", [None, 2])
@pytest.mark.parametrize(
    "loss",
    [BPR(), *(SampledSoftmax(negatives=n) for n in ("uniform", "in_batch", "both"))],
    ids=repr,
)
def test_empty_batch_costs_nothing(loss, num_negatives):
    x = {k: v.requires_grad_() for k, v in representations().items()}
    value = loss(x, random_batch(0, 0, num_negatives))
    value.backward()
    assert value.item() == 0
    assert all(not bool(v.grad.any()) for v in x.values())


def test_repr_is_exact():
    loss = SampledSoftmax(temperature=0.2, num_negatives=7, negatives="both", normalize=False)
    again = eval(repr(loss))
    assert vars(again).keys() == vars(loss).keys()
    assert repr(again) == repr(loss)
    assert repr(BPR()) == "BPR()"


def test_options_are_checked():
    with pytest.raises(ValueError, match=r"'negatives' must be one of .*\(got 'hard'\)"):
        SampledSoftmax(negatives="hard")
    with pytest.raises(ValueError, match=r"'temperature' must be positive \(got 0\)"):
        SampledSoftmax(temperature=0)
    with pytest.raises(ValueError, match=r"'num_negatives' must be positive \(got -1\)"):
        SampledSoftmax(num_negatives=-1)


def test_losses_by_name():
    assert isinstance(resolve_loss("bpr"), BPR)
    assert isinstance(resolve_loss("sampled_softmax"), SampledSoftmax)
    own = nn.Identity()
    assert resolve_loss(own) is own
    for wrong in ("hinge", BPR, None):
        with pytest.raises(ValueError, match=r"'loss' must be one of .*'bpr'.* or a module"):
            resolve_loss(wrong)
