from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kd.models import CML
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


def graph() -> HeteroData:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = U, I
    data["user", "interacts", "item"].edge_index = torch.stack([USER, POSITIVE])
    return data


def model(margin: float = 1.0, init_std: float = 0.6) -> CML:
    """Some of the embeddings lie in the ball, some do not."""
    net = CML(graph(), DIM, margin=margin, init_std=init_std).double()
    for table in net.parameters():
        assert 0 < int((table.norm(dim=1) > 1).sum()) < len(table)
    return net


def points(table: Tensor) -> np.ndarray:
    e = table.detach().numpy()
    return np.stack([row / max(1.0, np.sqrt((row**2).sum())) for row in e])


def oracle(net: CML, negative: Tensor) -> float:
    """The hinge loss, triple by triple."""
    x_user, x_item = points(net.user_embedding), points(net.item_embedding)
    total = 0.0
    for u, p, row in zip(USER.tolist(), POSITIVE.tolist(), negative.tolist(), strict=True):
        for n in row if isinstance(row, list) else [row]:
            d_p = np.linalg.norm(x_user[u] - x_item[p])
            d_n = np.linalg.norm(x_user[u] - x_item[n])
            total += max(0.0, net.margin + d_p**2 - d_n**2)
    return total


def test_points_of_the_unit_ball():
    net = model()
    x_dict = net(graph())
    for node_type, table in (("user", net.user_embedding), ("item", net.item_embedding)):
        x = x_dict[node_type]
        np.testing.assert_allclose(x.detach().numpy(), points(table), rtol=1e-12)
        outside = table.norm(dim=1) > 1
        torch.testing.assert_close(x[outside].norm(dim=1), torch.ones(int(outside.sum())).double())
        assert torch.equal(x[~outside], table[~outside])


def test_clipping_is_differentiated():
    net = model()
    tables = tuple(net.parameters())

    def clipped(user: Tensor, item: Tensor) -> tuple[Tensor, ...]:
        x_dict = torch.func.functional_call(
            net, {"user_embedding": user, "item_embedding": item}, (graph(),)
        )
        return x_dict["user"], x_dict["item"]

    assert torch.autograd.gradcheck(clipped, tables)


def test_a_point_at_the_origin_has_a_gradient():
    net = CML(graph(), DIM)
    torch.nn.init.zeros_(net.user_embedding)
    net.own_loss(net(graph()), graph(), Batch(USER, POSITIVE, NEGATIVES[0])).backward()
    assert net.user_embedding.grad.isfinite().all() and net.user_embedding.grad.any()


@pytest.mark.parametrize("negative", NEGATIVES, ids=["one", "several"])
@pytest.mark.parametrize("margin", [0.3, 1.0])
def test_loss(negative, margin):
    net, batch = model(margin), Batch(USER, POSITIVE, negative)
    loss = net.own_loss(net(graph()), graph(), batch)
    assert loss.shape == () and loss.item() == pytest.approx(oracle(net, negative), rel=1e-12)
    # Some triples are satisfied already, and do not count.
    assert 0 < loss.item() < oracle(model(margin + 5), negative)
    loss.backward()
    check_gradients(net, lambda: oracle(net, negative), step=1e-6, atol=1e-7)


def test_satisfied_triples_cost_nothing():
    net = CML(graph(), 2)
    with torch.no_grad():
        net.user_embedding.copy_(torch.tensor([1.0, 0.0]))
        net.item_embedding.copy_(torch.tensor([-1.0, 0.0]))
        net.item_embedding[1] = torch.tensor([1.0, 0.0])
    x_dict = net(graph())

    def loss(positive: int, negative: int) -> float:
        batch = Batch(*torch.tensor([[0], [positive], [negative]]))
        return net.own_loss(x_dict, graph(), batch).item()

    assert loss(1, 2) == 0  # 1 + 0 - 4 is below zero
    assert loss(2, 1) == 5
    assert loss(2, 3) == 1


def test_scores_are_negative_squared_distances():
    net = model()
    x_dict = net(graph())
    x_user, x_item = points(net.user_embedding), points(net.item_embedding)
    expected = -(np.linalg.norm(x_user[:, None] - x_item[None], axis=2) ** 2)
    block = net.score_block(x_dict["user"], x_dict["item"])
    np.testing.assert_allclose(block.detach().numpy(), expected, atol=1e-12)
    block = net.score_block(x_dict["user"][1:3], x_dict["item"][4:])
    np.testing.assert_allclose(block.detach().numpy(), expected[1:3, 4:], atol=1e-12)
    edge_index = torch.tensor([[3, 0, 3, 5, 1], [1, 8, 1, 0, 1]])
    scores = net.score(x_dict, edge_index)
    np.testing.assert_allclose(scores.detach(), expected[tuple(edge_index.numpy())], atol=1e-12)


def test_scores_are_differentiated():
    x = [x.detach().requires_grad_() for x in model()(graph()).values()]
    net, edge_index = CML(graph(), DIM), torch.tensor([[3, 0, 3, 5, 1], [1, 8, 1, 0, 1]])

    def score(user: Tensor, item: Tensor) -> Tensor:
        return net.score({"user": user, "item": item}, edge_index)

    assert torch.autograd.gradcheck(score, x)
    assert torch.autograd.gradcheck(net.score_block, x)


def test_a_distance_is_never_negative():
    # The squares of points that coincide cancel but for their rounding.
    net = CML(graph(), 32)
    x = torch.nn.functional.normalize(torch.randn(500, 32), dim=1)
    edge_index = torch.arange(500).expand(2, -1)
    assert (net.score_block(x, x).diagonal() <= 0).all()
    assert (net.score({"user": x, "item": x}, edge_index) <= 0).all()


def test_options_and_name():
    net = CML(graph(), DIM, margin=0.5)
    assert repr(net) == "CML(6, 9, dim=3, margin=0.5)"
    assert (net.default_loss, net.inner_product, net.latent, net.out_dim) == ("own", False, True, 3)
    for margin in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=rf"'margin' must be positive \(got {margin}\)"):
            CML(graph(), DIM, margin=margin)
