"""What the recipes set, and that they teach something."""

from __future__ import annotations

from math import log

import pytest
import torch

from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.models import LightGCN
from pyg_kd.training import Trainer, validate
from pyg_kd.training.catalogue_softmax import CatalogueSoftmax
from pyg_kd.training.recipes import lightgcn_teacher, softmax_temperature


def test_options_go_over_those_of_the_recipe(train) -> None:
    before = torch.random.get_rng_state()
    model, trainer = lightgcn_teacher(train, dim=8, seed=3, lr=0.5, average=1.0)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert isinstance(model, LightGCN)
    assert isinstance(trainer.loss, CatalogueSoftmax)
    assert (model.dim, model.normalize) == (8, True)
    assert (trainer.lr, trainer.average, trainer.seed) == (0.5, 1.0, 3)
    assert (trainer.schedule, trainer.batch_by) == ("cosine", "user")
    assert trainer.batch_size == 8  # of 60 users, in eight steps


@pytest.mark.parametrize(("num_users", "expected"), [(3, 1), (4_000, 500), (20_000, 1_024)])
def test_batches_follow_the_number_of_users(num_users, expected) -> None:
    data = SyntheticInteractions(None, num_users=num_users, num_items=40, num_edges=4 * num_users)
    assert lightgcn_teacher(data[0], dim=2)[1].batch_size == expected


def test_the_seed_decides(train, val) -> None:
    found = []
    for seed in (0, 0, 1):
        model, trainer = lightgcn_teacher(train, dim=8, seed=seed, max_epochs=2, progress=False)
        trainer.fit(model, train, val_data=val)
        found.append(model.user_embedding.detach())
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_it_is_no_worse_than_the_defaults(train, val) -> None:
    model, trainer = lightgcn_teacher(train, dim=16, progress=False)
    trainer.fit(model, train, val_data=val)
    torch.manual_seed(0)
    plain = LightGCN(train, 16)
    Trainer(progress=False).fit(plain, train, val_data=val)
    own, other = (validate(m, train, val, "recall@20")["recall@20"] for m in (model, plain))
    assert own > other - 0.02


def test_the_temperature_follows_from_sizes(train) -> None:
    seen = {(u, i) for u, i in train["user", "item"].edge_index.t().tolist()}
    expected = 2 / 3 / log(50 / (len(seen) / 60))
    assert softmax_temperature(train) == pytest.approx(expected)
    assert lightgcn_teacher(train, dim=4)[1].loss.temperature == softmax_temperature(train)


def test_the_temperature_of_a_full_graph() -> None:
    data = SyntheticInteractions(None, num_users=4, num_items=3, num_edges=12)[0]
    assert softmax_temperature(data) == pytest.approx(2 / 3)
