"""What the benchmark of ``compress`` keeps of a run."""

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


def test_rows_of_a_seed_are_kept(monkeypatch, tmp_path) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import compress

    # More items than the longest list that is measured.
    data = SyntheticInteractions(num_users=80, num_items=120, num_edges=1_800)[0]
    split = list(UserSplit(seed=0)(data))
    args = SimpleNamespace(
        data="any", lists=tmp_path, metric="recall@20", dim=4, epochs=2, model="lightgcn"
    )
    first = compress.rows_of(args, split, 1)
    assert (tmp_path / "any-rows-lightgcn-4-2-1.pt").exists()
    monkeypatch.setattr(compress, "one_seed", None)  # nothing is done again
    again = compress.rows_of(args, split, 1)
    assert compress.summary([first], "recall@20") == compress.summary([again], "recall@20")
    assert again["student, int8"]["bytes a row"] == 4 + 2
    for name, row in first.items():
        assert torch.equal(row["test"].user, again[name]["test"].user)
        assert torch.equal(row["test"].values["ndcg@20"], again[name]["test"].values["ndcg@20"])


def test_better_teachers_are_named(monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    from render_engine import above

    def row(*values: float) -> dict[str, float]:
        return dict(zip(("recall@20", "recall@50", "ndcg@20"), values, strict=True))

    rows = {"kernel_ridge": row(0.1, 0.2, 0.3), "bspm": row(0.3, 0.1, 0.4)}
    # Neither the ensemble nor another precision of the student is a single teacher.
    rows |= {"ensemble": row(1, 1, 1), "student, int8": row(1, 1, 1)}
    assert "prefers: bspm (R@20, N@20)." in above(rows | {"student, float32": row(0.2, 0.2, 0.3)})
    assert above(rows | {"student, float32": row(0.3, 0.2, 0.4)}) == ""
