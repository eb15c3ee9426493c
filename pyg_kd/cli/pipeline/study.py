"""What ``study`` does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyg_kd.cli.console import note, show_json
from pyg_kd.cli.options.study import Again, Studied, Studying
from pyg_kd.json_files import read_json, write_json
from pyg_kd.study.commands import default_out, portable
from pyg_kd.study.conducting import run_study
from pyg_kd.study.config import read_config
from pyg_kd.study.results import Results
from pyg_kd.study.verifying import results_path, run_summary, verify_study

OK, DIFFERENT = 0, 1


def run_or_verify(studied: Studied, studying: Studying, again: Again) -> int:
    """Run the study, write its report, or run rows of it again: the exit code."""
    config = read_config(studied.file)
    out = default_out(config.name) if studied.out is None else Path(studied.out).expanduser()
    if again.run is not None and again.verify is not None:
        raise ValueError("--run and --verify cannot be given together")
    if again.run is not None or again.verify is not None:
        return _verified(studied, studying, again, out)
    stored = results_path(config, studied.file) if studying.save else None
    if studying.save and stored is None:
        raise ValueError("--save needs a configuration that names its file of 'results'")
    results = Results(out) if studying.report_only else _run(studied, studying, out)
    show_json(_told(results))
    wanted = studying.report or stored is not None
    if wanted and not studying.report_only and not results.finalists():
        note("no run has been tested yet: there is nothing to report")
        return DIFFERENT if results.about.get("failed") else OK
    if studying.report or studying.report_only:
        from pyg_kd.study.report import write_report

        note(f"wrote {write_report(results, results.path, _sections(results))}")
    if stored is not None:
        _save(results, stored, reported=studying.report or studying.report_only)
    return DIFFERENT if results.about.get("failed") else OK


def _sections(results: Results) -> list[Any]:
    """What the report holds besides its tables: an ablation, and what methods cost."""
    from pyg_kd.study.ablation import ablation_sections
    from pyg_kd.study.insight.of_study import costs_section

    metric = results.about.get("metric")
    shown = metric if metric in results.metrics else next(iter(results.metrics), None)
    costs = [
        costs_section(results, dataset, world, shown)
        for dataset in results.datasets
        for world in results.worlds
        if shown is not None and results.finalists(dataset, world, results.baseline)
    ]
    return [*ablation_sections(results), *costs]


def _run(studied: Studied, studying: Studying, out: Path) -> Results:
    results = run_study(
        studied.file,
        out,
        jobs=studying.jobs,
        threads=studying.threads,
        minutes=studying.minutes,
        datasets=studied.datasets,
        worlds=studied.worlds,
        methods=studied.methods,
        seeds=studied.seeds,
        roots=studied.roots,
        progress=studying.progress,
    )
    if missing := results.about["missing"]:
        note(f"{missing} runs are missing: give the command again to go on")
    return results


def _verified(studied: Studied, studying: Studying, again: Again, out: Path) -> int:
    text = str(again.run if again.verify is None else again.verify)
    wanted = int(text) if again.verify is not None and _is_count(text) else text.split(",")
    rows = verify_study(
        studied.file,
        out,
        wanted,
        draw=again.draw,
        threads=studying.threads,
        roots=studied.roots,
        progress=studying.progress,
    )
    show_json(rows[0] if again.run is not None else rows)
    return OK if all(row["same"] for row in rows) else DIFFERENT


def _is_count(text: str) -> bool:
    """Whether a number of rows is meant; a key has sixteen places."""
    return text.isdecimal() and len(text) < 10


def _told(results: Results) -> dict[str, Any]:
    """What is printed: the means of the metrics of every row over its seeds."""
    means: dict[str, list[dict[str, float]]] = {}
    for record in results.finalists():
        means.setdefault("/".join(record.row[:3]), []).append(record.test or {})
    rows = {
        row: {"seeds": len(of), **{n: sum(one[n] for one in of) / len(of) for n in of[0]}}
        for row, of in means.items()
    }
    about = {name: results.about.get(name) for name in ("missing", "failed")}
    return {"study": results.name, "runs": len(results), **about, "rows": rows}


def _save(results: Results, path: Path, *, reported: bool) -> None:
    """Write the summary, that of the report where one was written, and the tested runs."""
    from pyg_kd.study.report import summary

    found = read_json(results.path / "summary.json") if reported else summary(results)
    if found.get("command"):  # what is stored is read on other machines
        found["command"] = portable(found["command"])
    for row in (row for world in found["worlds"] for row in world["rows"].values()):
        row["commands"] = {seed: portable(one) for seed, one in row["commands"].items()}
    runs = {record.key: run_summary(record) for record in results.finalists()}
    write_json(path, {**found, "runs": runs})
    note(f"wrote {path}")
