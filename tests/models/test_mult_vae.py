from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kd.models import MultVAE
from pyg_kd.training import Trainer
from pyg_kd.typing import Batch
from tests.models.gradients import check_gradients

U, I, DIM, HIDDEN = 5, 6, 2, 3  # noqa: E741
#: User 4 and item 5 are isolated, and (0, 1) comes twice.
EDGES = torch.tensor([[2, 0, 0, 1, 0, 2, 3], [3, 1, 0, 1, 1, 4, 4]])


def graph(edges: torch.Tensor = EDGES) -> HeteroData:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = U, I
    data["user", "interacts", "item"].edge_index = edges
    return data


def build(**options) -> MultVAE:
    """In float64, with parameters that are no longer small."""
    torch.manual_seed(1)
    model = MultVAE(graph(), DIM, **{"hidden_dim": HIDDEN} | options).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.7)
    return model


def batch() -> Batch:
    user = torch.tensor([2, 0, 2, 4])
    return Batch(user, torch.tensor([3, 1, 4, 0]), torch.tensor([5, 5, 0, 1]))


def encoded(model: MultVAE, user: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and log-variance of a user."""
    p = {name: value.detach().numpy() for name, value in model.named_parameters()}
    r = np.zeros(I)
    r[list({i for u, i in EDGES.t().tolist() if u == user})] = 1
    if r.any():
        r /= np.linalg.norm(r)
    hidden = np.tanh(r @ p["item_input"] + p["hidden_bias"])
    out = p["to_latent.weight"] @ hidden + p["to_latent.bias"]
    return out[:DIM], out[DIM:]


def logits(model: MultVAE, latent: np.ndarray) -> np.ndarray:
    """Scores of all items."""
    p = {name: value.detach().numpy() for name, value in model.named_parameters()}
    hidden = np.tanh(p["from_latent.weight"] @ latent + p["from_latent.bias"])
    return p["item_output"][:, :-1] @ hidden + p["item_output"][:, -1]


def oracle(model: MultVAE, beta: float, noise: np.ndarray) -> float:
    """The loss of :func:`batch`, whose unique users are 0, 2 and 4."""
    total = 0.0
    for user, epsilon in zip((0, 2, 4), noise, strict=True):
        mean, log_var = encoded(model, user)
        score = logits(model, mean + np.exp(log_var / 2) * epsilon)
        own = {i for u, i in EDGES.t().tolist() if u == user}
        total -= sum(score[i] - np.log(np.exp(score).sum()) for i in own)
        total += beta * -0.5 * (1 + log_var - mean**2 - np.exp(log_var)).sum()
    return total


NO_NOISE = np.zeros((3, DIM))


def test_what_is_served_is_the_decoded_mean():
    model = build()
    x_dict = model(graph())
    scores = model.score_block(x_dict["user"], x_dict["item"])
    for user in range(U):
        expected = logits(model, encoded(model, user)[0])
        np.testing.assert_allclose(scores[user].detach(), expected, rtol=1e-6)
    assert x_dict["user"].shape == (U, HIDDEN + 1) and model.out_dim == HIDDEN + 1
    assert all(map(torch.equal, x_dict.values(), model.eval()(graph()).values()))


@pytest.mark.parametrize("beta", [0.0, 0.2, 3.0])
def test_loss_without_noise(beta):
    model = build(kl_weight=beta).eval()
    loss = model.own_loss({}, graph(), batch())
    assert loss.item() == pytest.approx(oracle(model, beta, NO_NOISE), rel=1e-6)
    assert model.num_steps == 0


def test_the_latent_variables_are_drawn_in_training():
    model = build(dropout=0.0)
    torch.manual_seed(8)
    loss = model.own_loss({}, graph(), batch())
    torch.manual_seed(8)
    noise = torch.randn(3, DIM, dtype=torch.double).numpy()
    assert loss.item() == pytest.approx(oracle(model, 0.2, noise), rel=1e-6)
    assert loss.item() != pytest.approx(oracle(model, 0.2, NO_NOISE), rel=1e-3)


def test_interactions_are_left_out_in_training():
    model = build(kl_weight=0.0)
    with torch.no_grad():
        model.to_latent.weight[DIM:], model.to_latent.bias[DIM:] = 0, -80  # variances of nothing
    losses = {round(model.own_loss({}, graph(), batch()).item(), 6) for _ in range(300)}
    assert len(losses) == 2**4  # users 0 and 2 have two items each
    model.dropout = 0.0
    assert model.own_loss({}, graph(), batch()).item() == pytest.approx(
        oracle(model, 0.0, NO_NOISE), rel=1e-6
    )


@pytest.mark.parametrize("training", [False, True])
def test_gradient_equals_finite_differences(training):
    model = build(kl_weight=0.7, dropout=0.0).train(training)
    torch.manual_seed(8)
    model.own_loss({}, graph(), batch()).backward()
    torch.manual_seed(8)
    noise = torch.randn(3, DIM, dtype=torch.double).numpy() if training else NO_NOISE
    check_gradients(model, lambda: oracle(model, 0.7, noise), step=1e-5, atol=1e-6)


def test_the_weight_is_annealed_by_steps():
    model = build(kl_weight=0.8, anneal_steps=4, dropout=0.0)
    for step in range(1, 7):
        torch.manual_seed(step)
        loss = model.own_loss({}, graph(), batch())
        torch.manual_seed(step)
        noise = torch.randn(3, DIM, dtype=torch.double).numpy()
        beta = 0.8 * min(1.0, step / 4)
        assert loss.item() == pytest.approx(oracle(model, beta, noise), rel=1e-6)
        loss = model.eval().own_loss({}, graph(), batch())
        assert loss.item() == pytest.approx(oracle(model, beta, NO_NOISE), rel=1e-6)
        model.train()
    other = build(anneal_steps=4)
    other.load_state_dict(model.state_dict())
    assert other.num_steps == 6
    model.reset_parameters()
    assert model.num_steps == 0


def test_a_user_without_items_has_no_nan():
    model = build()
    isolated = Batch(torch.tensor([4]), torch.tensor([0]), torch.tensor([1]))
    loss = model.own_loss({}, graph(), isolated)
    loss.backward()
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
    mean, log_var = encoded(model, 4)
    divergence = -0.5 * (1 + log_var - mean**2 - np.exp(log_var)).sum()
    assert loss.item() == pytest.approx(0.2 * divergence, rel=1e-6)


def test_the_trainer_does_not_encode_all_users_for_every_batch(monkeypatch):
    data = graph(EDGES[:, :7].clone())
    data["user"].num_nodes = 4  # the trainer wants an edge of every user
    torch.manual_seed(0)
    model = MultVAE(data, 2, hidden_dim=8, anneal_steps=10)
    calls = []
    forward = MultVAE.forward
    monkeypatch.setattr(MultVAE, "forward", lambda self, d: calls.append(d) or forward(self, d))
    options = {"batch_by": "user", "batch_size": 1, "lr": 0.05, "progress": False}
    history = Trainer(max_epochs=8, accelerator="cpu", **options).fit(model, data)
    assert len(calls) == 8  # once an epoch, to see that it has not diverged
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    assert model.num_steps == 32


def test_parameters_are_drawn_by_their_sizes():
    data = graph()
    data["item"].num_nodes = 20_000
    model = MultVAE(data, 8, hidden_dim=30)
    for table in (model.item_input, model.item_output[:, :-1]):
        assert table.std().item() == pytest.approx(math.sqrt(2 / 20_030), rel=0.03)
    assert model.item_output[:, -1].std().item() == pytest.approx(0.001, rel=0.05)


def test_options_and_name():
    model = MultVAE(graph(), 2, hidden_dim=4, anneal_steps=7)
    name = "MultVAE(5, 6, dim=2, hidden_dim=4, dropout=0.5, kl_weight=0.2, anneal_steps=7)"
    assert repr(model) == name and model.default_loss == "own"
    assert MultVAE(graph(), 2).hidden_dim == 6
    for option, value, message in (
        ("hidden_dim", 0, r"'hidden_dim' must be a positive integer \(got 0\)"),
        ("dropout", 1.0, r"'dropout' must lie in \[0, 1\) \(got 1.0\)"),
        ("dropout", -0.1, r"'dropout' must lie in \[0, 1\) \(got -0.1\)"),
        ("kl_weight", float("nan"), r"'kl_weight' must be 0 or more \(got nan\)"),
        ("anneal_steps", -1, r"'anneal_steps' must be an integer of 0 or more \(got -1\)"),
    ):
        with pytest.raises(ValueError, match=message):
            MultVAE(graph(), 2, **{option: value})
