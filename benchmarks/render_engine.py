"""Sections of the page of results about small students and how they are served."""

from __future__ import annotations

from typing import Any

from render_parts import table

from pyg_kd.study.report.numbers import short_p, signed_p

DATA = {
    "citeulike": "CiteULike, leave-one-out",
    "gowalla": "Gowalla, LightGCN split",
    "movielens-100k": "MovieLens-100K, 70/10/20 for every user",
}


def three_lines(result: dict[str, Any], machine: str) -> str:
    """What ``compress`` reaches."""
    parts = [
        "## Three lines\n",
        "`python benchmarks/compress.py DATA`: what `compress(train, val, dim=20)` gives. "
        "Teachers, their weights and the best epoch are chosen on validation targets, and test "
        "targets were read once. The student is a matrix factorisation; where it is a LightGCN of "
        "one layer, its propagated vectors are served, which are as narrow. Means and standard "
        "deviations over seeds, each with teachers and a student of its own. *p* is of a paired "
        "t-test per user, of means over seeds, against the teacher that is best on validation, "
        "after Holm's correction for three precisions; its sign is that of the difference. *over "
        "seeds* is a paired t-test of the means of the seeds, where there are three. Bytes are of "
        "vectors, for each user or item, with the "
        f"scale of the row. Machine: {machine}.\n",
    ]
    for name, found in sorted(result["data"].items()):
        rows = found["rows"]
        seeds = next(iter(rows.values()))["seeds"]
        seconds = rows["student, float32"]["seconds"]
        data, *epochs = name.split(", ")
        title = ", ".join([DATA[data], *epochs])
        parts.append(
            f"### {title}\n\n{seeds} seed{'s' if seeds > 1 else ''}; teachers and student "
            f"took {max(seconds):.0f} seconds of one core at most.{above(rows)}\n"
        )
        lines = [compress_row(label, row) for label, row in rows.items()]
        parts.append(table(COMPRESS, lines) + "\n")
    return "\n".join(parts)


def above(rows: dict[str, dict[str, Any]]) -> str:
    """Which single teachers are above the student on test targets, where any is."""
    student = rows["student, float32"]
    names = [
        f"{name} ({', '.join(TOLD[metric] for metric in SHOWN if row[metric] > student[metric])})"
        for name, row in rows.items()
        if name != "ensemble"
        and not name.startswith("student")
        and any(row[metric] > student[metric] for metric in SHOWN)
    ]
    if not names:
        return ""
    return (
        f" On test targets these are above the student, though *p* is against the teacher that "
        f"validation prefers: {'; '.join(names)}."
    )


COMPRESS = [
    "Model", "Recall@20", "Recall@50", "NDCG@20", "p, R@20", "p, R@50", "p, N@20", "Bytes",
]  # fmt: skip
SHOWN = ("recall@20", "recall@50", "ndcg@20")
TOLD = {"recall@20": "R@20", "recall@50": "R@50", "ndcg@20": "N@20"}


def compress_row(label: str, row: dict[str, Any]) -> list[str]:
    """A line of the table."""
    values = []
    for name in SHOWN:
        deviation = row[f"{name} sd"]
        values.append(f"{row[name]:.4f}" + (f" ± {deviation:.4f}" if deviation else ""))
    tests = [compress_p(row.get("against", {}).get(name)) for name in SHOWN]
    size = f"{row['bytes a row']:.0f}" if "bytes a row" in row else ""
    return [label, *values, *tests, size]


def compress_p(test: dict[str, Any] | None) -> str:
    """The p-value of a test, if there was one."""
    if test is None:
        return ""
    seeds = test.get("p over seeds")
    over = "" if seeds is None else f"; over seeds {short_p(seeds)}"
    return signed_p(test["difference"], test["p"]) + over


