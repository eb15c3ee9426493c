"""The lists of teachers that the benchmark of ``compress`` keeps."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import torch

from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.transforms import UserSplit


def test_lists_are_made_once(monkeypatch, tmp_path) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import compress

    data = SyntheticInteractions(num_users=80, num_items=60, num_edges=1_500)[0]
    train, val, _ = UserSplit(seed=0)(data)
    args = SimpleNamespace(data="any", lists=tmp_path, metric="recall@20")
    names = ["kernel_ridge", "als"]
    made = {
        (place, seed): compress.lists_of(args, train, val, names, place, seed)
        for place in (0, 1)
        for seed in (0, 1)
    }
    # One file for the closed form, one a seed for what is drawn.
    files = sorted(path.stem for path in tmp_path.glob("*.safetensors"))
    assert files == ["any-als-1-0", "any-als-1-10", "any-kernel_ridge-0-0"]
    assert made[0, 0][1] == made[0, 1][1] > 0

    def items(place: int, seed: int) -> torch.Tensor:
        return made[place, seed][0]["user"].teacher_items

    assert torch.equal(items(0, 0), items(0, 1)) and not torch.equal(items(1, 0), items(1, 1))
    monkeypatch.setattr(compress, "train_teacher", None)  # nothing is trained again
    for (place, seed), (graph, seconds) in made.items():
        again, told = compress.lists_of(args, train, val, names, place, seed)
        assert torch.equal(again["user"].teacher_items, graph["user"].teacher_items)
        assert told == seconds
