"""Sections of the page of results about what training takes."""

from __future__ import annotations

from typing import Any

from render_parts import machine, section

#: Targets, in seconds per epoch.
AIMS = {
    "RRD": 0.6, "IR-RRD": 2.5, "DE, soft": 8.0, "DE, sharp": 2.0, "PHR": 8.0,
    "PHR, hidden 128": 1.0,
}  # fmt: skip
#: Cost of an epoch of the authors' code over that of their plain student, on their GPU.
OVERHEAD = {"RRD": 3.5, "IR-RRD": 6.6, "DE": 12.7}


COST_HEADER = ["Row", "Seconds", "Authors' code, another machine", "Peak GB"]


def cost_rows(result: dict[str, Any]) -> list[list[str]]:
    rows = []
    for name, row in result["ours"].items():
        theirs = result["authors"].get(name)
        rows.append(
            [
                name,
                f"{row['seconds']:.2f}",
                "" if theirs is None else f"{theirs:g}",
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
        "machine of the same kind, at another time: a ratio of the two columns says little. "
        f"*Target* is what we aimed at, in seconds. Machine: {machine(result)}.\n\n"
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
        f"same kind, at another time: a ratio of the two columns says little. Machine: "
        f"{machine(result)}.",
        COST_HEADER,
        cost_rows(result),
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


def scale(result: dict[str, Any]) -> str:
    rows = []
    for stage, found in result["stages"].items():
        for row in found["rows"]:
            last = row is found["rows"][-1]
            rows.append([
                stage,
                f"{row['edges'] / 1e6:.1f} M",
                f"{row['CPU seconds']:.1f}",
                f"{row['peak GB']:.1f}",
                f"{found['exponent']:.2f}" if last and found["exponent"] is not None else "",
            ])  # fmt: skip
    return section(
        "Growing graphs",
        "`python benchmarks/scale.py`: a graph of E edges has E / 20 users and E / 200 items, one "
        "user with half of the catalogue and one item with half of the users. An epoch is of a "
        f"matrix factorisation of width 20, in batches of {result['batch']:,} interactions or, for "
        "SoftLabel, 256 users; of long epochs the first batches are run. Extraction and evaluation "
        f"are for {result['ranked users']:,} users, for whom time grows with the catalogue. "
        "Exponents are of processor seconds against edges, measured while other processes shared "
        "the machine and its caches. What a piece costs, and what follows for 100 million users: "
        f"[scale](scale.md). Machine: {machine(result)}.",
        ["Stage", "Edges", "Processor seconds", "Peak GB", "Exponent"],
        rows,
    )
