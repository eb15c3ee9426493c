from __future__ import annotations

import math

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.evaluation import evaluate
from pyg_kd.knowledge import extract_knowledge
from pyg_kd.models import MultiBranch
from pyg_kd.models.multi_branch.branch import HEADS
from pyg_kd.transforms import UserSplit


@pytest.fixture
def data() -> HeteroData:
    return SyntheticInteractions(None, num_users=30, num_items=20, num_edges=200)[0]


@pytest.mark.parametrize("name", HEADS)
def test_inner_products_are_the_scores_of_the_head(data, name: str) -> None:
    model = MultiBranch(data, dim=8, heads=HEADS).eval()
    view, head = model.head(name), next(h for h in model.layout if h.name == name)
    x_user, x_item = (x[:, head.start : head.stop] for x in model(data).values())
    scores = x_user @ x_item.t() if name != "cml" else -torch.cdist(x_user, x_item).square()
    x_dict = view(data)
    torch.testing.assert_close(view.score_block(*x_dict.values()), scores, rtol=1e-4, atol=1e-5)
    assert {x.size(1) for x in x_dict.values()} == {view.out_dim}
    edges = torch.tensor([[4, 1], [0, 7]])
    torch.testing.assert_close(view.score(x_dict, edges), view.score_block(*x_dict.values())[edges[0], edges[1]])  # fmt: skip # noqa: E501
    assert view.inner_product and repr(view).endswith(f", {name!r})")


def test_parameters_are_shared(data) -> None:
    model = MultiBranch(data, dim=8)
    view = model.head("mse")
    before = view(data)["user"].detach()
    view.reset_parameters()
    assert not torch.equal(before, view(data)["user"])
    assert {id(p) for p in view.parameters()} == {id(p) for p in model.parameters()}


def test_a_view_keeps_what_it_makes_of_a_graph(data) -> None:
    view, calls = MultiBranch(data, dim=8).head("bpr"), []
    for _ in range(2):
        view.cached(data, lambda graph: calls.append(graph))
    assert len(calls) == 1


def test_it_is_evaluated_and_teaches(data) -> None:
    train, val, _ = UserSplit(val=0.2, test=0.0)(data)
    model = MultiBranch(train, dim=8)
    view = model.head("cml")
    assert set(evaluate(view, train, val, k=5, metrics=("recall",))) == {"recall@5"}
    assert model.training  # evaluated without dropout, and trained on
    graph = extract_knowledge(view, train, num_items=6)
    scores = view.eval().score_block(*view(train).values())
    seen = train["user", "item"].edge_index
    scores[seen[0], seen[1]] = -torch.inf
    best = scores.argsort(dim=1, descending=True, stable=True)[:, :6]
    assert torch.equal(graph["user"].teacher_items.long(), best)
    assert graph["item"].teacher_x.shape == (20, view.out_dim)


@pytest.fixture
def data_consensus() -> HeteroData:
    return SyntheticInteractions(None, num_users=30, num_items=40, num_edges=300)[0]


def slow(
    model: MultiBranch, data_consensus: HeteroData, length: int, temperature: float
) -> torch.Tensor:
    """All scores, user by user and head by head."""
    out = torch.zeros(30, 40)
    for head in model.layout:
        view = model.head(head.name)
        scores = view.score_block(*view(data_consensus).values())
        for user in range(30):
            edges = data_consensus["user", "item"].edge_index
            seen = set(edges[1][edges[0] == user].tolist())
            unseen = [item for item in range(40) if item not in seen]
            ranked = sorted(unseen, key=lambda item: (-scores[user, item].item(), item))[:length]
            for place, item in enumerate(ranked):
                out[user, item] += math.exp(-place / temperature)
    return out


@pytest.mark.parametrize(("length", "temperature"), [(8, 3.0), (100, 10.0)])
def test_scores(data_consensus, length: int, temperature: float) -> None:
    model = MultiBranch(data_consensus, dim=8, init_std=1.0).eval()
    consensus = model.consensus(num_listed=length, temperature=temperature)
    x_dict = consensus(data_consensus)
    found = consensus.score_block(*x_dict.values())
    expected = slow(model, data_consensus, length, temperature)
    # Of all that some head lists, the best are kept.
    lowest = expected.sort(dim=1, descending=True).values[:, min(length, 40) - 1 :][:, :1]
    sure, out = expected > lowest + 1e-6, expected < lowest - 1e-6
    torch.testing.assert_close(found[sure], expected[sure])
    assert not found[out].any()
    torch.testing.assert_close(found[found > 0], expected[found > 0])  # of equals, some
    assert (found > 0).sum(1).eq((expected > 0).sum(1).clamp(max=length)).all()

    items = torch.tensor([30, 2, 39, 7])  # any items, in any order
    block = consensus.score_block(x_dict["user"][5:9], x_dict["item"][items])
    assert torch.equal(block, found[5:9][:, items])
    edges = torch.randint(30, (2, 50))
    torch.testing.assert_close(consensus.score(x_dict, edges), found[edges[0], edges[1]])


def test_it_is_evaluated_and_teaches_of_consensus(data_consensus) -> None:
    train, val, _ = UserSplit(val=0.2, test=0.0)(data_consensus)
    model = MultiBranch(train, dim=8, init_std=1.0)
    consensus = model.consensus(num_listed=10)
    values = evaluate(consensus, train, val, k=5, metrics=("recall", "ndcg"))
    assert set(values) == {"recall@5", "ndcg@5"} and model.training

    graph = extract_knowledge(consensus, train, num_items=10, row_block=7, col_tile=11)
    assert "teacher_x" not in graph["user"]
    expected = slow(model.eval(), train, 10, 10.0)
    for user, items in enumerate(graph["user"].teacher_items.tolist()):
        assert expected[user, items].diff().max() < 1e-6
        assert expected[user, items[-1]] > 0


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"num_listed": 0}, r"'num_listed' must be a positive integer \(got 0\)"),
        ({"num_listed": 2.5}, r"'num_listed' must be a positive integer \(got 2.5\)"),
        ({"temperature": 0}, r"'temperature' must be positive \(got 0\)"),
    ],
)
def test_refused_options(data_consensus, option: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiBranch(data_consensus, dim=8).consensus(**option)


def test_repr_and_parameters(data_consensus) -> None:
    model = MultiBranch(data_consensus, dim=8)
    consensus = model.consensus(num_listed=20)
    assert repr(consensus) == f"Consensus({model}, num_listed=20, temperature=10.0)"
    assert {id(p) for p in consensus.parameters()} == {id(p) for p in model.parameters()}
    before = model.user_embedding.detach().clone()
    consensus.reset_parameters()
    assert not torch.equal(model.user_embedding, before)


def test_the_state_of_another_head_is_refused(data) -> None:
    model = MultiBranch(data, dim=8)
    state = model.head("bpr").state_dict()
    model.head("bpr").load_state_dict(state)
    with pytest.raises(ValueError, match="saved by HeadView with head="):
        model.head("mse").load_state_dict(state)
    state = model.consensus(num_listed=5).state_dict()
    with pytest.raises(ValueError, match="Consensus with num_listed=5, the model has num_listed=6"):
        model.consensus(num_listed=6).load_state_dict(state)
