"""The report of the ablations, from ``results/ablations.json``."""

from __future__ import annotations

from typing import Any

from pyg_kd.study.ablation import ablation_from_json, ablation_section
from pyg_kd.study.report import Section

#: What the figures and the text are about.
METRIC = "ndcg@10"


def section(result: dict[str, Any]) -> Section:
    """All ablations that were run."""
    found = result["ablations"]
    machine = result["machine"]
    seeds = max(len(kept["seeds"]) for kept in found.values())
    text = (
        "Which part of a method brings its gain, and how much of that gain is there without the "
        "teacher's knowledge? All subsets of the parts are trained; `python "
        "benchmarks/ablations.py` runs the studies "
        + ", ".join(f"`configs/ablation_{name}.yaml`" for name in found)
        + f" again. MovieLens-100K, up to {seeds} seeds, {machine['cpu']}, one thread."
    )
    return Section("Ablations", text, parts=[_one(name, kept) for name, kept in found.items()])


def _one(name: str, kept: dict[str, Any]) -> Section:
    found = ablation_from_json(kept["metrics"][METRIC])
    made = ablation_section(
        found, kept["title"], name=f"ablations-{name.replace('_', '-')}", base=kept["base"]
    )
    note = (
        f"{kept['note'].strip()} The student alone, by BPR, reaches {kept['alone'][METRIC]:.4f}. "
        f"{kept['runs']} runs took {kept['cpu seconds']:,.0f} CPU seconds."
    )
    return Section(made.title, f"{note}\n\n{made.text}", made.tables, made.figures)
