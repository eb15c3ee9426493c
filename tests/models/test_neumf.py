from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.models import NeuMF, neumf
from pyg_kd.typing import Batch
from tests.models.gradients import check_gradients

U, I, DIM = 6, 9, 3  # noqa: E741

USER = torch.tensor([5, 0, 0, 3])
POSITIVE = torch.tensor([1, 8, 2, 1])
#: One negative of each interaction, and several; one item is drawn twice.
NEGATIVES = [
    torch.tensor([2, 2, 5, 0]),
    torch.tensor([[2, 7, 2], [1, 0, 6], [5, 5, 5], [0, 3, 4]]),
]
EDGES = torch.tensor([[3, 0, 3, 5, 1, 3], [1, 8, 1, 0, 1, 4]])
HIDDEN = [None, (4,), (5, 4, 2)]


def graph() -> HeteroData:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = U, I
    data["user", "interacts", "item"].edge_index = torch.stack([USER, POSITIVE])
    return data


def model(hidden: tuple[int, ...] | None = None, dim: int = DIM) -> NeuMF:
    return NeuMF(graph(), dim, hidden=hidden, init_std=1.0).double()


def oracle(net: NeuMF, u: int, i: int) -> float:
    """The logit of one pair, the perceptron run on both embeddings side by side."""
    state = {name: value.numpy() for name, value in net.state_dict().items()}
    d, user, item = net.dim, state["user_embedding"][u], state["item_embedding"][i]
    a = np.concatenate([user[d:], item[d:]])
    layers = ["first", *(f"deeper.{n}" for n in range(len(net.hidden) - 1))]
    for name in layers:
        a = np.maximum(state[f"{name}.weight"] @ a + state[f"{name}.bias"], 0)
    last = np.concatenate([user[:d] * item[:d], a])
    return float(state["output.weight"][0] @ last + state["output.bias"][0])


def oracle_loss(net: NeuMF, negative: Tensor) -> float:
    def sigmoid(x: float) -> float:
        return 1 / (1 + np.exp(-x))

    total = 0.0
    for u, p, row in zip(USER.tolist(), POSITIVE.tolist(), negative.tolist(), strict=True):
        total -= np.log(sigmoid(oracle(net, u, p)))
        for n in row if isinstance(row, list) else [row]:
            total -= np.log(1 - sigmoid(oracle(net, u, n)))
    return total


def test_representations_are_both_embeddings():
    net = model()
    x_dict = net(graph())
    assert x_dict["user"] is net.user_embedding and x_dict["item"] is net.item_embedding
    assert net.user_embedding.shape == (U, 2 * DIM) and net.item_embedding.shape == (I, 2 * DIM)


def test_embeddings_are_drawn_with_the_deviation_asked_for():
    data = graph()
    data["user"].num_nodes = data["item"].num_nodes = 2000
    net = NeuMF(data, 8, init_std=0.5)
    for table in (net.user_embedding, net.item_embedding):
        assert table.std().item() == pytest.approx(0.5, rel=0.03)


@pytest.mark.parametrize("hidden", HIDDEN)
def test_scores(hidden):
    net = model(hidden)
    x_dict = net(graph())
    expected = np.array([[oracle(net, u, i) for i in range(I)] for u in range(U)])
    block = net.score_block(x_dict["user"], x_dict["item"])
    np.testing.assert_allclose(block.detach().numpy(), expected, atol=1e-12)
    scores = net.score(x_dict, EDGES)
    np.testing.assert_allclose(scores.detach().numpy(), expected[tuple(EDGES.numpy())], atol=1e-12)


def test_width_of_one():
    net = model(dim=1)
    assert net.hidden == (1, 1)
    x_dict = net(graph())
    scores = net.score(x_dict, EDGES).detach().numpy()
    np.testing.assert_allclose(scores, [oracle(net, u, i) for u, i in EDGES.t().tolist()])


