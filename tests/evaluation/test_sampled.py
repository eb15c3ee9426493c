from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from pyg_kd.evaluation import evaluate, evaluate_sampled

EDGE = ("user", "interacts", "item")
WARNING = "do not keep the order of methods"


class Fixed(nn.Module):
    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.scores = scores

    def forward(self, data: HeteroData) -> dict[str, Tensor]:
        return {"user": self.scores, "item": torch.eye(self.scores.size(1))}

    def score_block(self, x_user: Tensor, x_item: Tensor) -> Tensor:
        return x_user @ x_item.t()


def leave_one_out(num_users: int = 30, num_items: int = 80, seed: int = 0):
    """Two targets for the first user, one for the others; five items seen by each."""
    rng = np.random.default_rng(seed)
    items = np.stack([rng.permutation(num_items) for _ in range(num_users)])
    user = torch.arange(num_users)
    train = HeteroData()
    train["user"].num_nodes, train["item"].num_nodes = num_users, num_items
    train[EDGE].edge_index = torch.stack(
        [user.repeat_interleave(5), torch.from_numpy(items[:, :5].reshape(-1))]
    )
    test = train.clone()
    test[EDGE].edge_label_index = torch.stack(
        [torch.cat([user, user[:1]]), torch.from_numpy(np.append(items[:, 5], items[0, 6]))]
    )
    return train, test


@pytest.mark.parametrize("levels", [2, 10, 10**6])
def test_all_negatives_sampled_equals_a_full_sort(levels):
    train, test = leave_one_out()
    scores = torch.randint(0, levels, (30, 80)).float()
    with pytest.warns(UserWarning, match=WARNING):
        result = evaluate_sampled(Fixed(scores), train, test, (1, 5, 80), num_negatives=79)
    seen = {tuple(p) for p in train[EDGE].edge_index.t().tolist()}
    targets = {tuple(p) for p in test[EDGE].edge_label_index.t().tolist()}
    place = []
    for user, item in sorted(targets):
        others = [i for i in range(80) if (user, i) not in seen | targets]
        row = scores[user].tolist()
        place.append(sum((-row[i], i) < (-row[item], item) for i in others) + 1)
    for k in (1, 5, 80):
        hit = [p <= k for p in place]
        assert result[f"hit_rate@{k}"] == pytest.approx(np.mean(hit))
        assert result[f"recall@{k}"] == result[f"hit_rate@{k}"]
        ndcg = [h / np.log2(p + 1) for h, p in zip(hit, place, strict=True)]
        assert result[f"ndcg@{k}"] == pytest.approx(np.mean(ndcg))
        mrr = [h / p for h, p in zip(hit, place, strict=True)]
        assert result[f"mrr@{k}"] == pytest.approx(np.mean(mrr))


@pytest.mark.filterwarnings("ignore:Metrics against")
def test_hidden_items_and_other_targets_never_compete():
    train, test = leave_one_out()
    scores = torch.zeros(30, 80)
    # Seen items and the other target outscore every target; neither may count.
    scores[train[EDGE].edge_index[0], train[EDGE].edge_index[1]] = 9.0
    scores[test[EDGE].edge_label_index[0], test[EDGE].edge_label_index[1]] = 5.0
    result = evaluate_sampled(Fixed(scores), train, test, 1, num_negatives=60)
    assert result["hit_rate@1"] == 1.0


@pytest.mark.filterwarnings("ignore:Metrics against")
def test_expected_place_of_a_random_draw():
    # 9 of the 74 items that may be drawn are ahead of the target: hypergeometric.
    train, test = leave_one_out(num_users=400)
    scores = torch.zeros(400, 80)
    user, item = test[EDGE].edge_label_index[:, 1:-1]
    ahead = torch.rand(400, 80)
    hidden = torch.zeros(400, 80, dtype=torch.bool)
    hidden[train[EDGE].edge_index[0], train[EDGE].edge_index[1]] = True
    hidden[user, item] = True
    order = ahead.masked_fill(hidden, -1.0).topk(9).indices
    scores.scatter_(1, order, 2.0)
    scores[user, item] = 1.0
    test[EDGE].edge_label_index = torch.stack([user, item])
    result = evaluate_sampled(Fixed(scores), train, test, 1, ("hit_rate",), num_negatives=8)
    expected = np.prod([(74 - 9 - j) / (74 - j) for j in range(8)])
    assert result["hit_rate@1"] == pytest.approx(expected, abs=4 * 0.5 / 20)


