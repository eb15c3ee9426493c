"""The section of the page of results about all methods."""

from __future__ import annotations

from typing import Any

from render_parts import REDRAW, machine, table, with_deviation
from report import RESULTS

from pyg_kd.study.report.numbers import listed, signed_p

FIGURE = RESULTS.parents[1] / "docs" / "methods.png"

#: From the papers of DE-RRD and IR-RRD: CiteULike, leave-one-out against 499 sampled items, BPR,
#: width 20 from 200; H@5 and N@5. PHR is from an independent run of the same protocol, in which
#: the student alone reached .4432 and .3403.
PUBLISHED = {
    "teacher": (0.5135, 0.3970),
    "student alone": (0.4441, 0.3319),
    "DE": (0.4817, 0.3625),
    "PHR, hidden 128": (0.4878, 0.3709),
    "RD": (0.4533, 0.3395),
    "CD": (0.4550, 0.3404),
    "RRD": (0.4622, 0.3461),
    "IR-RRD": (0.4947, 0.3747),
}


#: What a reader has to know about each part of the comparison, in the order of the page.
WORLDS = {
    "mf/bpr": "Matrix factorisation (MF) with BPR, 40 epochs. The student alone has not converged "
    "by then, so part of each gain is faster training (see the next table). FreqD was run with the "
    "first seed only, next to the student and the teacher of that seed, on an Intel Xeon.",
    "mf/bpr, 200 epochs": "The same with five times as many epochs. SoftLabel was tuned again, and "
    "so was RRD, whose weight of the first table, 3e-3, made the student worse here (R@50 .2451). "
    "For the student alone, weight decays of 1e-3 and 3e-3 are equally good. The other methods use "
    "their weights of the first table.",
    "mf/als": "The teacher is implicit ALS of width 200; students are as in the first table. Only "
    "the student alone, SoftLabel, and SoftLabel with RCE-KD were tuned; the other methods use "
    "their weights of the first table. For CD, a weight of 0.033, tried earlier, is better "
    "(R@50 .2471).",
    "mf/als, 200 epochs": "The same teacher, and students trained for 200 epochs.",
    "lightgcn/softmax": "Teacher and student are LightGCN with sampled softmax, 24 epochs. "
    "SoftLabel runs for 80 epochs over users, which take as long. The grids differ from those for "
    "BPR: with the BPR grids, HTD seemed to bring nothing because its weights were too small, and "
    "IR-RRD and DCD seemed to do harm because theirs were too large.",
    "mf/softmax": "Does the student's propagation or its base loss decide how much a method "
    "brings? The teacher is the same LightGCN, and one thing about the student is changed: it is a "
    "matrix factorisation with sampled softmax, 24 epochs.",
    "lightgcn/bpr": "Here the other thing is changed: LightGCN with BPR, 40 epochs. HTD and IR-RRD "
    "were tried with their best weight of the first table and with the next weight of the grid.",
    "mf/bpr, lightgcn": "Both are changed: the student of the first table learns from the LightGCN "
    "teacher, with the weights of the first table.",
    "mf/bpr, bfloat16": 'The first table again with `precision="bf16-mixed"`, which runs the large '
    "products of HTD and DE in bfloat16, and with the same weights.",
}

#: Methods whose first epoch was drawn differently when rows without a "cpu" were run.
REDRAWN = ("RD", "RRD", "IR-RRD", "UnKD", "PCKD")


def p_value(row: dict[str, Any], metric: str) -> str:
    test = row.get(f"{metric} against alone")
    if test is None:
        return ""
    return signed_p(test["difference"], test["adjusted"])


