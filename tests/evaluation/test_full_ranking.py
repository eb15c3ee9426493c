from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ranx import Qrels, Run
from ranx import evaluate as ranx_evaluate
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch_geometric.data import HeteroData

from pyg_kd.evaluation import evaluate

METRICS = ("recall", "ndcg", "hit_rate", "mrr", "precision", "map")  # ranx calls them the same
EDGE = ("user", "interacts", "item")


class Fixed(nn.Module):
    """Representations that do not depend on the graph."""

    def __init__(self, user: Tensor, item: Tensor) -> None:
        super().__init__()
        self.user, self.item = nn.Parameter(user), nn.Parameter(item)
        self.dropout = nn.Dropout(0.5)

    def forward(self, data: HeteroData) -> dict[str, Tensor]:
        return {"user": self.dropout(self.user), "item": self.item}

    def score_block(self, x_user: Tensor, x_item: Tensor) -> Tensor:
        return x_user @ x_item.t()


class Distance(Fixed):
    def score_block(self, x_user: Tensor, x_item: Tensor) -> Tensor:
        return -torch.cdist(x_user, x_item)


def graph(num_users: int, num_items: int, pairs: np.ndarray) -> HeteroData:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = num_users, num_items
    data[EDGE].edge_index = torch.from_numpy(pairs.T.copy())
    return data


def split(num_users: int = 40, num_items: int = 120, seed: int = 0, density: float = 0.12):
    """Three disjoint parts of random pairs: train, validation (message edges at test), test."""
    rng = np.random.default_rng(seed)
    pairs = np.argwhere(rng.random((num_users, num_items)) < density)
    part = rng.choice(3, len(pairs), p=[0.6, 0.1, 0.3])
    part[pairs[:, 0] % 7 == 0] = 0  # these users have no targets
    train = graph(num_users, num_items, pairs[part == 0])
    test = graph(num_users, num_items, pairs[part < 2])
    test[EDGE].edge_label_index = torch.from_numpy(pairs[part == 2].T.copy())
    return train, test


def fixed(data: HeteroData, kind: type[Fixed] = Fixed, dim: int = 6) -> Fixed:
    # Multiples of 1/4, so that the scores are exact in any order of summation.
    draw = (torch.randint(-40, 41, (data[t].num_nodes, dim)) / 4 for t in ("user", "item"))
    return kind(*draw)


def dense_oracle(model, train, test):
    """Relevant items and a run with every unseen item, by user, in plain dictionaries."""
    scores = model.score_block(model.user, model.item).detach().double().numpy()
    hidden = {tuple(p) for p in train[EDGE].edge_index.t().tolist()}
    hidden |= {tuple(p) for p in test[EDGE].edge_index.t().tolist()}
    relevant: dict[str, dict[str, int]] = {}
    for user, item in test[EDGE].edge_label_index.t().tolist():
        relevant.setdefault(str(user), {})[str(item)] = 1
    run = {}
    for user in relevant:
        row = scores[int(user)]
        left = [i for i in range(len(row)) if (int(user), i) not in hidden]
        left.sort(key=lambda i, row=row: (-row[i], i))
        # Places as scores, so that the oracle cannot break ties its own way.
        run[user] = {str(i): float(-place) for place, i in enumerate(left)}
    return relevant, run


@pytest.mark.parametrize("kind", [Fixed, Distance])
def test_equals_ranx(kind):
    train, test = split()
    model = fixed(train, kind)
    ks = (1, 3, 10, 25)
    mean, values, user = evaluate(model, train, test, ks, per_user=True)
    relevant, run = dense_oracle(model, train, test)
    assert user.tolist() == sorted(map(int, relevant))
    names = [f"{metric}@{k}" for metric in METRICS for k in ks]
    assert list(mean) == list(values) == names
    runs = Run(run)
    expected = ranx_evaluate(Qrels(relevant), runs, names)
    for name in names:
        per_user = [runs.scores[name][str(u)] for u in user.tolist()]
        np.testing.assert_allclose(values[name].numpy(), per_user, rtol=0, atol=1e-9)
        assert mean[name] == pytest.approx(float(expected[name]), abs=1e-9)
        assert 0 < mean[name] < 1


