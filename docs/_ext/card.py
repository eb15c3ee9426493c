"""What the cards show, read from ``benchmarks/results`` while the site is built."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from IPython.display import Markdown, display

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
METRICS = ("recall@20", "recall@50", "ndcg@20")


def demo_student(data: str = "movielens-100k") -> None:
    """Accuracy and bytes of the student beside its teachers."""
    result = json.loads((RESULTS / "compress.json").read_text())
    rows = result["data"][data]["rows"]
    machine = result["machine"]
    lines = [["Model", "Seeds", *(metric.replace("recall", "Recall").replace("ndcg", "NDCG")
                                  for metric in METRICS), "Bytes a row"]]  # fmt: skip
    lines.append(["---"] * len(lines[0]))
    lines += [line(name, row) for name, row in rows.items()]
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    text += f"\n\n{machine['cores']} cores of {machine['cpu']}, {machine['threads']} thread, "
    display(Markdown(f"{text}PyTorch {machine['torch']}."))


def line(name: str, row: dict[str, Any]) -> list[str]:
    """A row of the table."""
    cells = [f"{row[m]:.4f}" + (f" ± {row[f'{m} sd']:.4f}" if row[f"{m} sd"] else "")
             for m in METRICS]  # fmt: skip
    size = row.get("bytes a row")
    return [name, str(row["seeds"]), *cells, "" if size is None else f"{size:.0f}"]
