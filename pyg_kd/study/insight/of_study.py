"""What a finished study tells by slices, and what each method costs for what it gains."""

from __future__ import annotations

from statistics import mean, median

import numpy as np

from pyg_kd.evaluation import Groups, PerUser, SliceTable, slice_users
from pyg_kd.evaluation.intervals import t_interval
from pyg_kd.study.records import TEACHER, Record
from pyg_kd.study.report import Section, Table
from pyg_kd.study.report.section import Cell
from pyg_kd.study.results import Results

COSTS = """\
What each method gains over *{baseline}*, and what its training takes: medians over seeds, the
distillation alone, without its teacher's {teacher}. Intervals are over users, each with the mean of
its seeds."""


def study_slices(
    results: Results,
    dataset: str,
    world: str,
    method: str,
    groups: Groups,
    *,
    metric: str,
    reference: str = TEACHER,
    title: str = "group",
) -> SliceTable:
    r"""A metric of a method's tested runs by groups of users, beside another row's.

    Args:
        results: A study.
        dataset: The data set.
        world: The world.
        method: The row.
        groups: Groups of users, numbered as in the study's graph.
        metric: Like ``"ndcg@20"``.
        reference: The row that it is compared with.
        title: What the groups are.

    Raises:
        KeyError: If a row was not tested.
    """
    runs, others = (_runs(results, dataset, world, row) for row in (method, reference))
    return slice_users(runs, groups, reference=others, metric=metric, title=title)


def costs_section(
    results: Results, dataset: str, world: str, metric: str, title: str = "Gain and cost"
) -> Section:
    r"""A section of a report: time and memory of each method against what it gains.

    Args:
        results: A study.
        dataset: The data set.
        world: The world.
        metric: Like ``"ndcg@20"``.
        title: The heading.

    Raises:
        KeyError: If the study's baseline was not tested.
    """
    alone = results.baseline
    base = _per_user(_runs(results, dataset, world, alone), metric)
    spent = _seconds(results.finalists(dataset, world, alone))
    rows: list[list[Cell]] = []
    for method in results.methods:
        records = results.finalists(dataset, world, method)
        if not records or records[0].role == TEACHER:
            continue
        gain = _per_user(_runs(results, dataset, world, method), metric) - base
        ends = None if method == alone else t_interval(gain)
        seconds = _seconds(records)
        rows.append([
            method,
            None if ends is None else float(gain.mean()),
            "" if ends is None else f"{ends[0]:+.4f} to {ends[1]:+.4f}",
            round(seconds, 1),
            f"{seconds / spent:.1f}x" if spent else "",
            round(max(record.peak_bytes for record in records) / 1e6),
            round(mean(record.size_bytes for record in records) / 1e6, 2),
        ])  # fmt: skip
    rows.sort(key=lambda row: -float(row[1] or 0.0))
    header = ["Method", f"Gain in {metric}", "95 % interval", "CPU s", "Of the baseline",
              "Peak memory, MB", "Model, MB"]  # fmt: skip
    taught = _seconds(results.finalists(dataset, world, TEACHER))
    text = COSTS.format(baseline=alone, teacher=f"{taught:,.0f} CPU seconds" if taught else "own")
    return Section(title, text, [Table(header, rows, f"{dataset}, {world}")])


def _runs(results: Results, dataset: str, world: str, method: str) -> list[PerUser]:
    records = results.finalists(dataset, world, method)
    if not records:
        raise KeyError(f"no tested run of {(dataset, world, method)!r} in '{results.path}'")
    return [record.users(results.folder(record)) for record in records]


def _per_user(runs: list[PerUser], metric: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The mean of a metric over seeds, of every user, ``[n]``."""
    found: np.ndarray[tuple[int], np.dtype[np.float64]] = np.mean(
        [run.values[metric].double().numpy() for run in runs], axis=0
    )
    return found


def _seconds(records: list[Record]) -> float:
    return median(record.cpu_seconds for record in records) if records else 0.0
