"""Sections of the page of results about single papers and examples."""

from __future__ import annotations

from typing import Any

from render_parts import machine, section, with_deviation


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
    return section(
        "HetComp: six teachers in one student, CiteULike",
        f"`python examples/hetcomp.py --seeds {result['seeds']}`: users with at least five "
        "interactions, 60/20/20 split, full ranking, teachers of width "
        f"{result['teacher dim']}, students of width {result['student dim']}; one split, one "
        "run of each teacher, and for students means and standard deviations over seeds. "
        f"Machine: {result['machine']}.",
        ["Model", *names, "Epochs"],
        rows,
    ) + fused(result)


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