def read_pairs(path: Path) -> np.ndarray:
    lines = [np.array(line.split(), dtype=np.int64) for line in path.read_text().splitlines()]
    return np.concatenate([np.stack(np.broadcast_arrays(row[0], row[1:]), 1) for row in lines])


def test_equals_a_dense_ranking_on_citeulike(data_root):
    train, valid, test = (
        read_pairs(data_root / "citeulike" / "loo" / f"{name}.txt")
        for name in ("train", "valid", "test")
    )
    num_users, num_items = (int(n) + 1 for n in np.concatenate([train, valid, test]).max(0))
    data = graph(num_users, num_items, train)
    target = graph(num_users, num_items, np.concatenate([train, valid]))
    target[EDGE].edge_label_index = torch.from_numpy(test.T.copy())
    model = fixed(data, dim=20)
    values = evaluate(model, data, target, 50, ("mrr",), per_user=True).values["mrr@50"]
    assert values.numel() == num_users
    hidden = [set() for _ in range(num_users)]
    for user, item in np.concatenate([train, valid]).tolist():
        hidden[user].add(item)
    wanted = dict(test.tolist())
    for user in range(0, num_users, 200):
        scores = (model.item @ model.user[user]).detach().numpy()
        order = np.lexsort((np.arange(num_items), -scores))
        place = [i for i in order.tolist() if i not in hidden[user]].index(wanted[user])
        assert values[user].item() == pytest.approx(1 / (place + 1) if place < 50 else 0.0)


@pytest.mark.parametrize("batch_size", [1, 7, 33, 1000])
def test_batch_size_changes_nothing(batch_size):
    train, test = split()
    model = fixed(train)
    whole = evaluate(model, train, test, per_user=True)
    part = evaluate(model, train, test, per_user=True, batch_size=batch_size)
    assert whole.mean == part.mean
    assert all(torch.equal(whole.values[name], part.values[name]) for name in whole.values)


def test_equal_scores_rank_by_id():
    data = graph(2, 6, np.array([[0, 0], [1, 5]]))
    data[EDGE].edge_label_index = torch.tensor([[0, 1], [1, 1]])
    model = Fixed(torch.zeros(2, 3), torch.zeros(6, 3))
    values = evaluate(model, data, data, (1, 2), ("mrr",), per_user=True).values
    # User 0 has item 0 hidden, so item 1 comes first; for user 1 it comes second.
    assert values["mrr@1"].tolist() == [1.0, 0.0]
    assert values["mrr@2"].tolist() == [1.0, 0.5]


def test_users_without_targets_are_left_out():
    train, test = split()
    keep = test[EDGE].edge_label_index[:, test[EDGE].edge_label_index[0] == 3]
    test[EDGE].edge_label_index = keep
    mean, values, user = evaluate(fixed(train), train, test, 50, per_user=True)
    assert user.tolist() == [3]
    assert mean["recall@50"] == values["recall@50"].item()


def test_fewer_unseen_items_than_k():
    seen = np.array([[0, i] for i in range(5)])
    data = graph(1, 7, seen)
    data[EDGE].edge_label_index = torch.tensor([[0], [6]])
    model = Fixed(torch.ones(1, 1), torch.arange(7.0).view(7, 1))
    result = evaluate(model, data, data, 7, ("recall", "precision"))
    assert result == {"recall@7": 1.0, "precision@7": pytest.approx(1 / 7)}


def test_repeated_targets_and_negative_labels_count_once_and_not_at_all():
    data = graph(1, 5, np.array([[0, 0]]))
    data[EDGE].edge_label_index = torch.tensor([[0, 0, 0], [4, 4, 3]])
    data[EDGE].edge_label = torch.tensor([1.0, 1.0, 0.0])
    model = Fixed(torch.ones(1, 1), torch.arange(5.0).view(5, 1))
    assert evaluate(model, data, data, 2, ("recall", "precision")) == {
        "recall@2": 1.0,
        "precision@2": 0.5,
    }


