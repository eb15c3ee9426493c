from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.datasets.graph import interaction_graph
from pyg_kd.evaluation.popularity_bias import gini, list_bias, popularity_bias
from pyg_kd.evaluation.slice_groups import Groups, popularity_groups
from pyg_kd.knowledge.popularity import popular_unseen
from pyg_kd.models import MF


@st.composite
def cases(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    num_users, num_items = draw(st.integers(1, 8)), draw(st.integers(3, 12))
    histories = [
        sorted(rng.permutation(num_items)[: rng.integers(1, num_items)].tolist())
        for _ in range(num_users)
    ]
    lists = np.full((num_users, 5), -1)
    for row, seen in zip(lists, histories, strict=True):
        others = rng.permutation([i for i in range(num_items) if i not in seen])[:5]
        row[: len(others)] = others
    pairs = [(u, i) for u, seen in enumerate(histories) for i in seen]
    data = interaction_graph(*torch.tensor(pairs).t(), num_users, num_items)
    return data, histories, lists


@given(cases())
def test_every_number_is_the_formulas(case):
    data, histories, lists = case
    num_users, num_items = len(histories), data["item"].num_nodes
    phi = np.bincount(np.concatenate(histories), minlength=num_items)
    groups = popularity_groups(data)
    of, count = groups.of.numpy(), len(groups.names)
    tail = groups.names.index("tail")
    bias = list_bias(torch.from_numpy(lists), data, torch.arange(num_users))

    per_user: dict[str, list[float]] = {name: [] for name in bias.values}
    listed_all = np.zeros(num_items)
    for history, row in zip(histories, lists, strict=True):
        listed = row[row >= 0]
        np.add.at(listed_all, listed, 1)
        p, q = (np.bincount(of[items], minlength=count) for items in (history, listed))
        share = q / max(q.sum(), 1)
        per_user["popularity"].append(phi[listed].mean())
        per_user["history"].append(phi[history].mean())
        per_user["head"].append(share[0])
        per_user["tail"].append(share[tail])
        per_user["novelty"].append(np.mean(-np.log2(np.maximum(phi[listed], 1) / num_users)))
        per_user["miscalibration"].append(jensenshannon(p, q, base=2) ** 2)
    for name, values in per_user.items():
        np.testing.assert_allclose(bias.values[name], values, atol=1e-9)
        if name != "history":
            assert getattr(bias, name) == pytest.approx(np.mean(values), abs=1e-9)
    before = np.mean(per_user["history"])
    assert bias.lift == pytest.approx(np.mean(per_user["popularity"]) / before - 1)
    assert bias.coverage == np.mean(listed_all > 0)
    assert bias.exposure.tolist() == listed_all.tolist()
    pairs = np.abs(listed_all[:, None] - listed_all).sum()
    assert bias.gini == pytest.approx(pairs / (2 * num_items * listed_all.sum()))


def test_popularity_ranks_popularly():
    data = SyntheticInteractions(num_users=80, num_items=60, num_edges=900)[0]
    users = torch.arange(80)
    most = list_bias(popular_unseen(data, users, 10), data, users)
    random = popularity_bias(MF(data, dim=4), data, k=10)
    assert most.lift > 0 > random.lift - most.lift
    assert most.gini > random.gini and most.coverage < random.coverage
    assert most.novelty < random.novelty and most.head > random.head
    few = users < 40
    assert most.lift_of(few) == pytest.approx(
        float(most.values["popularity"][few].mean() / most.values["history"][few].mean()) - 1
    )


def test_some_users_can_be_asked_for():
    data = SyntheticInteractions(num_users=80, num_items=60, num_edges=900)[0]
    model = MF(data, dim=4)
    every = popularity_bias(model, data, k=10)
    some = popularity_bias(model, data, k=10, users=torch.tensor([3, 70]))
    assert some.user.tolist() == [3, 70]
    assert torch.equal(some.values["novelty"], every.values["novelty"][[3, 70]])
    assert set(some.to_dict()) == {
        "popularity", "lift", "head", "tail", "coverage", "gini", "novelty", "miscalibration",
    }  # fmt: skip


def test_even_counts_have_no_inequality():
    assert gini(torch.full((7,), 3)) == 0
    assert gini(torch.zeros(4)) == 0


def test_bad_input_is_named():
    data = SyntheticInteractions(num_users=10, num_items=8, num_edges=40)[0]
    model = MF(data, dim=2)
    with pytest.raises(ValueError, match=r"'k' must hold lengths in 1\.\.8"):
        popularity_bias(model, data, k=9)
    with pytest.raises(ValueError, match="'users' must hold one with a history"):
        popularity_bias(model, data, k=3, users=torch.empty(0, dtype=torch.long))
    with pytest.raises(ValueError, match="'items' must be one list a user"):
        list_bias(torch.zeros(3, 2, dtype=torch.long), data, torch.arange(2))
    users = Groups("user", ("a",), torch.zeros(10, dtype=torch.long))
    with pytest.raises(ValueError, match="'groups' must be of items"):
        popularity_bias(model, data, k=3, groups=users)
