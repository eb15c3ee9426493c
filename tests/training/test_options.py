from __future__ import annotations

import re
from dataclasses import FrozenInstanceError, fields
from inspect import signature

import numpy as np
import pytest
from lightning_fabric import Fabric

from pyg_kd.training import Trainer
from pyg_kd.training.options import PRECISIONS, Options, plain


def test_options_are_the_arguments_of_the_trainer():
    assert [f.name for f in fields(Options)] == list(signature(Trainer).parameters)
    options = Trainer(lr=0.5, checkpoint_dir="runs", evaluate_every=2).options
    assert (options.lr, options.evaluate_every) == (0.5, 2)
    assert str(options.checkpoint) == "runs/last.pt"
    assert Trainer().options.checkpoint is None


def test_options_do_not_change():
    with pytest.raises(FrozenInstanceError):
        Trainer().options.lr = 0.5


def test_attributes_are_read_and_checked_again():
    trainer = Trainer()
    trainer.lr = np.float32(0.25)
    assert (trainer.options.lr, type(trainer.options.lr)) == (0.25, float)
    trainer.lr = -1.0
    with pytest.raises(ValueError, match=r"'lr' must be positive \(got -1.0\)"):
        _ = trainer.options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": 20}, r"'metric' must be text like 'recall@20' \(got 20\)"),
        ({"metric": ["recall@20"]}, r"'metric' must be text .* \(got \['recall@20'\]\)"),
        ({"metric": None, "evaluator": print}, r"'metric' must be text .* \(got None\)"),
        ({"evaluator": "recall@20"}, r"'evaluator' must be callable \(got 'recall@20'\)"),
        ({"seed": 0.5}, r"'seed' must be an integer \(got 0.5\)"),
    ],
)
def test_types(options, message):
    with pytest.raises(TypeError, match=message):
        Trainer(**options)


def test_metric_without_a_length():
    with pytest.raises(ValueError, match=r"'metric' must look like 'recall@20'.*got 'ndcg'"):
        Trainer(metric="ndcg")


def test_precisions_are_those_of_fabric():
    with pytest.raises(ValueError, match="is invalid") as caught:
        Fabric(accelerator="cpu", precision="half-ish")
    _, allowed = str(caught.value).split("Allowed")
    assert set(re.findall(r"'([\w-]+)'", allowed)) == set(PRECISIONS)
    assert Trainer(precision=32).options.precision == 32


def test_plain_numbers():
    found = [plain(x) for x in (np.int64(3), np.float32(0.5), True, "a", None, 2)]
    assert found == [3, 0.5, True, "a", None, 2]
    assert [type(x) for x in found[:3]] == [int, float, bool]
