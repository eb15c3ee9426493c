"""Options of the trainer are checked when it is made, and again when it is used."""

from __future__ import annotations

import builtins
from typing import Any

import pytest

from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.sharding import ShardedMF, ShardedTrainer, process_group
from pyg_kd.sharding import torchrec_tables as tables


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_epochs", 0),
        ("batch_size", 1.5),
        ("batch_by", "item"),
        ("lr", 0.0),
        ("method_lr", -1.0),
        ("loss", "own"),
        ("base_weight", -0.1),
        ("num_negatives", 0),
        ("seed", -(2**50)),
        ("metric", "accuracy"),
        ("patience", 0),
        ("evaluate_every", 0),
    ],
)
def test_options_out_of_range(option: str, value: object) -> None:
    with pytest.raises((ValueError, TypeError), match=option):
        ShardedTrainer(**{option: value})
    trainer = ShardedTrainer()
    setattr(trainer, option, value)
    with pytest.raises((ValueError, TypeError), match=option):
        trainer.fit(None, None)  # type: ignore[arg-type]


def test_what_differs_from_the_defaults_is_told() -> None:
    assert repr(ShardedTrainer(lr=0.1, seed=3)) == "ShardedTrainer(lr=0.1, seed=3)"


def test_models_of_another_kind() -> None:
    with pytest.raises(TypeError, match=r"'model' must be a ShardedMF \(got int\)"):
        ShardedTrainer().fit(3, None)  # type: ignore[arg-type]


def test_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def hidden(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("torchrec"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(tables, "import_module", lambda name: hidden(name))
    data = SyntheticInteractions(num_users=20, num_items=10, num_edges=80)[0]
    with (
        process_group("cpu"),
        pytest.raises(ImportError, match=r"need torchrec: pip install 'pyg_kd\[torchrec\]'.*make"),
    ):
        ShardedMF(data, 4)


@pytest.mark.parametrize(
    ("option", "value"), [("sharding", "column"), ("optimizer", "adam"), ("init_std", -1.0)]
)
def test_options_of_the_model(option: str, value: object) -> None:
    data = SyntheticInteractions(num_users=20, num_items=10, num_edges=80)[0]
    with process_group("cpu"), pytest.raises(ValueError, match=option):
        ShardedMF(data, 4, **{option: value})
