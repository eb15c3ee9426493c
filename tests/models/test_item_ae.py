from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kd.models import ItemAE
from pyg_kd.typing import Batch
from tests.models.gradients import check_gradients

U, I, DIM = 5, 6, 3  # noqa: E741
#: User 4 and item 5 are isolated, and (0, 1) comes twice.
EDGES = torch.tensor([[2, 0, 0, 1, 0, 2, 3], [3, 1, 0, 1, 1, 4, 4]])


def graph() -> HeteroData:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = U, I
    data["user", "interacts", "item"].edge_index = EDGES
    return data


def build(**options) -> ItemAE:
    """In float64, with parameters that are no longer small."""
    torch.manual_seed(1)
    model = ItemAE(graph(), DIM, **options).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.7)
    return model


def users_of(item: int) -> list[int]:
    return sorted({u for u, i in EDGES.t().tolist() if i == item})


def log_likelihoods(model: ItemAE, item: int) -> np.ndarray:
    """``log p(u | i)`` of all users."""
    p = {name: value.detach().numpy() for name, value in model.named_parameters()}
    r = np.zeros(U)
    r[users_of(item)] = 1
    if r.any():
        r /= np.linalg.norm(r)
    hidden = np.tanh(r @ p["user_input"] + p["hidden_bias"])
    logit = p["user_output"][:, :-1] @ hidden + p["user_output"][:, -1]
    return logit - np.log(np.exp(logit).sum())


def batch() -> Batch:
    # Its unique items, positives and negatives together, are 1, 3, 4 and 5.
    return Batch(torch.tensor([2, 0, 2]), torch.tensor([3, 1, 4]), torch.tensor([5, 5, 1]))


def oracle(model: ItemAE) -> float:
    return -sum(log_likelihoods(model, item)[users_of(item)].sum() for item in (1, 3, 4, 5))


def test_scores_are_joint_likelihoods():
    model = build()
    x_dict = model(graph())
    scores = model.score_block(x_dict["user"], x_dict["item"])
    for item in range(I):
        expected = log_likelihoods(model, item) + np.log(max(len(users_of(item)), 1))
        np.testing.assert_allclose(scores[:, item].detach(), expected, rtol=1e-6, atol=1e-7)
    assert x_dict["item"].shape == (I, DIM + 2) and model.out_dim == DIM + 2
    assert all(map(torch.equal, x_dict.values(), model.eval()(graph()).values()))


def test_loss_and_gradient_without_noise():
    model = build().eval()
    loss = model.own_loss({}, graph(), batch())
    assert loss.item() == pytest.approx(oracle(model), rel=1e-6)
    loss.backward()
    check_gradients(model, lambda: oracle(model), step=1e-5, atol=1e-6)


def test_interactions_are_left_out_in_training():
    model = build()
    losses = {round(model.own_loss({}, graph(), batch()).item(), 6) for _ in range(400)}
    assert len(losses) == 2**5  # items 1 and 4 have two users each, item 3 one, item 5 none
    model.dropout = 0.0
    assert model.own_loss({}, graph(), batch()).item() == pytest.approx(oracle(model), rel=1e-6)


def test_representations_have_a_gradient():
    model = build()
    x_dict = model(graph())
    (x_dict["item"].pow(2).sum() + x_dict["user"].pow(3).sum()).backward()

    def value() -> float:
        with torch.no_grad():
            x_dict = model(graph())
            return float(x_dict["item"].pow(2).sum() + x_dict["user"].pow(3).sum())

    check_gradients(model, value, step=1e-5, atol=1e-5)


def test_options_and_name():
    model = ItemAE(graph(), 2, dropout=0.25)
    assert repr(model) == "ItemAE(5, 6, dim=2, dropout=0.25)" and model.default_loss == "own"
    for value in (1.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match=rf"'dropout' must lie in \[0, 1\) \(got {value}\)"):
            ItemAE(graph(), 2, dropout=value)
