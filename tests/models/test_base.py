from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric import EdgeIndex
from torch_geometric.data import HeteroData

from pyg_kd.datasets import from_interactions
from pyg_kd.knowledge import extract_knowledge
from pyg_kd.models import MF, LightGCN, Recommender, base
from pyg_kd.typing import XDict

MODELS = [MF, LightGCN]


class Doubled(Recommender):
    """The least that a subclass writes."""

    def forward(self, data: HeteroData) -> XDict:
        return {"user": 2 * self.user_embedding, "item": 2 * self.item_embedding}


def graph(num_users: int = 4, num_items: int = 5) -> HeteroData:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = num_users, num_items
    data["user", "rates", "item"].edge_index = torch.tensor([[0, 1, 3, 3], [4, 2, 0, 1]])
    return data


@pytest.mark.parametrize("model", [*MODELS, Doubled])
def test_embeddings_have_the_size_of_the_graph(model):
    kwargs = {"init_std": 0.1} if model is Doubled else {}
    net = model(graph(), 3, **kwargs)
    shapes = {name: tuple(p.shape) for name, p in net.named_parameters()}
    assert shapes == {"user_embedding": (4, 3), "item_embedding": (5, 3)}
    x_dict = net(graph())
    assert {k: tuple(v.shape) for k, v in x_dict.items()} == {"user": (4, 3), "item": (5, 3)}
    assert (net.num_users, net.num_items, net.dim) == (4, 5, 3)


def test_a_model_without_tables_resets_itself():
    with pytest.raises(NotImplementedError, match="Doubled has no embedding tables"):
        Doubled(graph(), 3).reset_parameters()


@pytest.mark.parametrize("model", MODELS)
def test_embeddings_are_drawn_with_the_deviation_asked_for(model):
    data = graph(2000, 3000)
    for std in (0.01, 2.0):
        net = model(data, 8, init_std=std)
        for table in net.parameters():
            assert table.mean().item() == pytest.approx(0, abs=0.03 * std)
            assert table.std().item() == pytest.approx(std, rel=0.03)


