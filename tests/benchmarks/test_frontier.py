"""What the frontier counts as bytes, and what it chooses."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.transforms import UserSplit
from pyg_kd.typing import INTERACTS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import frontier
    import frontier_models
    import render_frontier

    return frontier, frontier_models, render_frontier


@pytest.fixture
def world(scripts, tmp_path):
    data = SyntheticInteractions(None, num_users=60, num_items=50, num_edges=900)[0]
    train, val, test = UserSplit(seed=0)(data)
    return scripts[1].World("any", train, val, test, "recall@20", tmp_path, val)


def test_bytes_of_codes_lengths_and_codebooks(scripts) -> None:
    pytest.importorskip("faiss")
    x = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    x[7] = 0
    plain, size = scripts[0].product_codes(x, 4, 4, False)
    assert size == 300 * 2 + 2 * 16 * 8
    lengths, more = scripts[0].product_codes(x, 4, 4, True)
    assert more == size + 2 * 300
    for found in (plain, lengths):
        assert np.isfinite(found).all() and not found[7].any()
        assert np.square(found - x).sum() < 0.5 * np.square(x).sum()


def test_the_whole_spectrum_is_the_scaled_graph(scripts, world) -> None:
    """With every singular vector and nothing kept back."""
    setting = {"user": 0.5, "item": 0.25, "power": 0.25, "ridge": 0.0}
    model = scripts[1].spectral(world, 50, 0, setting)
    x = model(world.train)
    users, items = world.train.edge_index_dict["user", "interacts", "item"]
    graph = torch.zeros(60, 50).index_put((users, items), torch.tensor(1.0))
    expected = graph / graph.sum(1, keepdim=True).sqrt()
    torch.testing.assert_close((x["user"] @ x["item"].t()).detach(), expected, atol=1e-3, rtol=0)
    shrunk = scripts[1].spectral(world, 50, 0, setting | {"ridge": 1.0})
    ratio = (shrunk.item_embedding / model.item_embedding)[0].detach()
    assert abs(float(ratio[-1]) - 0.5) < 1e-3 and bool((ratio.diff() < 1e-3).all())


def test_settings_are_chosen_once_and_kept(scripts, world) -> None:
    frontier, models, _ = scripts
    settings = tuple(
        {"user": 0.5, "item": 0.5, "power": power, "ridge": 0.0} for power in (0.0, 0.5)
    )
    family = models.Family(models.spectral, (4, 8), settings, (4,))
    best = frontier.best_setting(world, "Spectral", family, 8)
    values = [frontier.fitted(world, "Spectral", family, 4, 0, n).value for n in (0, 1)]
    assert best == int(np.argmax(values))
    kept = {path.name for path in world.cache.iterdir()}
    names = {"svd-0-0.5-0.5.pt", "Spectral-4-0-0.npz", "Spectral-4-0-1.npz"}
    assert kept == {f"any-{world.split}-{name}" for name in names}

    tables = frontier.chosen(world, "Spectral", family, 8)
    for how, size in (("float32", 32), ("int8", 10), ("int4", 6)):
        point = frontier.served(world, tables.x, "Spectral", 8, how)
        assert point.size == size and point.model(world.train)["user"].shape == (60, 8)
    rows = [frontier.point(world, "Spectral", family, 8, "int8") for _ in range(2)]
    assert rows[0] == rows[1] and rows[0]["bytes"] == 10 and rows[0]["setting"] == settings[best]
    assert frontier.kinds(world, "Spectral", family)[3] == (8, "float32")
    broken = tables.x[0].copy(), tables.x[1] * np.nan
    with pytest.raises(ValueError, match="must be finite"):
        frontier.served(world, broken, "Spectral", 8, "float32")


def row(family: str, how: str, size: float, value: float, dim: int = 8) -> dict:
    metrics = {"recall@20": value, "recall@50": value, "ndcg@20": value}
    return {"family": family, "dim": dim, "how": how, "bytes": size, "val": value, **metrics}


ROWS = [
    row("ALS", "int8", 20, 0.2),
    row("ALS", "PQ 10x8x0", 30, 0.3),
    row("ALS", "PQ 10x8x1", 32, 0.25),
    row("ALS", "float32", 200, 0.5),
    row("Student", "int4", 12, 0.3, dim=20),
    row("Student", "int8", 22, 0.29),
    row("Student", "float32", 80, 0.4),
]


def test_finalists_and_what_is_left_out(scripts) -> None:
    frontier = scripts[0]
    assert [r["bytes"] for r in frontier.finalists(ROWS)] == [30, 12, 80]
    assert [r["bytes"] for r in frontier.undominated(ROWS[:4])] == [20, 200, 30]


def test_section_and_figure(scripts, tmp_path, monkeypatch) -> None:
    render = scripts[2]
    test = {"difference": 0.1, "interval": [0.0, 0.2], "p": 0.001}
    final = {"name": "ALS-8, int8", "bytes": 20.0, "seeds": 2}
    final |= {key: 0.2 for key in render.SHOWN} | {f"{key} sd": 0.01 for key in render.SHOWN}
    other = final | {"name": "Student-8, int4", "against": {key: test for key in render.SHOWN}}
    result = {"data": {"gowalla": {"metric": "recall@20", "points": ROWS,
                                   "finalists": [final, other]}}}  # fmt: skip
    page = render.frontier(result, "a machine")
    line = " | ".join(["Student-8, int4", "20.0", *["0.2000 ± 0.0100"] * 3, *["+ 0.001"] * 3])
    assert f"| {line} |" in page
    assert "| ALS | 8 | PQ 10 x 8 | 30.0 | 0.3000 | 0.3000 | 0.3000 | 0.3000 |" in page
    assert "PQ 10 x 8, lengths" not in page and "| Student | 8 | int8 |" not in page
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(render, "FIGURE", tmp_path / "frontier.png")
    render.draw(result)
    assert (tmp_path / "frontier.png").stat().st_size > 10_000


def test_what_is_kept_is_of_one_split(world) -> None:
    others = copy.copy(world.val)
    others[INTERACTS].edge_label_index = others[INTERACTS].edge_label_index[:, 1:]
    assert world._replace(val=others).split != world.split
    assert world._replace(train=world.test).split != world.split
    assert world._replace(cache=world.cache / "other").split == world.split