def compare_methods(result: dict[str, Any]) -> str:
    draw_methods(result)
    parts = [
        "## All methods, CiteULike, width 20 from 200\n",
        "`pyg-kd study benchmarks/configs/compare_methods.yaml`: leave-one-out split, full "
        "ranking, means and standard deviations over seeds. The rows were run by the script that "
        "this configuration replaces, with the same recipes.\n",
        "*Setting* is the weight of a method (IR-RRD: that of RRD, twice the one of IR), the "
        "`own_weight` of SoftLabel, or the weight decay of a row without a teacher. Unless a table "
        "says otherwise, it was chosen by validation Recall@50 at the first seed. Every method, "
        "and the student alone too, had three settings, and more for as long as the best was at "
        "the edge of its grid. Combinations with SoftLabel had such a grid for the weight of the "
        "other method; the others had the weights of their parts times 1, 1/2 and 1/4 (HTD + RRD "
        "and DE + RCE-KD: times 1 only).\n",
        "Weight decay was tuned for the student alone; the methods use 1e-3 (MF) or 0. The rows of "
        "a table have the same number of epochs, unless it says otherwise. SoftLabel is different: "
        "its epochs are over users, and it has another learning rate, no weight decay and larger "
        "initial embeddings.\n",
        "*p* is from a paired t-test per user against the student alone on the same seeds, after "
        "Holm's correction; its sign is that of the difference. It says whether a difference holds "
        "for other users, not for other seeds. By this test, two seeds of the student alone differ "
        "with p = 0.01 on NDCG@20, so a p above 1e-4 means little.\n",
        "*Cost* is training time per epoch relative to the student alone, on one thread. "
        f"Machine: {machine(result)}, one thread per run.\n",
        f"![Recall@50 of every method, with its teacher and the student alone]({FIGURE.name})\n",
    ]
    for world, note in WORLDS.items():
        if world not in result["worlds"]:
            continue
        found = result["worlds"][world]
        header = [
            "Model",
            "Setting",
            "Recall@20",
            "NDCG@20",
            "Recall@50",
            "Gap closed",
            "p, R@50",
            "p, N@20",
            "Seeds",
        ]
        rows = [
            [
                name,
                ", ".join(f"{s:g}" for s in row["settings"]),
                *(with_deviation(row, m) for m in ("recall@20", "ndcg@20", "recall@50")),
                f"{100 * row['gap closed']:.0f} %",
                p_value(row, "recall@50"),
                p_value(row, "ndcg@20"),
                str(row["seeds"]),
                f"{row['cost']:.1f}x" if "cost" in row else "",
                f"{row['peak GB']:.2f}",
            ]
            for name, row in found["rows"].items()
        ]
        parts += [f"### {world}\n", f"{note}\n", table([*header, "Cost", "Peak GB"], rows), ""]
        parts += outdated(found["rows"])
    worlds = [result["worlds"][w]["rows"] for w in list(WORLDS)[:2] if w in result["worlds"]]
    rows = [
        [name]
        + [
            cell
            for metric, published in zip(("hit_rate@5", "ndcg@5"), theirs, strict=True)
            for cell in (*(sampled(world, name, metric) for world in worlds), f"{published:.4f}")
        ]
        for name, theirs in PUBLISHED.items()
        if name in worlds[0]
    ]
    names = [*("40 epochs", "200 epochs")[: len(worlds)], "published"]
    header = ["Model", *(f"{metric}, {name}" for metric in ("H@5", "N@5") for name in names)]
    parts += [
        "### Beside published figures: against 499 sampled items\n",
        "Sampled metrics do not preserve the order of methods; they are here because the papers "
        "report them. The runs are those of the first two tables. Their settings and epochs were "
        "chosen by the full ranking, the published ones by this metric. With 200 epochs, the "
        "student alone is above its published figure, RRD and DE are within 0.02 of theirs, and "
        "IR-RRD is 0.023 below.\n",
        table(header, rows),
        "",
        *outdated({name: worlds[0][name] for name in PUBLISHED if name in worlds[0]}),
    ]
    return "\n".join(parts)


def outdated(rows: dict[str, dict[str, Any]]) -> list[str]:
    """What has changed in the package since rows were run, those that name no processor."""
    old = [name for name, row in rows.items() if "cpu" not in row]
    notes = []
    if "CD" in old:
        notes.append(
            "CD was run before it drew from exact ranks by default: its approximate sampler drew "
            "from a flatter distribution than its formula."
        )
    redrawn = [name for name in old if set(name.split(" + ")) & set(REDRAWN)]
    if redrawn:
        notes.append(f"{listed(redrawn)} {'was' if len(redrawn) == 1 else 'were'} {REDRAW}")
    return [" ".join(notes) + "\n"] if notes else []


def draw_methods(result: dict[str, Any]) -> None:
    """Recall@50 of every method between its student and its teacher, one panel per part."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    worlds = {w: result["worlds"][w]["rows"] for w in WORLDS if w in result["worlds"]}
    worlds = {w: rows for w, rows in worlds.items() if len(rows) > 7}  # no panel for a dot or two
    ends = ("student alone", "teacher")
    names = [n for n in next(iter(worlds.values())) if n not in ends and not n.startswith("ALS")]
    figure, axes = plt.subplots(
        1, len(worlds), figsize=(3.2 * len(worlds), 5), sharey=True, layout="constrained"
    )
    for ax, (world, rows) in zip(axes, worlds.items(), strict=True):
        for end, color in zip(ends, ("tab:gray", "tab:orange"), strict=True):
            ax.axvline(rows[end]["recall@50"], color=color, label=end)
        for place, name in enumerate(names):
            if name in rows:
                spread = rows[name]["recall@50 deviation"] or 0.0
                ax.errorbar(rows[name]["recall@50"], place, xerr=spread, fmt="o", color="tab:blue")
        ax.set(title=world, xlabel="Recall@50")
        ax.grid(axis="y", alpha=0.3)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    figure.savefig(FIGURE, dpi=120)


def sampled(rows: dict[str, Any], name: str, metric: str) -> str:
    return f"{rows[name]['sampled'][metric]:.4f}" if name in rows else ""
