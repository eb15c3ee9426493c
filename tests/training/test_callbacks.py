from __future__ import annotations

import pytest
import torch

from pyg_kd import RelaxedRankingDistillation
from pyg_kd.models import MF
from pyg_kd.training import Trainer

OPTIONS = {"batch_size": 128, "accelerator": "cpu", "progress": False, "max_epochs": 3}


def fit(data, callbacks, val=None, **options):
    torch.manual_seed(0)
    model = MF(data, dim=6)
    trainer = Trainer(**OPTIONS | options)
    resume = "checkpoint_dir" in options
    ranking = RelaxedRankingDistillation(num_interesting=6, num_uninteresting=6)
    history = trainer.fit(
        model,
        data,
        val_data=val,
        distillations=[(ranking, 1e-2)],
        callbacks=callbacks,
        resume=resume,
    )
    return model, history


def test_called_after_every_epoch_without_gradient_and_in_evaluation_mode(graph, val):
    seen = []

    def callback(epoch, model, data):
        assert not model.training and not torch.is_grad_enabled()
        assert data["user"].num_nodes == graph["user"].num_nodes
        seen.append((epoch, model(data)["user"].clone()))

    model, history = fit(graph, [callback], val, restore_best=False)
    assert [epoch for epoch, _ in seen] == history["epoch"] == [0, 1, 2]
    assert torch.equal(seen[-1][1], model.user_embedding)
    assert not torch.equal(seen[0][1], seen[1][1])
    assert model.training


def test_all_of_them_in_order(graph):
    seen = []
    fit(graph, [lambda epoch, *_: seen.append(("a", epoch)), lambda e, *_: seen.append(("b", e))])
    assert seen == [(name, epoch) for epoch in range(3) for name in "ab"]


def test_training_is_the_same_with_and_without(graph, val):
    def drawing(epoch, model, data):
        torch.rand(7)
        model.train()

    (model, history), (other, again) = fit(graph, [drawing], val), fit(graph, [], val)
    assert torch.equal(model.item_embedding, other.item_embedding)
    assert history["loss"] == again["loss"]


def test_epochs_after_an_interruption_only(tmp_path, graph):
    def interrupt(epoch, model, data):
        if epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(graph, [interrupt], checkpoint_dir=tmp_path)
    seen = []
    fit(graph, [lambda epoch, *_: seen.append(epoch)], checkpoint_dir=tmp_path)
    assert seen == [1, 2]  # epoch 1 was not finished


def test_what_cannot_be_called(graph):
    for given in ([3], print):
        with pytest.raises(TypeError, match=r"'callbacks' must be a list of callables \(got "):
            fit(graph, given)
