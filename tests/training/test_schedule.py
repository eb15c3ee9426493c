from __future__ import annotations

from math import cos, pi

import pytest
import torch

from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.models import MF
from pyg_kd.training import Trainer
from pyg_kd.training.row_adam import RowAdam
from pyg_kd.training.schedule import rate_factor


def factors(schedule: str, warmup: float, final_lr: float, steps: int) -> list[float]:
    return [
        rate_factor(step, steps, schedule=schedule, warmup=warmup, final_lr=final_lr)
        for step in range(steps)
    ]


def test_the_warm_up_is_linear_and_the_rest_a_cosine() -> None:
    found = factors("cosine", 0.2, 0.1, 20)
    expected = [0.25, 0.5, 0.75, 1.0]
    expected += [0.1 + 0.9 * (1 + cos(pi * t / 16)) / 2 for t in range(16)]
    assert found == pytest.approx(expected)
    assert factors("constant", 0.1, 0.0, 10) == [1.0] * 10
    assert factors("constant", 1.0, 0.0, 4) == [0.25, 0.5, 0.75, 1.0]
    assert factors("cosine", 1.0, 0.0, 1) == [1.0]
    assert min(factors("cosine", 0.0, 0.25, 400)) > 0.25


@pytest.fixture
def data():
    return SyntheticInteractions(None, num_users=30, num_items=20, num_edges=200)[0]


def fit(data, **options):
    torch.manual_seed(0)
    model = MF(data, dim=4)
    trainer = Trainer(batch_size=64, progress=False, **options)
    trainer.fit(model, data, resume=options.get("checkpoint_dir") is not None)
    return model.user_embedding.detach().clone()


def test_every_step_has_its_rate(data, monkeypatch) -> None:
    rates, step = [], RowAdam.advance

    def recorded(self, *args, **kwargs):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(RowAdam, "advance", recorded)
    fit(data, max_epochs=3, lr=0.5, schedule="cosine", warmup=0.25)
    expected = [0.5 * f for f in factors("cosine", 0.25, 0.01, 12)]
    assert rates == pytest.approx(expected)


def test_a_resumed_run_goes_on_at_its_rate(data, tmp_path) -> None:
    options = {"max_epochs": 4, "schedule": "cosine", "warmup": 0.3}
    whole = fit(data, **options)
    stopped = {"checkpoint_dir": tmp_path, **options}

    def stop(epoch, model, data):
        if epoch == 2:
            raise KeyboardInterrupt

    torch.manual_seed(0)
    trainer = Trainer(batch_size=64, progress=False, **stopped)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(MF(data, dim=4), data, callbacks=[stop])
    assert torch.equal(fit(data, **stopped), whole)
    with pytest.raises(ValueError, match="max_epochs, which the learning rate follows"):
        fit(data, **{**stopped, "max_epochs": 5})
    with pytest.raises(ValueError, match="warmup"):
        fit(data, **{**stopped, "warmup": 0.2})


def test_nothing_changes_by_default(data) -> None:
    assert torch.equal(fit(data, max_epochs=2), fit(data, max_epochs=2, final_lr=0.5))
    assert not torch.equal(fit(data, max_epochs=2), fit(data, max_epochs=2, schedule="cosine"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "linear"}, r"'schedule' must be one of .*'linear'"),
        ({"warmup": -0.1}, "'warmup' must be 0 or more"),
        ({"warmup": 1.1}, "'warmup' and 'final_lr' are shares, 1 at most .got 1.1"),
        ({"final_lr": 2.0}, "'warmup' and 'final_lr' are shares, 1 at most .got 0.0 and 2.0"),
    ],
)
def test_bad_options(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        Trainer(**options)
