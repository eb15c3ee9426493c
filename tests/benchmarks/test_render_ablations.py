"""The report of the ablations, from numbers as their script keeps them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pyg_kd.study.ablation import ablate, ablation_to_json
from pyg_kd.study.checking import check_config
from pyg_kd.study.config import read_config

ROOT = Path(__file__).parents[2]


@pytest.fixture
def render_ablations(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import render_ablations

    return render_ablations


def test_section(render_ablations) -> None:
    row = {seed: torch.rand(30) for seed in range(2)}
    rows = {
        frozenset(key): {s: values + by for s, values in row.items()}
        for key, by in (("", 0.0), ("a", 0.1), ("b", 0.2), ("ab", 0.4))
    }
    found = ablate(["a", "b"], rows, metric="ndcg@10", num_replicates=50)
    kept = {
        "title": "Taken apart",
        "note": "A note.",
        "base": "nothing",
        "metrics": {"ndcg@10": ablation_to_json(found)},
        "alone": {"ndcg@10": 0.125},
        "runs": 12,
        "cpu seconds": 1234.5,
        "seeds": [0, 1],
    }
    result = {"machine": {"cpu": "a processor"}, "ablations": {"de_rrd": kept}}
    section = render_ablations.section(result)
    (part,) = section.parts
    assert "`configs/ablation_de_rrd.yaml`" in section.text and "2 seeds" in section.text
    assert part.text.startswith("A note. The student alone, by BPR, reaches 0.1250.")
    assert "1,234 CPU seconds" in part.text or "1,235 CPU seconds" in part.text
    # One interaction is no heat map.
    assert [figure.name for figure in section.every_figure()] == ["ablations-de-rrd-shares"]
    assert part.tables[1].rows[0][1].startswith("+0.1500")


@pytest.mark.parametrize("name", ["compress", "de_rrd", "het_comp"])
def test_the_studies_are_valid(render_ablations, name: str) -> None:
    path = ROOT / "benchmarks" / "configs" / f"ablation_{name}.yaml"
    config = read_config(path)
    check_config(config)
    assert config.metric == render_ablations.METRIC
