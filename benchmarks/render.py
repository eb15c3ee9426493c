"""Write ``docs/results.md`` and its figure from the JSON files in ``benchmarks/results``.

python benchmarks/render.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from report import RESULTS

PAGE = RESULTS.parents[1] / "docs" / "results.md"
FIGURE = PAGE.with_name("methods.png")

#: DE-RRD and IR-RRD, leave-one-out against 499 sampled items, CiteULike, BPR, 200 -> 20: H@5, N@5.
#: PHR is from an independent run of the same protocol, whose student has .4432 and .3403.
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


#: What has to be known of each part of the comparison, in the order of the page.
WORLDS = {
    "mf/bpr": "Matrix factorisation by BPR, 40 epochs: by then the student alone has not "
    "converged, and part of what the methods bring is speed (next table). FreqD was run for the "
    "first seed alone, beside the student and the teacher of that seed, on an Intel Xeon.",
    "mf/bpr, 200 epochs": "The same with five times the epochs. SoftLabel was tuned again, and "
    "RRD, whose weight of the table above, 3e-3, made the student worse here (R@50 .2451); for "
    "the student alone, weight decays of 1e-3 and 3e-3 are equal. The other methods have the "
    "weights of the table above.",
    "mf/als": "The teacher is implicit ALS of width 200, students as in the first table. Only the "
    "student alone and SoftLabel were tuned, alone and with RCE-KD, the other methods have the "
    "weights of the first. For CD that of 0.033, tried before, is better (R@50 .2471).",
    "mf/als, 200 epochs": "The same teacher and 200 epochs.",
    "lightgcn/softmax": "Teacher and student are LightGCN, by sampled softmax, 24 epochs; "
    "SoftLabel has 80 epochs of users, which take as long. The grids are others than those beside "
    "BPR: with those, HTD seemed to bring nothing (its weights were too small) and IR-RRD and DCD "
    "to do harm (theirs were too large).",
    "mf/softmax": "Is it the student's propagation or its base loss that decides what a method "
    "brings? The same LightGCN teacher, and of the student one thing changed: a factorisation by "
    "sampled softmax, 24 epochs.",
    "lightgcn/bpr": "The other thing changed: LightGCN by BPR, 40 epochs. HTD and IR-RRD had their "
    "best weight of the first table and the next one.",
    "mf/bpr, lightgcn": "Both changed: the student of the first table, from that teacher, with the "
    "weights of the first table.",
    "mf/bpr, bfloat16": 'The first table with `precision="bf16-mixed"`, in which the large '
    "products of HTD and DE run, with its weights.",
}

#: What was aimed at, seconds an epoch.
AIMS = {
    "RRD": 0.6, "IR-RRD": 2.5, "DE, soft": 8.0, "DE, sharp": 2.0, "PHR": 8.0,
    "PHR, hidden 128": 1.0,
}  # fmt: skip
#: How many times the plain student's epoch the authors' takes, on their GPU.
OVERHEAD = {"RRD": 3.5, "IR-RRD": 6.6, "DE": 12.7}


COST_HEADER = ["Row", "Seconds", "authors' code", "ratio", "Peak GB"]


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def section(title: str, text: str, header: list[str], rows: list[list[str]]) -> str:
    return "\n".join([f"## {title}\n", f"{text}\n", table(header, rows), ""])


def machine(result: dict[str, Any]) -> str:
    found = result["machine"]
    return (
        f"{found['cores']} cores of {found['cpu']}, {found['threads']} threads, "
        f"PyTorch {found['torch']}"
    )


def with_deviation(row: dict[str, Any], metric: str) -> str:
    deviation = row[f"{metric} deviation"]
    return f"{row[metric]:.4f}" + ("" if deviation is None else f" ± {deviation:.4f}")


def p_value(row: dict[str, Any], metric: str) -> str:
    test = row.get(f"{metric} against alone")
    if test is None:
        return ""
    sign = "+" if test["difference"] > 0 else "-"
    p = test["adjusted"]
    return f"{sign} {'<1e-6' if p < 1e-6 else f'{p:.1g}'}"


def compare_methods(result: dict[str, Any]) -> str:
    draw_methods(result)
    parts = [
        "## All methods, CiteULike, width 20 from 200\n",
        "`python benchmarks/compare_methods.py`: leave-one-out split, full ranking, means over "
        "seeds with their standard deviation. Every method, the student alone included, had three "
        "settings, and further ones as long as the best was the first or the last, chosen by "
        "validation Recall@50 at the first seed, where nothing else is said. A combination had "
        "those of its parts times 1, 1/2 and 1/4 (HTD + RRD and DE + RCE-KD: times 1 alone). "
        "All of a table had the same number of epochs; an epoch of SoftLabel is one over "
        "users, and it alone has another learning rate and larger first embeddings. "
        "Weight decay was tuned for the student alone only, the methods have 1e-3 (MF) and 0. "
        "*p*: paired t-test per user against the student alone on the same seeds, after Holm's "
        "correction, with the sign of the difference. It tells how far a difference holds for "
        "other users, not for other seeds: by it two seeds of the student alone differ "
        "with p = 0.01 on NDCG@20, so a p above 1e-4 says little. "
        "*Cost*: training time an epoch over that of the student alone, one thread. "
        f"Machine: {machine(result)}, one thread a run.\n",
        f"![Recall@50 of every method, beside its teacher and the student alone]({FIGURE.name})\n",
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
        "Sampled metrics do not keep the order of methods; they are here because the papers "
        "print them. The runs are those of the first tables above: settings and epochs were "
        "chosen for the full ranking, the published ones for this metric. With 200 epochs "
        "the student alone is above its published figure, RRD and DE are within 0.02 of theirs and "
        "IR-RRD is 0.023 below.\n",
        table(header, rows),
        "",
    ]
    return "\n".join(parts)


def draw_methods(result: dict[str, Any]) -> None:
    """Recall@50 of every method between its student and its teacher, a panel for each part."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    worlds = {w: result["worlds"][w]["rows"] for w in WORLDS if w in result["worlds"]}
    worlds = {w: rows for w, rows in worlds.items() if len(rows) > 7}  # a panel for a dot is none
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


