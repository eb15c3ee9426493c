"""Write ``docs/results.md`` and its figure from the JSON files in ``benchmarks/results``.

python benchmarks/render.py
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import render_engine
import render_frontier
import render_protocol
import render_teachers
from render_engine import signed_p, table
from report import RESULTS

PAGE = RESULTS.parents[1] / "docs" / "results.md"
FIGURE = PAGE.with_name("methods.png")

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

#: Targets, in seconds per epoch.
AIMS = {
    "RRD": 0.6, "IR-RRD": 2.5, "DE, soft": 8.0, "DE, sharp": 2.0, "PHR": 8.0,
    "PHR, hidden 128": 1.0,
}  # fmt: skip
#: Cost of an epoch of the authors' code over that of their plain student, on their GPU.
OVERHEAD = {"RRD": 3.5, "IR-RRD": 6.6, "DE": 12.7}


COST_HEADER = ["Row", "Seconds", "Authors' code", "Ratio", "Peak GB"]


def section(title: str, text: str, header: list[str], rows: list[list[str]]) -> str:
    return "\n".join([f"## {title}\n", f"{text}\n", table(header, rows), ""])


def machine(result: dict[str, Any]) -> str:
    found = result["machine"]
    threads = "thread" if found["threads"] == 1 else "threads"
    return (
        f"{found['cores']} cores of {found['cpu']}, {found['threads']} {threads}, "
        f"PyTorch {found['torch']}"
    )


def with_deviation(row: dict[str, Any], metric: str) -> str:
    deviation = row[f"{metric} deviation"]
    return f"{row[metric]:.4f}" + ("" if deviation is None else f" ± {deviation:.4f}")


def p_value(row: dict[str, Any], metric: str) -> str:
    test = row.get(f"{metric} against alone")
    if test is None:
        return ""
    return signed_p(test["difference"], test["adjusted"])


def compare_methods(result: dict[str, Any]) -> str:
    draw_methods(result)
    parts = [
        "## All methods, CiteULike, width 20 from 200\n",
        "`python benchmarks/compare_methods.py`: leave-one-out split, full ranking, means and "
        "standard deviations over seeds.\n",
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


REDRAW = (
    "run before a change in the random draws of the first epoch: a new run draws from the same "
    "distribution, but its numbers differ slightly."
)


def listed(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


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
    ratios = ", ".join(f"{n} {ours[n]:.1f}x (authors {x}x)" for n, x in OVERHEAD.items())
    rows = [[*row, f"{AIMS[row[0]]:g}" if row[0] in AIMS else ""] for row in cost_rows(result)]
    return section(
        "Seconds an epoch",
        "`python benchmarks/training_cost.py`: CiteULike, leave-one-out, matrix factorisation "
        "of width 20 from 200, 113 batches of 1024, without evaluation. *Soft* is the first "
        "epoch of an annealed routing, *sharp* its last, and *100 epochs* the mean over the whole "
        'schedule. *bfloat16* is `precision="bf16-mixed"`. The authors\' code was timed on another '
        "machine of the same kind. *Ratio* is their time over ours, and *target* what we aimed at, "
        f"in seconds. Machine: {machine(result)}.\n\n"
        "PHR takes 6 h d_t d_s multiplications for every entity of a batch: 1.6e13 per epoch at "
        "the paper's width and 9e11 at 128. In float32 they account for its seconds on two cores. "
        f"Relative to the student alone, which is cheap here, methods cost: {ratios}. The authors' "
        "ratios are from their GPU, on which the plain student is slow.",
        [*COST_HEADER, "Target"],
        rows,
    ) + outdated_cost(result["ours"])


def training_cost_against(result: dict[str, Any]) -> str:
    rows = []
    for name, row in result["rows"].items():
        pairs = [(row["before"][key], row["now"][key]) for key in ("first", "CPU seconds")]
        cells = [f"{seconds:.2f}" for pair in pairs for seconds in pair]
        rows.append([name, *cells, f"{pairs[1][1] / pairs[1][0]:.2f}"])
    return section(
        "Seconds an epoch, before and after",
        f"`python benchmarks/training_cost.py --against CHECKOUT`: the rows of the last section in "
        f"commit {result['before']}, before each graph was read and sorted only once, and in "
        f"{result['now']}. Two processes run their epochs in turn. CPU seconds of the fastest "
        "epoch; *first* includes what `fit` does before it. *Ratio* is an epoch after over one "
        f"before. Repeats differ by up to 5 %. Machine: {machine(result)}.",
        ["Row", "First, before", "First, after", "Epoch, before", "Epoch, after", "Ratio"],
        rows,
    )


def bind(result: dict[str, Any]) -> str:
    rows = [
        [
            *(f"{row[size]:,}" for size in ("num_users", "num_items", "num_edges")),
            *(f"{row[when]['CPU seconds']:.2f}" for when in ("before", "now")),
            f"{row['before']['CPU seconds'] / row['now']['CPU seconds']:.1f}x",
            *(f"{row[when]['added GB']:.2f}" for when in ("before", "now")),
        ]
        for row in result["rows"]
    ]
    header = ["Users", "Items", "Interactions", "Before, s", "After, s", "Ratio"]
    repeats = result["repeats"]
    starts = f"the fastest of {repeats} starts after a first one" if repeats else "a first start"
    return section(
        "From `fit` to the first step",
        f"`python benchmarks/bind.py --against CHECKOUT`: HTD and RRD are bound to a graph and "
        "to knowledge that nobody has read yet, and one batch is trained on. CPU seconds of one "
        f"thread, of {starts}, before each graph was read and sorted only once (commit "
        f"{result['before']}) and after ({result['now']}). *Added* is the peak memory beyond that "
        f"of the graph and its knowledge. Machine: {machine(result)}.",
        [*header, "Added GB, before", "Added GB, after"],
        rows,
    )


def bind_growth(result: dict[str, Any]) -> str:
    rows = [
        [f"{row['num_users']:,}", f"{row['num_edges']:,}"]
        + [f"{row['now'][key]:.2f}" for key in ("CPU seconds", "added GB")]
        for row in result["rows"]
    ]
    powers = result["growth"]
    return (
        section(
            "From `fit` to the first step, by size",
            "`python benchmarks/bind.py --grow`: the same at sizes that double. Machine: "
            f"{machine(result)}; other processes were running on it.",
            ["Users", "Interactions", "CPU seconds", "Added GB"],
            rows,
        )
        + "\nFrom the first size to the last, seconds grow with its power "
        f"{powers['CPU seconds']:.2f}, memory with its power {powers['added GB']:.2f}.\n"
    )


def outdated_cost(rows: dict[str, dict[str, Any]]) -> str:
    """That CD costs something else by now, unless its row has been measured since."""
    if "CPU seconds" in rows.get("CD", {"CPU seconds": 0}):
        return ""
    return (
        "\nCD was timed before it drew from exact ranks by default, so its row is the cost of the "
        "earlier, approximate sampler.\n"
    )


def many_teachers_cost(result: dict[str, Any]) -> str:
    return section(
        "Seconds an epoch of ConCF and HetComp",
        "`python benchmarks/many_teachers_cost.py`: CiteULike; ConCF on users and items with at "
        "least ten interactions (33 batches of 1024), HetComp on users with at least five (78 "
        "batches), students of width 20. The authors' code was timed on another machine of the "
        f"same kind. Machine: {machine(result)}.",
        COST_HEADER,
        cost_rows(result),
    )


def concf(result: dict[str, Any]) -> str:
    nodes, names = result["nodes"], list(result["metrics"])
    subset, reference = result["subset"], result.get("reference", False)
    arguments = "--subset " * subset + "--reference " * reference
    arguments += f"--seeds {' '.join(map(str, result['seeds']))} --epochs {result['epochs']}"
    several = len(result["seeds"]) > 1
    seeds = ", ".join(map(str, result["seeds"]))
    over = f"means over seeds {seeds}" if several else f"seed {seeds}"
    spread = " with standard deviations" * several
    whose = "network and schedule of the authors, " * reference
    decays = ", ".join(f"{value:g} for {name}" for name, value in result["weight decay"].items())
    rows = [
        [name, *(with_deviation(row, metric) for metric in names)]
        for name, row in result["rows"].items()
    ]
    return section(
        f"ConCF, {whose}CiteULike, {nodes['user']:,} users and {nodes['item']:,} items",
        f"`python benchmarks/concf.py {arguments}`: 60/20/20 split per user, full ranking, width "
        f"64, at most {result['epochs']} epochs, of which the best by validation counts; {over} "
        f"(of split, embeddings and batches){spread}. Weight decays, the best of three on the "
        f"validation items of the {'first seed' if subset else 'smaller data below'}: {decays}. "
        f"Machine: {machine(result)}.",
        ["Model", *names],
        rows,
    ) + ("" if reference else FLOOR)


#: Below the figures of the default network, which precede the change.
FLOOR = (
    "\nThese figures precede a fix of the floor of the branch weights: they are now at least 0.01, "
    "where rescaling could push them below. Runs in which a weight reaches the floor differ.\n"
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
    return (
        section(
            "HetComp: six teachers in one student, CiteULike",
            f"`python examples/hetcomp.py --seeds {result['seeds']}`: users with at least five "
            "interactions, 60/20/20 split, full ranking, teachers of width "
            f"{result['teacher dim']}, students of width {result['student dim']}; one split, one "
            "run of each teacher, and for students means and standard deviations over seeds. "
            f"Machine: {result['machine']}.",
            ["Model", *names, "Epochs"],
            rows,
        )
        + f"\nThe RRD rows were {REDRAW}\n"
        + fused(result)
    )


def fused(result: dict[str, Any]) -> str:
    """How the students of the fused teachers learn, where there are some."""
    if "weights" not in result:
        return ""
    weights = ", ".join(f"{value:g} for {name}" for name, value in result["weights"].items())
    return (
        "\nRCE-KD and soft labels learn from the last lists of the same six teachers, fused by "
        f"reciprocal ranks with weights chosen on the validation items: {weights}. RCE-KD stands "
        "beside BPR at weight 30; soft labels are all of the loss, as `compress` trains.\n"
    )


def kernels(result: dict[str, Any]) -> str:
    rows = [[name, f"{value:.2f}"] for name, value in result["ratios"].items()]
    return section(
        "The operations that carry the time",
        "`python benchmarks/kernels.py`: ratios of times within one run. "
        f"Machine: {machine(result)}.",
        ["Times", "Ratio"],
        rows,
    )


def gowalla(result: dict[str, Any]) -> str:
    rows = [
        [
            row["model"],
            "" if row["width"] is None else f"{row['width']}",
            f"{row['bytes'] / 1e6:.1f}",
            f"{row['recall@20']:.4f}",
            f"{row['ndcg@20']:.4f}",
            f"{100 * row['gap closed']:.0f} %",
            "" if row["s/epoch"] is None else f"{row['s/epoch']:.1f}",
        ]
        for row in result["rows"]
    ]
    header = ["Model", "Width", "MB", "Recall@20", "NDCG@20", "Gap closed", "Seconds an epoch"]
    return section(
        "Gowalla, the example",
        f"`{result['command']}`: a LightGCN teacher, students alone and by topology and ranking "
        "distillation with sampled softmax, and the best recipe: an ensemble that the teacher is "
        "part of, and a student that learns its lists. All of it took "
        f"{result['minutes']:.0f} minutes. Machine: {machine(result)}.",
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
        f" *{name}* was run separately, on {machine(run)}; its teacher reached "
        f"{run['teacher 200'][-1]:.4f}."
        for name, run in result.get("run apart", {}).items()
    )
    return section(
        "Topology distillation beside the authors' curves",
        f"`python benchmarks/reproduce_topology.py`: {result['data']}, {result['metric']}, "
        f"after {result['epochs'][-1]} epochs, one seed. *Reference* is the variant that follows "
        f"their code. Machine: {machine(result)}.{apart}",
        ["Model", "Ours", "Authors"],
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
        f"items, {result['num_edges']:,} interactions, with lists extracted for "
        f"{result['ranked_users']:,} users. Machine: {machine(result)}.",
        ["Step", "Seconds", "Peak GB so far"],
        rows,
    )


def _with_machine(render: Callable[[dict[str, Any], str], str], result: dict[str, Any]) -> str:
    return render(result, machine(result))


SECTIONS = {
    "compress": partial(_with_machine, render_engine.three_lines),
    "frontier": partial(_with_machine, render_frontier.frontier),
    "teachers": partial(_with_machine, render_teachers.teachers),
    "protocol": partial(_with_machine, render_protocol.protocol),
    "compare_methods": compare_methods,
    "gowalla": gowalla,
    "reproduce_topology": topology,
    "hetcomp": hetcomp,
    "concf": concf,
    "concf_subset": concf,
    "concf_reference": concf,
    "concf_reference_subset": concf,
    "training_cost": training_cost,
    "training_cost_against": training_cost_against,
    "bind": bind,
    "bind_growth": bind_growth,
    "many_teachers_cost": many_teachers_cost,
    "kernels": kernels,
    "scale": scale,
    **{
        name: partial(_with_machine, render)
        for name, render in {
            "serving": render_engine.serving,
            "latency": render_engine.latency,
            "fold_in": render_engine.fold_in,
            "bundle": render_engine.bundle,
            "service": render_engine.service,
        }.items()
    },
}


def main() -> None:
    parts = ["# Results\n\nGenerated by `benchmarks/render.py` from `benchmarks/results/*.json`.\n"]
    for name, render in SECTIONS.items():
        path: Path = RESULTS / f"{name}.json"
        if path.exists():
            parts.append(render(json.loads(path.read_text())))
    PAGE.write_text("\n".join(parts))
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
