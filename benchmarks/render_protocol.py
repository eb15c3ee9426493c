"""The section of the page of results about the protocol of 2025-26."""

from __future__ import annotations

from typing import Any

from render_parts import table, with_deviation

from pyg_kd.study.report.numbers import setting_text, signed_p

SHOWN = {"recall@10": "R@10", "ndcg@10": "N@10", "recall@20": "R@20", "ndcg@20": "N@20"}
ALONE = "student alone"
TITLES = {
    "citeulike_mf": "CiteULike, matrix factorisation",
    "citeulike_lightgcn": "CiteULike, LightGCN",
    "gowalla_mf": "Gowalla, matrix factorisation",
    "gowalla_lightgcn": "Gowalla, LightGCN",
    "yelp_mf": "Yelp, matrix factorisation",
    "yelp_lightgcn": "Yelp, LightGCN",
}
INTRODUCTION = (
    "`pyg-kd study benchmarks/configs/NAME.yaml`, one file for each table: the protocol of RCE-KD "
    "and the papers beside it. The rows were run by the script that these configurations replace, "
    "with the same recipes. Every user's interactions are split 8:1:1 at "
    "random, all unseen items are ranked, students are 20 wide, and teacher and student are of one "
    "kind. Every method, and the student alone too, had {settings} settings at the first seed, of "
    "which validation NDCG@10 chose one; test targets were read once, for the chosen settings. "
    "Means and standard deviations over seeds, of embeddings and batches; the split is the same "
    "for all, its edges hashed. SoftLabel learns as in `compress`, but from the one teacher that "
    "the other methods have.\n\n"
    "*p* is against the student alone, by Holm's method for the methods of a table: *users* of a "
    "paired t-test over users, of means over seeds, *seeds* of a paired t-test over seeds, which "
    "needs three at least; its sign is that of the difference. *CPU* is the median of a run's "
    "seconds on one thread, with its validation; the machine was shared with other programs. "
    "Machine: {machine}.\n"
)


def protocol(result: dict[str, Any], machine: str) -> str:
    """All tables that were run."""
    configs = {name: result["configs"][name] for name in TITLES if name in result["configs"]}
    settings = " or ".join(map(str, sorted({found["settings"] for found in configs.values()})))
    head = INTRODUCTION.format(settings=settings, machine=machine)
    parts = [f"## Protocol of 2025-26\n\n{head}"]
    for name, found in configs.items():
        parts += [f"### {TITLES[name]}\n", f"{about(found)}\n", comparison(found) + "\n"]
        parts += [f"{line}\n" for line in against_others(found["rows"])]
    return "\n".join(parts)


def about(found: dict[str, Any]) -> str:
    """The data, the teacher, the split and what is to be said of it."""
    sizes = ", ".join(f"{count:,} {name}" for name, count in found["sizes"].items())
    note = f" {found['note']}" if found["note"] else ""
    missing = f" Not run: {', '.join(found['not run'])}." if found["not run"] else ""
    return f"{sizes}; split `{found['split sha256'][:12]}`.{note}{missing}"


def comparison(found: dict[str, Any]) -> str:
    """The table of a configuration."""
    published = found["published"]
    header = ["Model", "Setting", *SHOWN.values(), "p users, N@20", "p seeds, N@20", "Seeds"]
    header += ["CPU, s", *(["Published R@20, N@20"] if published else [])]
    rows = []
    for name, row in found["rows"].items():
        test = row.get("against", {}).get(ALONE, {}).get("ndcg@20", {})
        rows.append([
            name,
            setting_text(row["setting"]),
            *(with_deviation(row, metric) for metric in SHOWN),
            *(p_value(test, which) for which in ("p users", "p seeds")),
            str(row["seeds"]),
            f"{row['CPU seconds']:.0f}",
            *([beside(row, published.get(name))] if published else []),
        ])  # fmt: skip
    return table(header, rows)


def p_value(test: dict[str, Any], which: str) -> str:
    return signed_p(test["difference"], test[which]) if which in test else ""


def beside(row: dict[str, Any], published: list[float] | None) -> str:
    """Published figures, and by how much ours differ."""
    if published is None:
        return ""
    pairs = zip(published, (row["recall@20"], row["ndcg@20"]), strict=True)
    return ", ".join(f"{value:.4f} ({100 * (ours / value - 1):+.1f} %)" for value, ours in pairs)


def against_others(rows: dict[str, dict[str, Any]]) -> list[str]:
    """Sentences on tests against rows other than the student alone."""
    lines = []
    for name, row in rows.items():
        for baseline, tests in row.get("against", {}).items():
            if baseline != ALONE and name == "SoftLabel":
                of = {metric: tests[metric] for metric in ("recall@20", "ndcg@20")}
                lines.append(f"{name} minus {baseline}: " + "; ".join(map(difference, of.items())))
    return [f"{line}." for line in lines]


def difference(of: tuple[str, dict[str, Any]]) -> str:
    """A difference with its p-values."""
    metric, test = of
    seeds = f", seeds p {p_value(test, 'p seeds')[2:]}" if "p seeds" in test else ""
    return (
        f"{SHOWN[metric]} {test['difference']:+.4f}, users p {p_value(test, 'p users')[2:]}{seeds}"
    )
