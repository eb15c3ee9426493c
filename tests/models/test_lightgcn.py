from __future__ import annotations

import copy
import pickle

import pytest
import torch
from numpy.linalg import norm
from torch import Tensor
from torch_geometric import EdgeIndex
from torch_geometric.data import HeteroData
from torch_geometric.nn import LightGCN as PyGLightGCN

from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.models import LightGCN
from tests.models.gradients import check_gradients

U, I = 6, 7  # noqa: E741
# User 5 and item 6 are isolated, and (0, 2) comes twice.
EDGES = torch.tensor([[0, 4, 0, 2, 1, 2, 0, 3, 1, 3], [2, 0, 3, 3, 2, 4, 2, 5, 0, 1]])


def graph(edge_index: Tensor = EDGES) -> HeteroData:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = U, I
    data["user", "interacts", "item"].edge_index = edge_index
    return data


def pyg_edges() -> Tensor:
    user, item = EDGES.unique(dim=1)
    return torch.stack([torch.cat([user, item + U]), torch.cat([item + U, user])])


def pair(num_layers: int) -> tuple[LightGCN, PyGLightGCN]:
    """Ours and that of PyG with the same embeddings."""
    ours, theirs = LightGCN(graph(), 4, num_layers), PyGLightGCN(U + I, 4, num_layers)
    with torch.no_grad():
        theirs.embedding.weight.copy_(torch.cat([ours.user_embedding, ours.item_embedding]))
    return ours, theirs


@pytest.mark.parametrize("num_layers", [0, 1, 2, 4])
def test_agrees_with_pyg(num_layers):
    ours, theirs = pair(num_layers)
    x_dict, x = ours(graph()), theirs.get_embedding(pyg_edges())
    torch.testing.assert_close(torch.cat([x_dict["user"], x_dict["item"]]), x, atol=1e-5, rtol=0)

    label = torch.tensor([[0, 5, 2, 2], [3, 6, 1, 1]])
    scores = ours.score(x_dict, label)
    expected = theirs(pyg_edges(), label + torch.tensor([[0], [U]]))
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=0)

    scores.square().sum().backward()
    expected.square().sum().backward()
    gradient = torch.cat([ours.user_embedding.grad, ours.item_embedding.grad])
    torch.testing.assert_close(gradient, theirs.embedding.weight.grad, atol=1e-5, rtol=0)


def test_agrees_with_pyg_after_training_steps():
    ours, theirs = pair(2)
    label = torch.tensor([[0, 1, 2, 3], [3, 6, 1, 2]])
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.5) for m in (ours, theirs)]
    for _ in range(5):
        losses = (
            ours.score(ours(graph()), label).sub(1).square().sum(),
            theirs(pyg_edges(), label + torch.tensor([[0], [U]])).sub(1).square().sum(),
        )
        for loss, optimizer in zip(losses, optimizers, strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    trained = torch.cat([ours.user_embedding, ours.item_embedding])
    torch.testing.assert_close(trained, theirs.embedding.weight, atol=1e-5, rtol=0)


def test_isolated_nodes_keep_a_share_of_their_embedding():
    model = LightGCN(graph(), 4, 3)
    x_dict = model(graph())
    torch.testing.assert_close(x_dict["user"][5], model.user_embedding[5] / 4)
    torch.testing.assert_close(x_dict["item"][6], model.item_embedding[6] / 4)


def test_the_adjacency_is_kept_for_a_graph():
    model, data = LightGCN(graph(), 4), graph()
    assert model.adjacency(data) is model.adjacency(data)


def test_another_graph_is_seen():
    model = LightGCN(graph(), 4)
    first = model(graph())["user"]
    fewer = model(graph(EDGES[:, :4].clone()))["user"]
    assert not torch.allclose(first, fewer)
    torch.testing.assert_close(model(graph())["user"], first)


def test_a_change_in_place_is_seen():
    data = graph(EDGES.clone())
    model = LightGCN(data, 4)
    before = model(data)["user"]
    data["user", "item"].edge_index[1, 0] = 6
    after = model(data)["user"]
    assert not torch.allclose(before, after)
    fresh = LightGCN(graph(), 4)
    fresh.load_state_dict(model.state_dict())
    torch.testing.assert_close(after, fresh(graph(data["user", "item"].edge_index.clone()))["user"])


def test_edges_in_an_edge_index():
    typed = EdgeIndex(EDGES, sparse_size=(U, I))
    model = LightGCN(graph(), 4)
    expected = model(graph())
    for name, x in model(graph(typed)).items():
        assert type(x) is Tensor
        torch.testing.assert_close(x, expected[name])


def test_a_copy_and_a_pickle_compute_the_same():
    model = LightGCN(graph(), 4)
    expected = model(graph())["item"]
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(graph())["item"], expected)


