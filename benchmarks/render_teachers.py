"""The section about teachers of the page of results."""

from __future__ import annotations

from typing import Any

from render_engine import DATA, SHOWN
from render_parts import table

TITLES = {
    **DATA,
    "yelp2018": "Yelp2018, LightGCN split",
    "amazon-book": "Amazon-Book, LightGCN split",
}

#: Recall@20 and NDCG@20 of the LightGCN splits, from the papers and from BARS.
PUBLISHED = {
    "gowalla": {
        "LightGCN": (0.1820, 0.1547),
        "GF-CF": (0.1849, 0.1518),
        "SimpleX": (0.1872, 0.1557),
        "BSPM": (0.1920, 0.1597),
    },
    "yelp2018": {"GF-CF": (0.0697, 0.0571), "BSPM": (0.0713, 0.0584)},
    "amazon-book": {"SLIM": (0.0755, 0.0602), "BSPM": (0.0733, 0.0610)},
}

#: What a reader has to know about the rows of a data set.
NOTES = {
    "gowalla": "Random validation targets rank teachers otherwise than this test, whose items are "
    "more often very popular ones and lie beside each other in number. BSPM has its authors' "
    "settings; their figures, .1920 and .1597 (Recall@20 and NDCG@20), are of all training edges, "
    "of which 2 % are held out here. The ensemble of the table, whose weights validation chose, is "
    "above BSPM alone in Recall@20 and below it in NDCG@20. Equal weights of LightGCN and BSPM "
    "were not chosen on validation: the pair, two kinds of published strength, was fixed before "
    "its test was read, though after those of both were known; the width of LightGCN, 128, was "
    "then chosen on validation, and the pair fused once more."
}

COLUMNS = [
    "Teacher", "Validation", "Recall@20", "Recall@50", "NDCG@20", "Seconds, fit", "Seconds, rank",
    "MB",
]  # fmt: skip


def teachers(result: dict[str, Any], machine: str) -> str:
    """Accuracy and cost of single teachers and of their ensemble."""
    parts = [
        "## Teachers\n",
        "`python benchmarks/teachers.py DATA`: the teachers that `compress` and `fuse` can take, "
        "each with settings of its own, and the ensemble by reciprocal ranks whose weights "
        "validation targets choose. Test targets were read once for every row. Seconds are "
        "processor seconds of one thread, to fit and to rank for all users; those of the ensemble "
        f"are to choose its weights. Machine: {machine}.\n",
    ]
    for name, found in sorted(result["data"].items()):
        parts.append(f"### {TITLES[name]}, teachers\n")
        parts.append(" ".join([f"Validation is `{found['metric']}`.", NOTES.get(name, "")]).strip())
        parts.append("")
        parts.append(table(COLUMNS, [line(label, row) for label, row in found["rows"].items()]))
        parts.append("")
        if "ensemble" in found["rows"]:
            parts.append(weights(found["rows"]["ensemble"]) + "\n")
        if "refit" in found:
            parts.append(beside(found["refit"], PUBLISHED.get(name, {})) + "\n")
    return "\n".join(parts)


def lightgcn_by_time(result: dict[str, Any], machine: str) -> str:
    """What a wider LightGCN, or one that is trained for longer, gains on Gowalla."""
    header = ["Width", "Epochs", "Seconds", "Threads", "Validation", "Recall@20", "NDCG@20"]
    part = [[row for row in result["rows"] if row["refit"] is refit] for refit in (False, True)]
    lines, refit = ([_by_time(row) for row in rows] for rows in part)
    found = [
        "## LightGCN by width and epochs\n",
        "`python benchmarks/lightgcn_time.py --threads 2`: Gowalla's LightGCN split, with the "
        "recipe of `--teacher lightgcn`. Seconds pass from the graph to the trained model; each "
        f"row is trained anew. Machine: {machine}.\n",
        table(header, lines),
        "",
    ]
    if refit:
        found += ["Trained on training and validation edges together (`--refit`):\n"]
        found += [table(header, refit), ""]
    return "\n".join(found)


def _by_time(row: dict[str, Any]) -> list[str]:
    figures = (f"{row[name]:.4f}" if name in row else "" for name in ("val", *SHOWN[::2]))
    return [*(str(row[name]) for name in ("dim", "epochs")), f"{row['seconds']:.0f}",
            str(row["threads"]), *figures]  # fmt: skip


def line(label: str, row: dict[str, Any]) -> list[str]:
    """A line of the table."""
    values = []
    for name in ("val", *SHOWN):
        deviation = row.get(f"{name} sd")
        values.append(f"{row[name]:.4f}" + (f" ± {deviation:.4f}" if deviation else ""))
    size = f"{row['bytes'] / 1e6:.1f}" if row.get("bytes") else ""
    cost = [f"{row[name]:.1f}" if row[name] else "" for name in ("fit", "rank")]
    return [label, *values, *cost, size]


def weights(row: dict[str, Any]) -> str:
    """What an ensemble consists of."""
    runs = [
        ", ".join(f"{name} {weight:g}" for name, weight in run.items() if weight)
        for run in row["weights"]
    ]
    told = "; ".join(dict.fromkeys(runs))
    return f"Weights of the ensemble{' by seed' if len(set(runs)) > 1 else ''}: {told}."


def beside(refit: dict[str, Any], published: dict[str, tuple[float, float]]) -> str:
    """Teachers that were fitted on all edges but those of the test targets, and published ones."""
    rows = [
        [label, f"{row['recall@20']:.4f}", f"{row['ndcg@20']:.4f}"] for label, row in refit.items()
    ]
    rows += [[f"{label}, published", f"{r:.4f}", f"{n:.4f}"] for label, (r, n) in published.items()]
    return (
        "The same, fitted on training and validation edges together, as published figures are; "
        "nothing is chosen again:\n\n" + table(["Teacher", "Recall@20", "NDCG@20"], rows)
    )
