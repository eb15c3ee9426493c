"""The section of the page of results about the inner loops of training."""

from __future__ import annotations

from typing import Any

from render_parts import machine, section


def inner_loops(result: dict[str, Any]) -> str:
    rows = []
    for name, by_threads in result["rows"].items():
        for threads, row in sorted(by_threads.items()):
            least, greatest = row["ratio, least"], row["ratio, greatest"]
            rows.append(
                [
                    name if row["batches"] is None else f"{name}, {row['batches']} batches",
                    threads,
                    f"{row['before']:.2f}",
                    f"{row['now']:.2f}",
                    f"{row['ratio']:.2f}x ({least:.2f} to {greatest:.2f})",
                    f"{row['wall before'] / row['wall now']:.2f}x",
                    f"{row['difference, first epoch']:.0e}",
                    row["commit"],
                ]
            )
    header = ["Row", "Threads", "Before, s", "After, s", "Ratio", "Wall", "Losses", "Commit"]
    return section(
        "Inner loops, before and after",
        f"`python benchmarks/inner_loops.py --against CHECKOUT`: epochs in commit "
        f"{result['before']} and in the commit of each row, run in turn by two processes. CPU "
        "seconds, the median of the epochs after the first; *ratio* is the median of before over "
        "after, with its range, *wall* the same of the seconds that passed. *Losses* is the "
        "largest relative difference of the first epoch's losses. Lists are drawn otherwise than "
        "then, and with them the number of items over which IR-RRD sums. Other processes shared "
        "the machine and its caches, "
        f"which the range shows. Machine: {machine(result).split(',')[0]}, "
        f"PyTorch {result['machine']['torch']}.",
        header,
        rows,
    )