def test_gradient_equals_finite_differences():
    model = LightGCN(graph(), 1, 2).double()
    x_dict = model(graph())
    (x_dict["user"].pow(3).sum() + x_dict["item"].pow(2).sum()).backward()

    def loss() -> float:
        with torch.no_grad():
            x_dict = model(graph())
            return float(x_dict["user"].pow(3).sum() + x_dict["item"].pow(2).sum())

    check_gradients(model, loss, step=1e-5, atol=1e-7)


def test_unit_length_makes_scores_cosines():
    torch.manual_seed(0)
    plain = LightGCN(graph(), 4, 2)
    unit = LightGCN(graph(), 4, 2, normalize=True)
    with pytest.raises(ValueError, match="with normalize=False, the model has normalize=True"):
        unit.load_state_dict(plain.state_dict())
    state = {k: v for k, v in plain.state_dict().items() if k != "_extra_state"}
    unit.load_state_dict(state, strict=False)
    x_dict = {key: x.detach().double().numpy() for key, x in plain(graph()).items()}
    label = torch.tensor([[0, 5, 2], [3, 6, 1]])
    expected = [
        x_dict["user"][u] @ x_dict["item"][i] / norm(x_dict["user"][u]) / norm(x_dict["item"][i])
        for u, i in label.t().tolist()
    ]
    found = unit.score(unit(graph()), label)
    torch.testing.assert_close(found.double(), torch.tensor(expected), atol=1e-6, rtol=0)


def test_options_and_name():
    assert repr(LightGCN(graph(), 4, num_layers=3)) == "LightGCN(6, 7, dim=4, num_layers=3)"
    unit = LightGCN(graph(), 4, normalize=True)
    assert repr(unit) == "LightGCN(6, 7, dim=4, num_layers=2, normalize=True)"
    assert LightGCN.default_loss == "sampled_softmax"
    with pytest.raises(
        ValueError, match=r"'num_layers' must be an integer of 0 or more \(got -1\)"
    ):
        LightGCN(graph(), 4, num_layers=-1)


def test_popular_items_are_longer_by_a_power_of_their_degree() -> None:
    data = SyntheticInteractions(None, num_users=30, num_items=20, num_edges=150)[0]
    torch.manual_seed(0)
    plain = LightGCN(data, dim=4, normalize=True)
    longer = LightGCN(data, dim=4, normalize=True, popularity=0.3)
    with pytest.raises(ValueError, match="popularity"):
        longer.load_state_dict(plain.state_dict())
    with torch.no_grad():
        for mine, other in zip(longer.parameters(), plain.parameters(), strict=True):
            mine.copy_(other)
    degree = data["user", "item"].edge_index[1].bincount(minlength=20).double()
    found, expected = longer(data), plain(data)
    length = (1 + degree) ** 0.3
    torch.testing.assert_close(found["item"].norm(dim=1).double(), length, rtol=1e-5, atol=0)
    torch.testing.assert_close(found["user"], expected["user"])
    torch.testing.assert_close(
        found["item"].double() / length[:, None], expected["item"].double(), rtol=1e-5, atol=1e-6
    )
    with pytest.raises(ValueError, match="'popularity' needs normalize=True"):
        LightGCN(data, dim=4, popularity=0.1)
    assert repr(longer).endswith("normalize=True, popularity=0.3)")


def test_layers_in_blocks_and_files(tmp_path) -> None:
    whole = LightGCN(graph(), 4, 3)
    blocks = LightGCN(graph(), 4, 3, block_rows=2, folder=tmp_path)
    blocks.load_state_dict(whole.state_dict())
    for model in (whole, blocks):
        x_dict = model(graph())
        (x_dict["user"].pow(3).sum() + x_dict["item"].pow(2).sum()).backward()
    for name, x in whole(graph()).items():
        assert torch.equal(blocks(graph())[name], x)
    for one, other in zip(whole.parameters(), blocks.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)
    with pytest.raises(ValueError, match="'folder' needs 'block_rows'"):
        LightGCN(graph(), 4, folder=tmp_path)
