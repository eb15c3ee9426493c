"""Tables of what was measured, read from ``benchmarks/results`` while the site is built."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from IPython.display import Markdown, display

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
ALONE = "student alone"

#: The worlds of ``compare_methods.json``, as a reader would call them.
WORLDS = {
    "mf/bpr": "MF learns from MF, BPR, 40 epochs",
    "mf/bpr, 200 epochs": "the same, 200 epochs",
    "mf/als": "MF learns from ALS, BPR, 40 epochs",
    "mf/als, 200 epochs": "the same, 200 epochs",
    "lightgcn/softmax": "LightGCN learns from LightGCN, sampled softmax",
    "mf/softmax": "MF learns from LightGCN, sampled softmax",
    "lightgcn/bpr": "LightGCN learns from LightGCN, BPR",
    "mf/bpr, lightgcn": "MF learns from LightGCN, BPR",
}


def read(name: str) -> dict[str, Any]:
    """One file of results."""
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return found


def costs(*names: str, results: str = "training_cost", alone: str | None = ALONE) -> None:
    """Seconds and memory of an epoch of some rows, beside the student alone."""
    result = read(results)
    rows = result["ours"]
    shown = names if alone is None else (alone, *names)
    header = ["CiteULike, width 20 from 200", "Seconds an epoch", "Peak GB"]
    lines = [[n, f"{rows[n]['seconds']:.2f}", f"{rows[n]['peak GB']:.2f}"] for n in shown]
    if alone is not None:
        header.insert(2, "Times the student alone")
        for line, name in zip(lines, shown, strict=True):
            line.insert(2, f"{rows[name]['seconds'] / rows[alone]['seconds']:.1f}")
    machine = result["machine"]
    _show(
        header,
        lines,
        f"Wall-clock time, `benchmarks/{results}.py`, {machine['cores']} cores of "
        f"{machine['cpu']}, {machine['threads']} threads, PyTorch {machine['torch']}.",
    )


def accuracy(*names: str, worlds: Iterable[str] = WORLDS) -> None:
    """What a method reached in every world it was run in, beside student and teacher."""
    result, lines = read("compare_methods"), []
    for world in worlds:
        rows = result["worlds"][world]["rows"]
        for name in names:
            if name in rows:
                lines.append([WORLDS[world], *_reached(rows, name)])
    header = ["Student and teacher", "Method", "Recall@50", "alone", "teacher", "Gap closed",
              "p, R@50", "p, N@20", "Seeds", "Epoch"]  # fmt: skip
    if len(names) == 1:
        header.pop(1)
        for line in lines:
            line.pop(1)
    _show(
        header,
        lines,
        "CiteULike, leave-one-out, full ranking, width 20 from 200, means over seeds; *p* is of a "
        "paired t-test per user against the student alone, after Holm's correction, with the sign "
        "of the difference; *epoch* is its time on one thread, over that of the student alone. "
        "`benchmarks/configs/compare_methods.yaml`; [all rows](../results.md).",
    )


def _reached(rows: dict[str, Any], name: str) -> list[str]:
    row = rows[name]
    means = [f"{found['recall@50']:.4f}" for found in (row, rows[ALONE], rows["teacher"])]
    tests = [_p_value(row, metric) for metric in ("recall@50", "ndcg@20")]
    cost = f"{row['cost']:.1f}x" if "cost" in row else ""
    return [name, *means, f"{row['gap closed']:.0%}", *tests, str(row["seeds"]), cost]


def _p_value(row: dict[str, Any], metric: str) -> str:
    test = row.get(f"{metric} against alone")
    if test is None:
        return ""
    sign = "+" if test["difference"] > 0 else "-"
    return f"{sign} {'<1e-6' if test['adjusted'] < 1e-6 else format(test['adjusted'], '.1g')}"


def table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _show(header: Sequence[str], lines: Iterable[Sequence[str]], note: str) -> None:
    display(Markdown(f"{table(header, lines)}\n\n{note}"))
