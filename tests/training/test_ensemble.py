from __future__ import annotations

import pytest
import torch

from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.knowledge import fuse
from pyg_kd.models import BSPM, EASE, MF
from pyg_kd.training import teachers, train_ensemble
from pyg_kd.transforms import UserSplit


@pytest.fixture(scope="module")
def split():
    data = SyntheticInteractions(num_users=200, num_items=100, num_edges=5_000)[0]
    return UserSplit(seed=0)(data)


def test_given_weights_need_no_targets(split) -> None:
    train, val, _ = split
    chosen = train_ensemble(train, val, teachers=["ease", "als", "als"], progress=False)
    again = train_ensemble(
        train,
        None,
        teachers=["ease", "als", "als"],
        weights=chosen.graph.teacher_weights,
        progress=False,
    )
    lists = [found.graph["user"].teacher_items for found in (chosen, again)]
    assert torch.equal(*lists)
    assert again.report.weights == chosen.report.weights
    assert [row.value for row in again.report.rows] == [None] * 4
    assert min(row.value for row in chosen.report.rows) > 0


def test_models_are_kept(split) -> None:
    train, val, _ = split
    ease, lists = EASE(train), fuse([EASE(train)], data=train)
    _, models, report = train_ensemble(train, val, teachers=[ease, lists, "als"], progress=False)
    assert models[0] is ease and models[1] is None and isinstance(models[2], MF)
    assert report.names == ["EASE", "given lists", "als", "ensemble"]


def test_either_weights_or_targets(split) -> None:
    train, val, _ = split
    for targets, weights, found in ((None, None, "got neither"), (val, [1.0], "not both")):
        with pytest.raises(ValueError, match=rf"needs 'val_data' or 'weights' \({found}\)"):
            train_ensemble(train, targets, teachers=["ease"], weights=weights, progress=False)


def test_an_ensemble_stays_as_it_is(split) -> None:
    train, val, _ = split
    first = train_ensemble(train, val, teachers=["ease", "als"], progress=False)
    again = train_ensemble(train, val, teachers=[first.graph], progress=False)
    assert again.graph is first.graph and again.report.weights == [("given lists", 1.0)]


def test_a_light_gcn_by_its_name(split) -> None:
    train, val, _ = split
    _, models, report = train_ensemble(train, val, teachers=["lightgcn"], progress=False)
    assert type(models[0]).__name__ == "LightGCN" and models[0].normalize
    assert report.value("lightgcn") > 0.2


def test_the_fifth_teacher_follows_the_size(split, monkeypatch) -> None:
    """Users' neighbours, then BSPM, then SLIM, as users and then their products grow."""
    train, _, _ = split
    users, edges = 200, train["user", "item"].edge_index.size(1)
    limits = [(users, 0), (users - 1, users * edges), (users - 1, users * edges - 1)]
    found = []
    for few, products in limits:
        monkeypatch.setattr(teachers, "FEW_USERS", few)
        monkeypatch.setattr(teachers, "MANY_PRODUCTS", products)
        found.append(teachers.auto_teachers(train))
    assert [names[:4] for names in found] == [["kernel_ridge", "als", "als", "als"]] * 3
    assert [names[4] for names in found] == ["user_knn", "bspm", "slim"]


def test_bspm_by_its_name(split) -> None:
    train, val, _ = split
    _, models, report = train_ensemble(train, val, teachers=["bspm"], progress=False)
    assert isinstance(models[0], BSPM) and report.value("bspm") > 0.2