@pytest.mark.filterwarnings("ignore:Metrics against")
def test_seed_decides():
    train, test = leave_one_out()
    model = Fixed(torch.randn(30, 80))
    runs = [evaluate_sampled(model, train, test, num_negatives=20, seed=s) for s in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]
    state = torch.get_rng_state()
    evaluate_sampled(model, train, test, num_negatives=20)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.filterwarnings("ignore:Metrics against")
def test_blocks_do_not_change_ranks_of_all_negatives(monkeypatch):
    train, test = leave_one_out()
    model = Fixed(torch.randint(0, 9, (30, 80)).float())
    whole = evaluate_sampled(model, train, test, num_negatives=79)
    monkeypatch.setattr("pyg_kd.evaluation.sampled.BLOCK_ENTRIES", 240)
    assert evaluate_sampled(model, train, test, num_negatives=79) == whole


def test_sampling_flatters():
    train, test = leave_one_out()
    model = Fixed(torch.randn(30, 80))
    with pytest.warns(UserWarning, match=WARNING):
        sampled = evaluate_sampled(model, train, test, 10, num_negatives=15)
    assert sampled["recall@10"] > evaluate(model, train, test, 10)["recall@10"]


def test_errors():
    train, test = leave_one_out()
    model = Fixed(torch.randn(30, 80))
    with pytest.raises(ValueError, match=r"'num_negatives' must be a positive integer \(got 0\)"):
        evaluate_sampled(model, train, test, num_negatives=0)
    with pytest.raises(ValueError, match=r"'k' must hold lengths in 1..11 \(got \(12,\)\)"):
        evaluate_sampled(model, train, test, 12, num_negatives=10)
    model.score_block = lambda u, i: torch.full((len(u), len(i)), float("nan"))
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="NaN"):
        evaluate_sampled(model, train, test)


@pytest.mark.filterwarnings("ignore:Metrics against")
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"num_negatives": "3"}, ValueError, r"'num_negatives' must be a positive .*'3'"),
        ({"num_negatives": 3.0}, ValueError, r"'num_negatives' must be a positive .*3.0"),
        ({"seed": "0"}, TypeError, r"'seed' must be an integer \(got '0'\)"),
        ({"seed": None}, TypeError, r"'seed' must be an integer \(got None\)"),
        ({"seed": 2**70}, ValueError, r"'seed' must fit into 64 bits"),
        ({"k": 81, "num_negatives": 200}, ValueError, r"'k' must hold lengths in 1..80 "),
    ],
)
def test_arguments_that_cannot_be_drawn(change, error, message) -> None:
    train, test = leave_one_out()
    with pytest.raises(error, match=message):
        evaluate_sampled(Fixed(torch.randn(30, 80)), train, test, **({"k": 5} | change))


@pytest.mark.filterwarnings("ignore:Metrics against")
def test_numbers_of_numpy() -> None:
    train, test = leave_one_out()
    model = Fixed(torch.randn(30, 80))
    found = evaluate_sampled(model, train, test, 5, num_negatives=np.int64(9), seed=np.int64(3))
    assert found == evaluate_sampled(model, train, test, 5, num_negatives=9, seed=3)


@pytest.mark.filterwarnings("ignore:Metrics against")
def test_more_negatives_than_memory_are_all_there_are() -> None:
    train, test = leave_one_out()
    model = Fixed(torch.randn(30, 80))
    found = evaluate_sampled(model, train, test, num_negatives=10**15)
    assert found == evaluate_sampled(model, train, test, num_negatives=80)


@pytest.mark.filterwarnings("ignore:Metrics against")
def test_a_target_that_is_never_listed_is_never_found() -> None:
    train, test = leave_one_out()
    scores = torch.full((30, 80), -torch.inf)
    model = Fixed(scores)
    model.forward = lambda data: {"user": scores, "item": torch.arange(80.0).unsqueeze(1)}
    model.score_block = lambda u, i: u[:, i.squeeze(1).long()]
    drawn = evaluate_sampled(model, train, test, (1, 80), num_negatives=79)
    assert set(drawn.values()) == set(evaluate(model, train, test, 75).values()) == {0.0}


@pytest.mark.filterwarnings("ignore:Metrics against")
@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        (torch.zeros(31, 81), ValueError, r"of shape \[31, 80\] \(got \[31, 81\]\)"),
        (torch.zeros(31, 80).long(), TypeError, r"floating point scores \(got torch.int64\)"),
        (None, TypeError, r"must return a tensor \(got NoneType\)"),
    ],
)
def test_scores_that_do_not_fit(returned, error, message) -> None:
    train, test = leave_one_out()
    model = Fixed(torch.randn(30, 80))
    model.score_block = lambda u, i: returned
    with pytest.raises(error, match=message):
        evaluate_sampled(model, train, test)
