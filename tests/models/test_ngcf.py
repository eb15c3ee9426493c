from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kd.models import NGCF
from tests.models.gradients import check_gradients

U, I, DIM = 6, 7, 3  # noqa: E741
# User 5 and item 6 are isolated, and (0, 2) comes twice.
EDGES = torch.tensor([[0, 4, 0, 2, 1, 2, 0, 3, 1, 3], [2, 0, 3, 3, 2, 4, 2, 5, 0, 1]])


def graph() -> HeteroData:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = U, I
    data["user", "interacts", "item"].edge_index = EDGES
    return data


def model(**options) -> NGCF:
    torch.manual_seed(0)
    return NGCF(graph(), DIM, init_std=1.0, **options).double().eval()


def oracle(net: NGCF) -> np.ndarray:
    """Equation 7 of the paper on the matrix of all nodes."""
    dense = np.zeros((U + I, U + I))
    for user, item in EDGES.t().tolist():
        dense[user, U + item] = dense[U + item, user] = 1.0
    degree = np.maximum(dense.sum(1), 1)
    laplacian = dense / np.sqrt(degree[:, None] * degree[None])
    x = np.concatenate([t.detach().numpy() for t in (net.user_embedding, net.item_embedding)])
    layers = [x]
    for first, second in zip(net.neighbor, net.affinity, strict=True):
        w, v = first.weight.detach().numpy(), second.weight.detach().numpy()
        z = (laplacian + np.eye(U + I)) @ x @ w.T + (laplacian @ x) * x @ v.T
        x = np.where(z > 0, z, 0.2 * z)
        length = np.sqrt((x**2).sum(1, keepdims=True))
        layers.append(x / np.maximum(length, 1e-12) if net.normalize else x)
    return np.concatenate(layers, 1)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("num_layers", [1, 3])
def test_equals_the_paper(num_layers, normalize):
    net = model(num_layers=num_layers, normalize=normalize)
    x_dict = net(graph())
    found = torch.cat([x_dict["user"], x_dict["item"]]).detach().numpy()
    assert found.shape == (U + I, net.out_dim) == (U + I, (num_layers + 1) * DIM)
    # The entries of the adjacency are single precision.
    np.testing.assert_allclose(found, oracle(net), rtol=1e-6, atol=1e-6)


def test_gradient_equals_finite_differences():
    net = model(num_layers=2)
    weight = torch.randn(U + I, net.out_dim, dtype=torch.float64)
    x_dict = net(graph())
    (torch.cat([x_dict["user"], x_dict["item"]]) * weight).sum().backward()
    check_gradients(
        net, lambda: (oracle(net) * weight.numpy()).sum(), step=1e-6, rtol=1e-5, atol=1e-5
    )


def test_dropout_is_of_training_alone():
    net = model(dropout=0.5)
    quiet = net(graph())["user"]
    assert torch.equal(net(graph())["user"], quiet)
    net.train()
    torch.manual_seed(1)
    first, second = net(graph())["user"], net(graph())["user"]
    # The embeddings are whole, half of a layer's entries are zero, and others elsewhere.
    assert torch.equal(first[:, :DIM], quiet[:, :DIM]) and not torch.equal(first, second)
    share = torch.stack([(net(graph())["item"][:, DIM:] == 0).double().mean() for _ in range(50)])
    assert share.mean().item() == pytest.approx(0.5, abs=0.06)


def test_without_dropout_training_and_evaluation_agree():
    net = model(dropout=0.0)
    quiet = net(graph())["item"]
    assert torch.equal(net.train()(graph())["item"], quiet)


def test_options_and_name():
    text = "NGCF(6, 7, dim=3, num_layers=1, dropout=0.2, normalize=True)"
    assert repr(NGCF(graph(), DIM, 1, dropout=0.2, normalize=True)) == text
    assert NGCF.default_loss == "sampled_softmax"
    with pytest.raises(ValueError, match=r"'num_layers' must be a positive integer \(got 0\)"):
        NGCF(graph(), DIM, 0)
    for share in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match=rf"'dropout' must lie in \[0, 1\) \(got {share}\)"):
            NGCF(graph(), DIM, dropout=share)


@pytest.mark.parametrize("block_rows", [1, 2, 5, 100])
def test_blocks_equal_the_whole(block_rows):
    whole, blocks = model(num_layers=3), model(num_layers=3, block_rows=block_rows)
    blocks.load_state_dict(whole.state_dict())
    weight = torch.randn(U + I, whole.out_dim, dtype=torch.float64)
    results = []
    for net in (whole, blocks):
        x_dict = net(graph())
        x = torch.cat([x_dict["user"], x_dict["item"]])
        results.append([x, *torch.autograd.grad((x * weight).sum(), list(net.parameters()))])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_blocks_drop_the_same_entries_when_recomputed():
    """Gradients are those of the entries that were dropped: a step along them lowers the loss."""
    net = model(num_layers=2, dropout=0.5, block_rows=3).train()
    direction, losses = None, []
    for step in (0.0, -1e-8):
        with torch.no_grad():
            if direction is not None:
                net.user_embedding += step * direction
        torch.manual_seed(4)
        loss = net(graph())["item"].pow(3).sum()
        losses.append(float(loss.detach()))
        if direction is None:
            (direction,) = torch.autograd.grad(loss, net.user_embedding)
    slope = (losses[0] - losses[1]) / 1e-8
    assert slope == pytest.approx(float(direction.square().sum()), rel=1e-4)


def test_block_rows_are_checked():
    with pytest.raises(ValueError, match=r"'block_rows' must be a positive integer \(got 0\)"):
        NGCF(graph(), DIM, block_rows=0)
