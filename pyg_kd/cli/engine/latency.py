"""What ``latency`` does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyg_kd.checks import require_choice
from pyg_kd.cli.console import show_json
from pyg_kd.cli.options.latency import Shown, Timed
from pyg_kd.cli.runs import RECORD
from pyg_kd.retrieval import Table, TopKIndex, load_student
from pyg_kd.retrieval.extras import need
from pyg_kd.retrieval.latency import LatencyReport, measure_latency, plot_tradeoff
from pyg_kd.retrieval.tables import DTYPES

#: Held-out items of each user, ``(ptr, col)``.
Test = tuple[Any, Any]


def run_latency(timed: Timed, shown: Shown) -> None:
    """Time, print, and draw."""
    figure = None if shown.figure is None else Path(shown.figure).expanduser()
    if figure is not None:
        check_figure(figure)
    for dtype in timed.dtypes or ():
        require_choice(DTYPES, dtypes=dtype)
    path = Path(timed.source).expanduser()
    propagation: dict[str, float] | None = None
    test: Test | None = None
    if (path / RECORD).is_file():
        from pyg_kd.cli.pipeline.latency import timed_models

        indexes, teacher, test, propagation = timed_models(path, timed.propagation)
    else:
        indexes, teacher = {"student": load_student(path)}, None
        if timed.teacher is not None:
            teacher = load_student(Path(timed.teacher).expanduser())
    if figure is not None and test is None:
        raise ValueError(
            "'figure' shows recall, which needs the folder of a run with test interactions "
            f"(got '{path}')"
        )
    report = measure_latency(
        with_precisions(indexes, timed.dtypes or []),
        teacher=teacher,
        test=test,
        progress=shown.progress,
        **{name: getattr(timed, name) for name in PLAN},
    )
    show(report, propagation, shown)  # first, for a figure may fail
    if figure is not None:
        plot_tradeoff(report.rows, figure, accuracy=f"Recall@{timed.k}", title=path.name)


def check_figure(path: Path) -> None:
    r"""Look for what would keep a figure from being drawn, before anything is timed.

    Raises:
        ImportError: If Matplotlib is missing.
        ValueError: If it knows no such format, or the path is that of a folder.
    """
    figures = need("matplotlib.figure", "plot", "'figure'")
    known = sorted(figures.Figure().canvas.get_supported_filetypes())
    if path.suffix[1:].lower() not in known:
        raise ValueError(f"'figure' must end in one of .{', .'.join(known)} (got '{path}')")
    if path.is_dir():
        raise ValueError(f"'figure' must be a file (got the folder '{path}')")


#: The options that are passed on.
PLAN = ("k", "batch", "bulk", "requests", "warmup", "exclude_seen", "threads", "seed")


def with_precisions(indexes: dict[str, TopKIndex], dtypes: list[str]) -> dict[str, TopKIndex]:
    """The indexes, and each again at other precisions."""
    found = dict(indexes)
    for name, index in indexes.items():
        for dtype in dtypes:
            if dtype != index.dtype:
                found[f"{name} {dtype}"] = at_precision(index, dtype)
    return found


def at_precision(index: TopKIndex, dtype: str) -> TopKIndex:
    """An index with its tables at another precision."""
    tables = (Table.of(x.block(0, len(x)), dtype) for x in (index.x_user, index.x_item))
    x_user, x_item = tables
    return TopKIndex(
        x_user,
        x_item,
        seen=index.seen,
        user_ids=index.users,
        item_ids=index.items,
        popularity=index.popularity,
    )


def show(report: LatencyReport, propagation: dict[str, float] | None, shown: Shown) -> None:
    """Print the report."""
    if shown.format == "json":
        extra = {} if propagation is None else {"propagation": propagation}
        return show_json(report.to_dict() | extra)
    print(report.to_markdown() if shown.format == "markdown" else report.table())
    if propagation is not None:
        print(
            "teacher: computing its vectors took "
            f"{1e3 * propagation['fresh']:.3g} ms on a graph that is new, "
            f"{1e3 * propagation['cached']:.3g} ms on the same graph again"
        )