def serving(result: dict[str, Any], machine: str) -> str:
    """Search beside other libraries."""
    rivals = [
        "pyg_kd", "product", "implicit", "torch", "recommend", "faiss flat",
        "faiss flat, no mask", "faiss IVF", "faiss HNSW", "hnswlib",
    ]  # fmt: skip
    parts = [
        "## Search\n",
        f"`python benchmarks/serving.py`: lists of {result['k']} items without those that a user "
        "has seen, by random tables of the sizes of CiteULike (5,220 users, 25,182 items) and "
        "Gowalla (29,858 and 40,981). `product` is the bare product of users and items, which "
        "ranks nothing. `torch` is product, mask and top-k in a reused buffer, `recommend` this "
        "package's own for PyTorch models, `faiss flat` searches deeper until enough items are "
        "left, *no mask* gives items that were seen. Recall is against exact lists. Compare "
        "within a row only: *cpu* is processor time on one thread, *wall* the time by a clock "
        f"that other programs disturb. Machine: {machine}.\n",
        "Microseconds a user, in bulk:\n",
    ]
    rows = []
    for name, row in result["bulk"].items():
        times = [
            f"{row['microseconds'][r]:.0f}" if r in row["microseconds"] else "" for r in rivals
        ]
        ratios = [f"{row[key]:.2f}" for key in ("ours / best exact rival", "ours / product")]
        rows.append([_told(name), *times, *ratios])
    parts.append(table(["", *rivals, "to best exact", "to product"], rows) + "\n")
    recalls = next(iter(result["bulk"].values()))["recall"]
    recall = [r for r in rivals if recalls.get(r, 1.0) < 1]
    rows = [
        [_told(name), *(f"{row['recall'][r]:.2f}" if r in row["recall"] else "" for r in recall)]
        for name, row in result["bulk"].items()
    ]
    parts.append("Recall of those that are not exact:\n")
    parts.append(table(["", *recall], rows) + "\n")
    parts.append(
        "One user at a time, milliseconds, the median and in brackets the 99th percentile. "
        "`TopKIndex.search` is the whole of a request, from original ids to original ids:\n"
    )
    single = ["TopKIndex.search", "pyg_kd", *rivals[1:4], *rivals[5:], "hnswlib, bare"]
    rows = []
    for name, row in result["single"].items():
        times = [row["milliseconds"].get(r) for r in single]
        cells = ["" if t is None else f"{t['p50']:.2f} ({t['p99']:.2f})" for t in times]
        rows.append([_told(name), *cells, f"{row['ours / best exact rival']:.2f}"])
    parts.append(table(["", *single, "to best exact"], rows) + "\n")
    parts.append("By size of the catalogue, and by users and edges at 100,000 items:\n")
    rows = []
    for name, row in result["scale"].items():
        ours, product = (row["milliseconds"][r]["p50"] for r in ("pyg_kd", "product"))
        rows.append(
            [name.split(",")[0], f"{ours:.2f}", f"{product:.2f}", f"{row['ours / product']:.2f}"]
        )
    for row in result["growth"].values():
        for size, times in row["milliseconds"].items():
            rows.append([size, f"{times['p50']:.2f}", "", ""])
    parts.append(table(["", "ms, median", "product", "ratio"], rows) + "\n")
    return "\n".join(parts)


def _told(name: str) -> str:
    """The name of a row in words."""
    data, width, threads, clock = name.split(", ")
    count = threads.split()[0]
    data = {"citeulike": "CiteULike", "gowalla": "Gowalla"}[data]
    return f"{data}, {width}, {count} thread{'s' if count != '1' else ''}, {clock}"


def latency(result: dict[str, Any], machine: str) -> str:
    """A teacher and its students, accuracy against bytes and time."""
    settings, spread = result["settings"], result["teacher's propagation, ms"]
    clock = "processor time" if settings["clock"] == "cpu" else "time by the clock"
    rows = [
        [
            name,
            str(row["dim"]),
            row["dtype"],
            f"{row['nbytes'] / 1e6:.2f}",
            f"{row['p50']:.2f}",
            f"{row['p99']:.2f}",
            f"{row['users_per_second']:,.0f}",
            f"{row['recall']:.4f}",
        ]
        for name, row in result["rows"].items()
    ]
    header = ["Model", "Width", "Table", "MB", "p50, ms", "p99, ms", "Users/s in bulk", "Recall@20"]
    return "\n".join([
        "## Latency\n",
        "`python benchmarks/latency.py`: a LightGCN teacher and students by soft labels, CiteULike "
        f"({settings['users']:,} users, {settings['items']:,} items), lists of {settings['k']}, "
        f"{settings['requests']} requests of one user each, end to end, and bulk requests of "
        f"{settings['bulk']} users; {clock}, one thread. The teacher's propagation, which is not "
        f"in the table, takes {spread['fresh']:.0f} ms on a graph that is read for the first time "
        f"and {spread['cached']:.0f} ms after. Machine: {machine}.\n",
        "![Accuracy against bytes and against latency](../benchmarks/results/latency.png)\n",
        table(header, rows) + "\n",
    ])  # fmt: skip


