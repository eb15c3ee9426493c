"""The section about equal bytes of the page of results, and its figure.

python benchmarks/render_frontier.py draws the figure; the section is written by ``render.py``.
"""

from __future__ import annotations

import json
from typing import Any

from render_engine import DATA, SHOWN
from render_parts import table
from report import RESULTS

from pyg_kd.study.report.numbers import signed_p

FIGURE = RESULTS / "frontier.png"
TITLES = {"citeulike": "CiteULike", "gowalla": "Gowalla", "movielens-100k": "MovieLens-100K"}
COLORS = {
    "Student": "tab:red",
    "Student in int4": "tab:orange",
    "ALS": "tab:blue",
    "Spectral": "tab:green",
    "LightGCN": "tab:purple",
    "BPR": "tab:brown",
}
NAMES = {
    "Student": "student",
    "Student in int4": "student trained in int4",
    "Spectral": "closed form, truncated",
    "BPR": "BPR-MF",
}
#: Where lines end, in bytes a row.
END = 900

MARKERS = {"float32": "o", "int8": "s", "int4": "D", "PQ": "x"}


def frontier(result: dict[str, Any], machine: str) -> str:
    """Accuracy against bytes."""
    parts = [
        "## Equal bytes\n",
        "`python benchmarks/frontier.py DATA`: students of several widths by `compress`, beside "
        "alternating least squares (ALS), BPR-MF, LightGCN by sampled softmax, truncated "
        "eigenvectors of closed-form filters (Spectral: those of GF-CF and of the ridge regression "
        "of EASE), in float32, int8 and int4, and product quantisation (PQ, parts x bits, on rows "
        "or on rows of length 1 with a float16 for the length) of the widest ALS and the widest "
        "student. int4 is rounded by `tables_at` for all. Bytes are of all that is served, for "
        "each user or item: vectors, scales, and codebooks in float16. Settings were chosen on "
        "validation targets at the first seed, and test targets were read once.\n",
        "![Accuracy against bytes](../benchmarks/results/frontier.png)\n",
        "Lines are what a kind reaches within so many bytes, chosen on validation targets by the "
        "metric that is shown; faint points are the rest. Product quantisation counts to the kind "
        f"it compresses. Machine: {machine}.\n",
    ]
    for name, found in sorted(result["data"].items()):
        parts.append(f"### {DATA[name]}, equal bytes\n")
        parts.append(told(found["finalists"]) + "\n")
        parts.append(table(FINALISTS, [finalist(row) for row in found["finalists"]]) + "\n")
        parts.append(
            "What nothing smaller of its kind reaches on validation targets, first seed:\n"
        )
        rows = [row for kind in COLORS for row in undominated(found, kind)]
        parts.append(table(POINTS, [point(row) for row in rows]) + "\n")
    return "\n".join(parts)


FINALISTS = [
    "Finalist", "Bytes", "Recall@20", "Recall@50", "NDCG@20", "p, R@20", "p, R@50", "p, N@20",
]  # fmt: skip
POINTS = ["Kind", "Width", "Stored as", "Bytes", "Validation", "Recall@20", "Recall@50", "NDCG@20"]


def told(rows: list[dict[str, Any]]) -> str:
    """What the finalists are."""
    seeds = rows[0]["seeds"]
    return (
        f"Finalists, {seeds} seed{'s' if seeds > 1 else ''}: the rival that is best on validation "
        "targets within 80 bytes, students of width 20, and the best student within 80 bytes. "
        "*p* is of a paired t-test per user, of means over seeds, against that rival, after Holm's "
        "correction; its sign is that of the difference."
    )


def finalist(row: dict[str, Any]) -> list[str]:
    """A line of the table of finalists."""
    values = []
    for metric in SHOWN:
        deviation = row[f"{metric} sd"]
        values.append(f"{row[metric]:.4f}" + (f" ± {deviation:.4f}" if deviation else ""))
    tests = [row["against"][metric] if "against" in row else None for metric in SHOWN]
    signs = ["" if test is None else signed_p(test["difference"], test["p"]) for test in tests]
    return [row["name"], f"{row['bytes']:.1f}", *values, *signs]


def point(row: dict[str, Any]) -> list[str]:
    """A line of the table of points."""
    values = [f"{row[metric]:.4f}" for metric in ("val", *SHOWN)]
    return [row["family"], str(row["dim"]), stored(row["how"]), f"{row['bytes']:.1f}", *values]


def stored(how: str) -> str:
    """How vectors are stored, in words."""
    if not how.startswith("PQ"):
        return how
    parts, bits, length = how.split()[1].split("x")
    return f"PQ {parts} x {bits}" + (", lengths" if length == "1" else "")


def undominated(found: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """Points of a kind that nothing smaller of it reaches on validation targets."""
    kept: list[dict[str, Any]] = []
    for row in sorted(found["points"], key=lambda row: row["bytes"]):
        if row["family"] == kind and (not kept or row["val"] > kept[-1]["val"]):
            kept.append(row)
    return kept


def draw(result: dict[str, Any]) -> None:
    """Test accuracy against bytes a row, one panel for each data set."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    plt.rcParams.update({"font.size": 9})
    data = sorted(result["data"].items())
    figure, axes = plt.subplots(1, len(data), figsize=(9, 4), layout="constrained", squeeze=False)
    for ax, (name, found) in zip(axes[0], data, strict=True):
        metric = found["metric"]
        for kind, color in COLORS.items():
            line = undominated(found, kind)
            for row in (row for row in found["points"] if row["family"] == kind):
                best = row in line
                ax.plot(
                    row["bytes"],
                    row[metric],
                    MARKERS[row["how"].split()[0]],
                    color=color,
                    ms=5 if best else 3,
                    alpha=1.0 if best else 0.25,
                )
            # What the kind reaches within so many bytes.
            reach = [(row["bytes"], row[metric]) for row in line]
            reach += [(END, value) for _, value in reach[-1:]]
            width = 2.4 if kind == "Student" else 1.2
            if len(line) > 1:
                ax.step(*zip(*reach, strict=True), where="post", color=color, lw=width)
        ax.set(title=TITLES[name], xlabel="bytes a row", xscale="log")
        ax.set_ylabel(f"{metric.capitalize()}, test")
        ax.set_xticks([10, 20, 40, 80, 200, 800], ["10", "20", "40", "80", "200", "800"])
        ax.minorticks_off()
        ax.grid(alpha=0.3)
    kinds = [k for k in COLORS if any(r["family"] == k for _, d in data for r in d["points"])]
    handles = [Line2D([], [], color=COLORS[k], lw=2, label=NAMES.get(k, k)) for k in kinds]
    handles += [
        Line2D([], [], color="black", marker=marker, lw=0, ms=5, label=how)
        for how, marker in MARKERS.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False)
    figure.savefig(FIGURE, dpi=160)
    print(f"wrote {FIGURE}")


if __name__ == "__main__":
    draw(json.loads((RESULTS / "frontier.json").read_text()))