@pytest.mark.parametrize("entries", [1, 8, 20, 64])
def test_scores_in_small_tiles(entries, monkeypatch):
    net = model((4, 2))
    x_dict = net(graph())
    weight = torch.randn(U, I, dtype=torch.double)
    results = []
    for limit in (2**18, entries):
        monkeypatch.setattr(neumf, "CPU_ENTRIES", limit)
        net.zero_grad()
        block, scores = net.score_block(x_dict["user"], x_dict["item"]), net.score(x_dict, EDGES)
        ((block * weight).sum() + scores.square().sum()).backward()
        results.append([block, scores, *(p.grad for p in net.parameters())])
    for whole, tiled in zip(*results, strict=True):
        torch.testing.assert_close(tiled, whole)


@pytest.mark.parametrize("entries", [8, 32])
def test_hidden_values_stay_within_the_limit(entries, monkeypatch):
    net, sizes = model((4, 2)), []
    for layer in net.deeper:
        layer.register_forward_hook(lambda layer, args, out: sizes.append(args[0].numel()))
    monkeypatch.setattr(neumf, "CPU_ENTRIES", entries)
    x_dict = net(graph())
    with torch.no_grad():
        net.score_block(x_dict["user"], x_dict["item"])
        assert max(sizes) <= entries and sum(sizes) == U * I * 4
        sizes.clear()
        net.score(x_dict, EDGES)
        assert max(sizes) <= entries and sum(sizes) == EDGES.size(1) * 4


@pytest.mark.parametrize("size", [(0, 4), (3, 0)])
def test_no_pairs(size):
    net = model()
    block = net.score_block(net.user_embedding[: size[0]], net.item_embedding[: size[1]])
    assert block.shape == size
    assert net.score(net(graph()), EDGES[:, :0]).shape == (0,)


@pytest.mark.parametrize("hidden", HIDDEN)
def test_gradients_of_scores(hidden):
    net = model(hidden)
    net.score(net(graph()), EDGES).square().sum().backward()
    check_gradients(
        net,
        lambda: sum(oracle(net, u, i) ** 2 for u, i in EDGES.t().tolist()),
        step=1e-6,
        atol=1e-6,
    )


@pytest.mark.parametrize("negative", NEGATIVES, ids=["one", "several"])
@pytest.mark.parametrize("hidden", HIDDEN[::2])
def test_loss(negative, hidden):
    net, batch = model(hidden), Batch(USER, POSITIVE, negative)
    loss = net.own_loss(net(graph()), graph(), batch)
    assert loss.shape == () and loss.item() == pytest.approx(oracle_loss(net, negative), rel=1e-12)
    loss.backward()
    check_gradients(net, lambda: oracle_loss(net, negative), step=1e-6, atol=1e-6)


def test_logits_of_any_size_have_a_finite_loss():
    net = model()
    with torch.no_grad():
        net.output.bias.fill_(1e4)
    loss = net.own_loss(net(graph()), graph(), Batch(USER, POSITIVE, NEGATIVES[0]))
    assert loss.item() == pytest.approx(4e4, rel=1e-2)


def test_the_seed_decides_all_parameters():
    nets = [NeuMF(graph(), DIM) for _ in range(2)]
    assert not any(map(torch.equal, *(net.parameters() for net in nets)))
    for net in nets:
        torch.manual_seed(2)
        net.reset_parameters()
    assert all(map(torch.equal, *(net.parameters() for net in nets)))


def test_options_and_name():
    net = NeuMF(graph(), 5)
    assert repr(net) == "NeuMF(6, 9, dim=5, hidden=(5, 2))" and net.out_dim == 10
    assert (net.default_loss, net.inner_product, net.latent) == ("own", False, True)
    assert repr(NeuMF(graph(), 5, hidden=[7])) == "NeuMF(6, 9, dim=5, hidden=(7,))"
    for hidden in ((), (3, 0), [-1], 3, (2.5,), "84"):
        message = rf"'hidden' must be a list of positive widths \(got {re.escape(repr(hidden))}\)"
        with pytest.raises(ValueError, match=message):
            NeuMF(graph(), DIM, hidden=hidden)
    with pytest.raises(ValueError, match=r"'dim' must be a positive integer \(got -3\)"):
        NeuMF(graph(), -3)