def cost_rows(result: dict[str, Any]) -> list[list[str]]:
    rows = []
    for name, row in result["ours"].items():
        theirs = result["authors"].get(name)
        rows.append(
            [
                name,
                f"{row['seconds']:.2f}",
                "" if theirs is None else f"{theirs:g}",
                "" if theirs is None else f"{theirs / row['seconds']:.1f}x",
                f"{row['peak GB']:.2f}",
            ]
        )
    return rows


def training_cost(result: dict[str, Any]) -> str:
    seconds = {name: row["seconds"] for name, row in result["ours"].items()}
    times = {name: value / seconds["student alone"] for name, value in seconds.items()}
    ours = {"RRD": times["RRD"], "IR-RRD": times["IR-RRD"], "DE": times["DE, sharp"]}
    ratios = ", ".join(f"{n} {ours[n]:.1f}x (theirs {x}x)" for n, x in OVERHEAD.items())
    rows = [[*row, f"{AIMS[row[0]]:g}" if row[0] in AIMS else ""] for row in cost_rows(result)]
    return section(
        "Seconds an epoch",
        "`python benchmarks/training_cost.py`: CiteULike, leave-one-out, matrix factorisation "
        "of width 20 from 200, 113 batches of 1024, without evaluation. *Soft* is the first "
        "epoch of an annealed routing, *sharp* its last, *100 epochs* the mean over the whole "
        'schedule; *bfloat16* is `precision="bf16-mixed"`. The authors\' code ran on another '
        f"machine of the same kind. Machine: {machine(result)}.\n\n"
        "PHR multiplies 6 h d_t d_s numbers for every entity of a batch, 1.6e13 in an epoch at the "
        "paper's width and 9e11 at 128: in float32 that is what two cores need the seconds for. "
        f"Over the student alone, whose epoch is cheap here: {ratios}, theirs on their GPU, where "
        "the plain student is slow.",
        [*COST_HEADER, "Aim"],
        rows,
    )


def many_teachers_cost(result: dict[str, Any]) -> str:
    return section(
        "Seconds an epoch of ConCF and HetComp",
        "`python benchmarks/many_teachers_cost.py`: CiteULike; ConCF on users and items of ten "
        "interactions or more (33 batches of 1024), HetComp on users of five or more (78 "
        "batches), students of width 20. The authors' code ran on another machine of the same "
        f"kind. Machine: {machine(result)}.",
        COST_HEADER,
        cost_rows(result),
    )


def concf(result: dict[str, Any]) -> str:
    nodes, names = result["nodes"], list(result["metrics"])
    subset, reference = result["subset"], result.get("reference", False)
    arguments = "--subset " * subset + "--reference " * reference
    arguments += f"--seeds {' '.join(map(str, result['seeds']))} --epochs {result['epochs']}"
    several = len(result["seeds"]) > 1
    over = f"means over seeds {result['seeds']}" if several else f"seed {result['seeds'][0]}"
    spread = " with their standard deviation" * several
    whose = "network and schedule of the authors, " * reference
    decays = ", ".join(f"{value:g} for {name}" for name, value in result["weight decay"].items())
    rows = [
        [name, *(with_deviation(row, metric) for metric in names)]
        for name, row in result["rows"].items()
    ]
    return section(
        f"ConCF, {whose}CiteULike, {nodes['user']:,} users and {nodes['item']:,} items",
        f"`python benchmarks/concf.py {arguments}`: 60/20/20 of every user, full ranking, "
        f"width 64, at most {result['epochs']} epochs, the best validated one; {over} (of split, "
        f"embeddings and batches){spread}. Weight decays, the best of three on the validation "
        f"items of the {'first seed' if subset else 'smaller data below'}: {decays}. "
        f"Machine: {machine(result)}.",
        ["Model", *names],
        rows,
    )