@pytest.mark.parametrize("model", MODELS)
def test_the_seed_decides_the_embeddings(model):
    def tables(seed: int) -> list[Tensor]:
        torch.manual_seed(seed)
        return [p.detach() for p in model(graph(), 3).parameters()]

    for a, b, other in zip(tables(1), tables(1), tables(2), strict=True):
        assert torch.equal(a, b) and not torch.equal(a, other)
    net = model(graph(), 3)
    before = [p.detach().clone() for p in net.parameters()]
    net.reset_parameters()
    assert all(not torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


def test_scores_are_inner_products():
    net = Doubled(graph(), 3, 1.0).double()
    x_dict = net(graph())
    x_user, x_item = (x_dict[k].detach().numpy() for k in ("user", "item"))
    edge_index = torch.tensor([[3, 0, 3], [1, 4, 1]])
    expected = [x_user[u] @ x_item[i] for u, i in edge_index.t().tolist()]
    scores = net.score(x_dict, edge_index)
    np.testing.assert_allclose(scores.detach().numpy(), expected, rtol=1e-12)
    scores.sum().backward()
    assert net.user_embedding.grad[[1, 2]].eq(0).all() and net.user_embedding.grad[3].ne(0).all()

    block = net.score_block(x_dict["user"][1:3], x_dict["item"][:4])
    np.testing.assert_allclose(block.detach().numpy(), x_user[1:3] @ x_item[:4].T, rtol=1e-12)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("sizes", [(5, 5), (4, 6)])
def test_a_graph_of_another_size_is_refused(model, sizes):
    net = model(graph(), 3)
    message = rf"'data' has {sizes[0]} users and {sizes[1]} items, .* built for 4 and 5"
    with pytest.raises(ValueError, match=message):
        net(graph(*sizes))


@pytest.mark.parametrize("model", MODELS)
def test_options_out_of_range(model):
    for dim in (0, -3):
        with pytest.raises(ValueError, match=rf"'dim' must be a positive integer \(got {dim}\)"):
            model(graph(), dim)
    with pytest.raises(TypeError, match="'data' must be a HeteroData"):
        model(torch.ones(3), 2)


@pytest.mark.parametrize("model", MODELS)
def test_state_survives_a_round_trip(model, tmp_path):
    first, second = model(graph(), 3), model(graph(), 3)
    first(graph())  # whatever is cached is not part of the state
    torch.save(first.state_dict(), tmp_path / "model.pt")
    second.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    for a, b in zip(first(graph()).values(), second(graph()).values(), strict=True):
        assert torch.equal(a, b)


def test_something_is_made_once_a_graph():
    net, data, made = Doubled(graph(), 3, 0.1), graph(), []

    def make(data: HeteroData) -> int:
        made.append(data)
        return len(made)

    assert [net.cached(data, make) for _ in range(3)] == [1, 1, 1]
    data["user", "item"].edge_index[1, 0] = 2  # in place
    assert net.cached(data, make) == net.cached(data, make) == 2
    assert net.cached(graph(), make) == 3 and made[-1] is not data
    with pytest.raises(ValueError, match="4 users and 6 items"):
        net.cached(graph(4, 6), make)


def test_what_is_made_once_follows_a_wrapped_tensor():
    net, data, made = Doubled(graph(), 3, 0.1), graph(), []
    raw = data["user", "item"].edge_index
    data["user", "item"].edge_index = EdgeIndex(raw)
    for _ in range(2):
        net.cached(data, made.append)
    assert len(made) == 1
    raw[1, 0] = 2
    net.cached(data, made.append)
    assert len(made) == 2


def test_what_is_made_once_follows_edges_of_every_type():
    net, data, made = Doubled(graph(), 3, 0.1), graph(), []
    data["tag"].num_nodes = 2
    data["item", "in", "tag"].edge_index = torch.tensor([[0, 1], [0, 1]])

    def make(data: HeteroData) -> int:
        made.append(data)
        return len(made)

    assert net.cached(data, make) == net.cached(copy.copy(data), make) == 1  # the same tensors
    data["item", "in", "tag"].edge_index[1, 0] = 1
    assert net.cached(data, make) == net.cached(data, make) == 2
    data["item", "in", "tag"].edge_index = data["item", "in", "tag"].edge_index.clone()
    assert net.cached(data, make) == 3
    data["item", "has", "tag"].edge_index = data["item", "in", "tag"].edge_index
    assert net.cached(data, make) == 4
    del data["item", "in", "tag"]
    assert net.cached(data, make) == 5


def test_what_is_made_of_edges_of_the_inference_mode_is_not_kept():
    net, made = Doubled(graph(), 3, 0.1), []
    with torch.inference_mode():
        data = graph()
        data["user", "item"].edge_index = data["user", "item"].edge_index.clone()
        for item in (1, 2):
            data["user", "item"].edge_index[1, 0] = item  # which no version counts
            net.cached(data, lambda data: made.append(int(data["user", "item"].edge_index[1, 0])))
    assert made == [1, 2]


def test_tables_are_left_out():
    class Bare(Recommender):
        pass

    assert set(Bare(graph(), 3).state_dict()) == {"_extra_state"}


def test_the_base_class_computes_nothing():
    with pytest.raises(NotImplementedError):
        Recommender(graph(), 3, 0.1)(graph())
    assert repr(Doubled(graph(), 3, 0.1)) == "Doubled(4, 5, dim=3)"
    assert Doubled.default_loss == "bpr"


class TestFromEmbeddings:
    def test_anything_numpy_reads(self, tmp_path):
        data = graph()
        user, item = torch.randn(4, 3, requires_grad=True), np.random.default_rng(0).random((5, 3))
        np.save(tmp_path / "item.npy", item)
        on_disk = np.load(tmp_path / "item.npy", mmap_mode="r")
        for vectors in (item, on_disk, item.tolist(), torch.from_numpy(item)):
            model = Recommender.from_embeddings(data, user, vectors)
            x_dict = model(data)
            assert torch.equal(x_dict["user"], user)
            assert np.array_equal(x_dict["item"].detach().numpy(), item.astype(np.float32))
            assert model.user_embedding.is_leaf and model.user_embedding.requires_grad

    def test_it_is_a_copy(self):
        data, user = graph(), torch.zeros(4, 2)
        model = Recommender.from_embeddings(data, user, torch.zeros(5, 2))
        user += 1
        assert not model.user_embedding.any()

    def test_a_teacher_from_elsewhere(self):
        # Biases are a column of their own.
        data = graph()
        factor, bias = torch.randn(5, 2), torch.arange(5.0).unsqueeze(1) * 100
        x_user = torch.cat([torch.randn(4, 2), torch.ones(4, 1)], 1)
        teacher = Recommender.from_embeddings(data, x_user, torch.cat([factor, bias], 1))
        ranked = extract_knowledge(teacher, data, num_items=3)["user"].teacher_items
        assert ranked.tolist() == [[3, 2, 1], [4, 3, 1], [4, 3, 2], [4, 3, 2]]

    @pytest.mark.parametrize(
        ("user", "item", "message"),
        [
            ((2, 5), (5, 5), r"'x_user' must be a matrix with 4 rows \(got shape \[2, 5\]\)"),
            ((4, 5), (5, 5, 1), r"'x_item' must be a matrix with 5 rows \(got shape \[5, 5, 1\]\)"),
            ((4, 5), (5, 6), r"same width \(got 5 and 6\)"),
        ],
    )
    def test_refused_shapes(self, user, item, message):
        with pytest.raises(ValueError, match=message):
            Recommender.from_embeddings(graph(), np.zeros(user), np.zeros(item))

    def test_nan(self):
        x_item = np.zeros((5, 1))
        x_item[2] = np.nan
        with pytest.raises(ValueError, match=r"'x_item' must be finite \(got \[nan\] in row 2\)"):
            Recommender.from_embeddings(graph(), np.zeros((4, 1)), x_item)


@pytest.mark.parametrize("names", [False, True])
def test_rows_of_other_libraries_by_their_ids(names: bool) -> None:
    users, items = [31, 7, 7, 50, 31], [4, 2, 9, 9, 2]
    if names:
        users, items = [[f"n{i:02}" for i in ids] for ids in (users, items)]
    data = from_interactions([users, items])
    # As they were met, and with somebody the graph does not know.
    user_ids = list(dict.fromkeys([*users, "nobody" if names else 1]))
    item_ids = np.array(list(dict.fromkeys(items)))
    x = torch.arange(8.0).view(4, 2), torch.arange(6.0).view(3, 2)
    model = Recommender.from_embeddings(data, *x, user_ids=user_ids, item_ids=item_ids)
    scores = model.score_block(*model(data).values())
    expected = x[0] @ x[1].t()
    raw = [list(data[t].raw_id) if names else data[t].raw_id.tolist() for t in ("user", "item")]
    for u, user in enumerate(raw[0]):
        for i, item in enumerate(raw[1]):
            row, col = user_ids.index(user), item_ids.tolist().index(item)
            assert scores[u, i] == expected[row, col]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([0, 1, 2, 4], r"'x_user' must have a row .* \(got none for 1 of 4, the first is 3\)"),
        ([0, 1, 2, 2], r"ids of 'x_user' must be distinct \(got 3 different of 4\)"),
        ([0, 1, 2], r"'x_user' must be a matrix with 3 rows \(got shape \[4, 2\]\)"),
    ],
)
def test_refused_ids(ids: list[int], message: str) -> None:
    data = from_interactions([[0, 1, 2, 3], [0, 1, 2, 0]])
    with pytest.raises(ValueError, match=message):
        Recommender.from_embeddings(data, torch.zeros(4, 2), torch.zeros(3, 2), user_ids=ids)
    del data["user"].raw_id
    with pytest.raises(ValueError, match="'x_user' are matched with 'raw_id'"):
        Recommender.from_embeddings(data, torch.zeros(4, 2), torch.zeros(3, 2), user_ids=range(4))