def test_modes_come_back_and_dropout_is_off():
    train, test = split()
    model = fixed(train).train()
    model.dropout.eval()
    first = evaluate(model, train, test, 10)
    model.dropout.train()
    model.eval().dropout.train()
    assert evaluate(model, train, test, 10) == first
    assert not model.training
    assert model.dropout.training


def test_modes_come_back_after_an_error():
    train, test = split()
    model = fixed(train).train()
    with torch.no_grad():
        model.item[0] = float("nan")
    with pytest.raises(ValueError):
        evaluate(model, train, test)
    assert model.training and model.dropout.training
    assert torch.is_grad_enabled()


def test_progress_bar_counts_users(capsys):
    train, test = split()
    evaluate(fixed(train), train, test, 10, progress=True)
    users = test[EDGE].edge_label_index[0].unique().numel()
    assert f"{users}/{users}" in capsys.readouterr().err
    evaluate(fixed(train), train, test, 10)
    assert capsys.readouterr().err == ""


class _SizeLimit(TorchDispatchMode):
    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(value, Tensor):
                assert value.numel() < self.limit, f"{func} made {list(value.shape)}"
        return out


def test_nothing_of_users_times_items():
    train, test = split(num_users=60, num_items=200, density=0.05)
    model = fixed(train)
    with _SizeLimit(60 * 200):
        evaluate(model, train, test, 10, batch_size=20)
    with pytest.raises(AssertionError), _SizeLimit(60 * 200):
        model.score_block(model.user, model.item)


def test_errors_name_what_is_wrong():
    train, test = split()
    model = fixed(train)
    with pytest.raises(ValueError, match=r"'k' must hold lengths in 1..120 \(got \(10, 121\)\)"):
        evaluate(model, train, test, (10, 121))
    with pytest.raises(ValueError, match=r"'metrics' .*'auc'"):
        evaluate(model, train, test, metrics=("auc",))
    with pytest.raises(ValueError, match=r"'batch_size' must be a positive integer \(got 0\)"):
        evaluate(model, train, test, batch_size=0)
    with pytest.raises(ValueError, match="'target_data' has no 'edge_label_index'"):
        evaluate(model, train, train)
    with pytest.raises(TypeError, match=r"'data' must be a HeteroData \(got int\)"):
        evaluate(model, 3, test)
    with pytest.raises(TypeError, match="'score_block'"):
        evaluate(nn.Linear(2, 2), train, test)


def test_leaked_targets_are_counted():
    train, test = split()
    both = torch.cat([test[EDGE].edge_label_index, train[EDGE].edge_index[:, :4]], dim=1)
    test[EDGE].edge_label_index = both
    with pytest.raises(ValueError, match="4 targets of 'target_data' are message edges"):
        evaluate(fixed(train), train, test)


def test_no_targets():
    train, test = split()
    test[EDGE].edge_label_index = torch.zeros(2, 0, dtype=torch.long)
    with pytest.raises(ValueError, match="'target_data' has no targets"):
        evaluate(fixed(train), train, test)


def test_target_out_of_range():
    train, test = split()
    test[EDGE].edge_label_index[1, 0] = 120
    with pytest.raises(ValueError, match=r"'edge_label_index\[1\] \(items\)' .*got 120"):
        evaluate(fixed(train), train, test)


@pytest.mark.parametrize("node_type", ["user", "item"])
def test_nan_names_the_node_type(node_type):
    train, test = split()
    model = fixed(train)
    with torch.no_grad():
        getattr(model, node_type)[0] = float("nan")
    with pytest.raises(ValueError, match=rf"representations of '{node_type}' that are NaN"):
        evaluate(model, train, test)