STUDENTS = {
    "als": "MF by alternating least squares",
    "soft_label": "MF by soft labels",
    "lightgcn": "LightGCN by sampled softmax",
    "mult_vae": "Mult-VAE",
}


def fold_in(result: dict[str, Any], machine: str) -> str:
    """New users by their items, beside training again."""
    rows = []
    for name, student in result["students"].items():
        for known, row in student["known"].items():
            test = row["against popularity"]
            rows.append(
                [
                    STUDENTS.get(name, name),
                    known,
                    str(row["seeds"]),
                    *(f"{row[key]:.4f}" for key in ("fold-in", "retrained", "popularity")),
                    f"{row['of retrained']:.0%}",
                    signed_p(test["difference"], test["p_value"]),
                ]
            )
    header = [
        "Student", "Items known", "Seeds", "Folded in", "Trained again", "Popularity",
        "Of trained again", "p to popularity",
    ]  # fmt: skip
    return "\n".join([
        "## New users\n",
        f"`python benchmarks/fold_in.py`: {result['data']} entirely, students of width "
        f"{result['dim']} trained on the others, Recall@20 of what each new user chose besides the "
        "items that are known. *Trained again* is a student trained with those items. How users "
        "are folded in was fitted on the users of training alone, as `save_student` does. "
        f"Machine: {machine}.\n",
        table(header, rows) + "\n",
    ])  # fmt: skip


def bundle(result: dict[str, Any], machine: str) -> str:
    """What a process that serves a bundle costs."""
    rows = []
    for name, row in result["rows"].items():
        size = f"{row['bytes'] / 1e6:.1f}" if "bytes" in row else ""
        load = f"{row['load s']:.3f}" if "load s" in row else ""
        cells = [f"{row['import s']:.2f}", load, f"{row['peak MB']:.0f}", f"{row['own MB']:.0f}"]
        rows.append([name, size, *cells])
    header = ["Process", "MB on disk", "Import, s", "Load, s", "Peak MB", "MB of its own"]
    return "\n".join([
        "## Bundles\n",
        "`python benchmarks/bundle.py`: processes that import the engine and load a bundle, "
        "without PyTorch, each the median of several; tables are random. Mapped files count in "
        f"the peak, but processes share them. Machine: {machine}.\n",
        table(header, rows) + "\n",
    ])  # fmt: skip


def service(result: dict[str, Any], machine: str) -> str:
    """What the service holds."""
    rows = [
        [
            name,
            f"{row['rate']:,.0f}",
            *(f"{row[key]:.1f}" for key in ("p50", "p99", "max", "batch")),
            str(row["failed"]),
            f"{row['worker_us']:.0f}",
            f"{row['ranking_us']:.0f}",
        ]
        for name, row in result["runs"].items()
    ]
    header = [
        "Run", "Requests/s", "p50, ms", "p99, ms", "Longest, ms", "Ranked together", "Failed",
        "µs in workers", "µs in ranking",
    ]  # fmt: skip
    ratios = ", ".join(f"{name}: {value:.1f}" for name, value in result["ratios"].items())
    return "\n".join([
        "## The service\n",
        "`python benchmarks/service.py`: requests over HTTP to a service of CiteULike's size, "
        f"width 64, on two cores that it shares with the client, {result['generator']}. *Closed*: "
        "each "
        "connection sends when it was answered. *Held*: requests arrive by a Poisson process of "
        "that rate. Processor time in workers, and of it in ranking, is for each request; ranking "
        f"is what bounds the rate. Ratios of rates, {ratios}. Machine: {machine}.\n",
        table(header, rows) + "\n",
    ])  # fmt: skip