@pytest.mark.parametrize("k", ["10", 10.0, True, None, torch.ones(2)])
def test_lengths_that_are_no_integers(k: object) -> None:
    message = r"'k' must be an integer \(got "
    with pytest.raises(TypeError, match=message):
        MF(graph(), 3).recommend(graph(), k)


def test_users_by_another_name() -> None:
    data = graph()
    model = MF(data, 3)
    for users in (["alice"], ["alice", "bob"], [None], [{}]):
        with pytest.raises(TypeError, match=r"'users' must be integers.*\(got \["):
            model.recommend(data, 2, users=users)
        with pytest.raises(TypeError, match=r"'users' must be integers.*\(got \["):
            extract_knowledge(model, data, num_items=2, users=users)
    data["user"].raw_id = ["alice", "bob", "carol", "dan"]
    hint = r"nodes are numbered in the order of data\['user'\]\.raw_id"
    for users, error in ((["alice"], TypeError), ([4], ValueError), ([0.5], TypeError)):
        with pytest.raises(error, match=rf"'users' .*{hint}"):
            model.recommend(data, 2, users=users)
    assert model.recommend(data, 2, users=[data["user"].raw_id.index("bob")])[0].shape == (1, 2)


def test_representations_of_features_that_are_nan() -> None:
    class OfFeatures(MF):
        def forward(self, data: HeteroData) -> XDict:
            return {"user": self.user_embedding + data["user"].x, "item": self.item_embedding}

    data = graph()
    data["user"].x = torch.zeros(4, 3)
    data["user"].x[2, 1] = torch.nan
    message = r"'user' that are NaN, as data\['user'\]\.x of the graph are"
    with pytest.raises(ValueError, match=message):
        OfFeatures(data, 3).recommend(data, 2)
    with pytest.raises(ValueError, match=message):
        extract_knowledge(OfFeatures(data, 3), data, num_items=2)


def test_no_module_imports_what_inherits_from_it() -> None:
    source = Path(base.__file__).read_text()
    assert "models.mf" not in source and Recommender.embedding_class is MF