def test_sizes_that_differ():
    train, test = split()
    other, _ = split(num_items=121)
    with pytest.raises(ValueError, match=r"\(40, 121\) users and items \(got \(40, 120\)\)"):
        evaluate(fixed(train), other, test)
    with pytest.raises(ValueError, match=r"120 representations of 'item', \[120, d\] \(got \[121"):
        evaluate(fixed(other), train, test)


class Popularity(nn.Module):
    """Everyone gets the most popular items: one row of scores, expanded to all users."""

    def forward(self, data: HeteroData) -> dict[str, Tensor]:
        degree = torch.bincount(data[EDGE].edge_index[1], minlength=data["item"].num_nodes)
        self.degree = degree.float()
        return {"user": torch.zeros(data["user"].num_nodes, 1), "item": self.degree.unsqueeze(1)}

    def score_block(self, x_user: Tensor, x_item: Tensor) -> Tensor:
        return x_item.t().expand(len(x_user), -1)


def test_a_row_of_scores_expanded_to_all_users():
    train, test = split()
    model = Popularity()
    found = evaluate(model, train, test, (5, 20))
    degree = torch.bincount(train[EDGE].edge_index[1], minlength=120).float()
    assert torch.equal(model.degree, degree)
    # The same scores, in memory of their own.
    assert found == evaluate(
        Fixed(torch.ones(40, 1), degree.unsqueeze(1)).eval(), train, test, (5, 20)
    )


@pytest.mark.parametrize("batch_size", ["3", 2.0, True])
def test_a_batch_size_is_an_integer(batch_size):
    train, test = split()
    with pytest.raises(ValueError, match=rf"'batch_size' must be a positive .*{batch_size!r}"):
        evaluate(fixed(train), train, test, batch_size=batch_size)


@pytest.mark.parametrize("batch_size", [np.int64(7), 10**30])
def test_batch_sizes_of_other_types(batch_size):
    train, test = split()
    model = fixed(train)
    assert evaluate(model, train, test, batch_size=batch_size) == evaluate(model, train, test)


def test_errors_name_the_graph_of_the_targets():
    train, _ = split()
    model = fixed(train)
    with pytest.raises(TypeError, match=r"^'target_data' must be a HeteroData \(got NoneType\)"):
        evaluate(model, train, None)
    other = graph(40, 120, np.array([[0, 120]]))
    with pytest.raises(
        ValueError, match=r"^'target_data': 'edge_index\[1\] \(items\)' must lie in"
    ):
        evaluate(model, train, other)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (torch.ones(3), r"'edge_label' of 'target_data' must have shape \[2\].*\(got \[3\]\)"),
        (torch.ones(2, 1), r"must have shape \[2\].*\(got \[2, 1\]\)"),
        (torch.tensor(1), r"must have shape \[2\].*\(got \[\]\)"),
        (torch.tensor([1.0, float("nan")]), r"'edge_label' of 'target_data' must not be NaN"),
        (torch.zeros(2), r"'target_data' has no targets: no 'edge_label' is positive"),
    ],
)
def test_labels_that_do_not_fit(label, message):
    data = graph(2, 5, np.array([[0, 0]]))
    data[EDGE].edge_label_index = torch.tensor([[0, 1], [4, 3]])
    data[EDGE].edge_label = label
    with pytest.raises(ValueError, match=message):
        evaluate(fixed(data), data, data, 2)


def test_labels_in_a_list():
    data = graph(2, 5, np.array([[0, 0]]))
    data[EDGE].edge_label_index = torch.tensor([[0, 1], [4, 3]])
    data[EDGE].edge_label = [0, 1]
    assert evaluate(fixed(data), data, data, 2, per_user=True).user.tolist() == [1]


def test_nothing_on_the_meta_device_is_evaluated():
    train, test = split()
    model = fixed(train)
    with pytest.raises(ValueError, match=r"device of 'data', cpu \(got meta for 'user'\)"):
        evaluate(model.to("meta"), train, test)
    test[EDGE].edge_label_index = test[EDGE].edge_label_index.to("meta")
    with pytest.raises(ValueError, match=r"'target_data' must hold values .*meta device"):
        evaluate(fixed(train), train, test)