def hetcomp(result: dict[str, Any]) -> str:
    names = ["R@10", "R@50", "N@10", "N@50"]
    rows = [
        [
            row["model"],
            *(with_deviation({f"{m} deviation": None} | row, m) for m in names),
            str(row.get("epochs", "")),
        ]
        for row in result["rows"]
    ]
    return section(
        "HetComp: six teachers in one student, CiteULike",
        f"`python examples/hetcomp.py --seeds {result['seeds']}`: users of five or more, "
        "60/20/20, full ranking, teachers of width "
        f"{result['teacher dim']}, students of width {result['student dim']}; one split and "
        "one run of every teacher, students with their standard deviation over seeds. "
        f"Machine: {result['machine']}.",
        ["Model", *names, "Epochs"],
        rows,
    )


def kernels(result: dict[str, Any]) -> str:
    rows = [[name, f"{value:.2f}"] for name, value in result["ratios"].items()]
    return section(
        "The operations that carry the time",
        f"`python benchmarks/kernels.py`: ratios within one run. Machine: {machine(result)}.",
        ["Ratio", ""],
        rows,
    )


def gowalla(result: dict[str, Any]) -> str:
    rows = [
        [
            row["model"],
            f"{row['width']}",
            f"{row['bytes'] / 1e6:.1f}",
            f"{row['recall@20']:.4f}",
            f"{row['ndcg@20']:.4f}",
            f"{100 * row['gap closed']:.0f} %",
            f"{row['s/epoch']:.1f}",
        ]
        for row in result["rows"]
    ]
    seeds = len(result["recall@20"]["distilled"])
    header = ["Model", "Width", "MB", "Recall@20", "NDCG@20", "Gap closed", "Seconds an epoch"]
    return section(
        "Gowalla, the example",
        f"`{result['command']}`: LightGCN by sampled softmax, FTD and RRD, full ranking, one "
        f"teacher, {seeds} seeds of the students. Machine: {machine(result)}, another process "
        "ran beside it.",
        header,
        rows,
    )


def topology(result: dict[str, Any]) -> str:
    published = {name: f"{value:.4f}" for name, value in result["published"].items()}
    rows = [
        [name, f"{curve[-1]:.4f}", published.get(name, "")]
        for name, curve in result["curves"].items()
    ]
    apart = "".join(
        f" *{name}* was run apart: its teacher reached {run['teacher 200'][-1]:.4f} on "
        f"{machine(run)}."
        for name, run in result.get("run apart", {}).items()
    )
    return section(
        "Topology distillation beside the authors' curves",
        f"`python benchmarks/reproduce_topology.py`: {result['data']}, {result['metric']}, "
        f"after {result['epochs'][-1]} epochs, one seed; *reference* is the variant of their "
        f"code. Machine: {machine(result)}.{apart}",
        ["Model", "here", "authors"],
        rows,
    )


def scale(result: dict[str, Any]) -> str:
    rows = [
        [step, f"{seconds:.0f}", f"{result['peak GB'][step]:.2f}"]
        for step, seconds in result["seconds"].items()
    ]
    return section(
        "A million users",
        f"`python benchmarks/scale.py`: {result['num_users']:,} users, {result['num_items']:,} "
        f"items, {result['num_edges']:,} interactions, lists of {result['ranked_users']:,} "
        f"users extracted. Machine: {machine(result)}.",
        ["Step", "Seconds", "Peak GB so far"],
        rows,
    )


SECTIONS = {
    "compare_methods": compare_methods,
    "gowalla": gowalla,
    "reproduce_topology": topology,
    "hetcomp": hetcomp,
    "concf": concf,
    "concf_subset": concf,
    "concf_reference": concf,
    "concf_reference_subset": concf,
    "training_cost": training_cost,
    "many_teachers_cost": many_teachers_cost,
    "kernels": kernels,
    "scale": scale,
}


def main() -> None:
    parts = ["# Results\n\nWritten by `benchmarks/render.py` from `benchmarks/results/*.json`.\n"]
    for name, render in SECTIONS.items():
        path: Path = RESULTS / f"{name}.json"
        if path.exists():
            parts.append(render(json.loads(path.read_text())))
    PAGE.write_text("\n".join(parts))
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
