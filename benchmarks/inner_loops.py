"""The inner loops of training against those of another commit: CPU seconds, and the same losses.

    python benchmarks/inner_loops.py --against CHECKOUT --rows RRD IR-RRD --threads 1 2

Each row is the epochs of one way to train, run in turn by two processes, of which one imports the
package from CHECKOUT. A ratio is the CPU seconds of an epoch there over those of the same epoch
here; the table shows its median, least and greatest over the epochs, the first one left out. Where
an epoch is long, its first batches stand for it. Losses of an epoch have to agree to ``--rtol``:
what differs more was not the same computation.

Students are matrix factorisations of width 20 on CiteULike's leave-one-out split, in batches of
1024, taught by one of width 200 after one epoch. HetComp has six untrained teachers of width 32 on
users with five interactions or more, LightGCN is of width 64 on Gowalla, by BPR in batches of 2048.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from against import HERE, Checkout, answer, in_turn, peak_memory, steps, version
from report import RESULTS, machine, table, write

import pyg_kd as kd
from pyg_kd.datasets import CiteULike, Gowalla
from pyg_kd.evaluation import evaluate
from pyg_kd.knowledge import TrajectoryRecorder, attach_trajectories, extract_knowledge
from pyg_kd.loader import InteractionLoader
from pyg_kd.models import MF, LightGCN
from pyg_kd.training import Trainer
from pyg_kd.training.run import Run
from pyg_kd.transforms import UserSplit

#: Temperatures of a routing that is sharp from the first epoch on.
SHARP = (1e-8, 1e-10)
OPTIONS: dict[str, Any] = {"batch_size": 1024, "lr": 1e-3, "weight_decay": 1e-3, "seed": 0}

Fit = Callable[[], object]
Found = dict[str, float]


class Row(NamedTuple):
    """A way to train: what :class:`Enough` ends, and how many batches are an epoch."""

    prepare: Callable[[Path], Fit]
    batches: int | None = None


class Enough(Exception):
    """Ends a run of training."""


def trainer(**options: Any) -> Trainer:
    return Trainer(max_epochs=100, progress=False, **{**OPTIONS, **options})


def distilled(*methods: Callable[[], tuple[kd.Distillation, float]]) -> Callable[[Path], Fit]:
    """A student on CiteULike with some methods."""

    def prepare(root: Path) -> Fit:
        train = CiteULike(str(root / "citeulike"), split="leave_one_out")[0]
        distillations = [method() for method in methods]
        torch.manual_seed(0)
        teacher = MF(train, dim=200)
        Trainer(max_epochs=1, progress=False, **OPTIONS).fit(teacher, train)
        needs = {need for method, _ in distillations for need in method.needs}
        items, users = (500 * ("teacher_items" in needs), 20 * ("teacher_users" in needs))
        graph = extract_knowledge(teacher, train, num_items=items, num_users=users)
        student = MF(graph, dim=20)
        return lambda: trainer().fit(student, graph, distillations=distillations)

    return prepare


def ir_rrd(root: Path) -> Fit:
    rrd = kd.RelaxedRankingDistillation()
    both = (rrd, 1e-3), (kd.ItemSideRankingRegularization(ranking=rrd), 5e-4)
    return distilled(*(lambda pair=pair: pair for pair in both))(root)


def hetcomp(root: Path) -> Fit:
    """The first phase, from the teachers' easiest states."""
    train, _, _ = UserSplit(val=0.2, test=0.2, seed=0)(CiteULike(str(root / "citeulike"))[0])
    trajectories = []
    for seed in range(6):
        torch.manual_seed(seed)
        teacher, recorder = MF(train, 32), TrajectoryRecorder(num_states=2)
        recorder(0, teacher, train)
        trajectories.append(recorder.finish(MF(train, 32), train))
    graph, student = attach_trajectories(train, trajectories), MF(train, 20, init_std=0.1)
    distillations, options = [(kd.HetComp(), 1e-2)], {"weight_decay": 0.0, "base_weight": 0.0}
    return lambda: trainer(lr=1e-2, **options).fit(student, graph, distillations=distillations)


def lightgcn(root: Path) -> Fit:
    train = Gowalla(str(root / "gowalla"))[0]
    torch.manual_seed(0)
    model = LightGCN(train, dim=64, num_layers=3)
    return lambda: trainer(batch_size=2048, loss="bpr", weight_decay=0.0).fit(model, train)


def evaluation(root: Path) -> Fit:
    """Full rankings for all users, whose metrics are compared as losses are."""
    train, _, test = CiteULike(str(root / "citeulike"), split="leave_one_out")
    torch.manual_seed(0)
    model = MF(train, dim=20)
    Trainer(max_epochs=1, progress=False, **OPTIONS).fit(model, train)

    def rank(_run: object, _bar: object) -> Found:
        return evaluate(model, train, test)

    def fit() -> None:
        while True:
            measured_epoch(rank)(None, None)

    return fit


ROWS = {
    "student alone": Row(distilled()),
    "RRD": Row(distilled(lambda: (kd.RelaxedRankingDistillation(), 1e-3))),
    "IR-RRD": Row(ir_rrd),
    "FTD": Row(distilled(lambda: (kd.TopologyDistillation(mode="full"), 1e-3))),
    "HTD, soft": Row(distilled(lambda: (kd.TopologyDistillation(), 1e-3)), 20),
    "HTD, sharp": Row(distilled(lambda: (kd.TopologyDistillation(temperature=SHARP), 1e-3)), 60),
    "DE, soft": Row(distilled(lambda: (kd.DistillationExperts(), 1e-2)), 20),
    "DE, sharp": Row(distilled(lambda: (kd.DistillationExperts(temperature=SHARP), 1e-2)), 60),
    "PHR, hidden 128": Row(
        distilled(lambda: (kd.PersonalizedHintRegression(hidden=128), 1e-2)), 20
    ),
    "HetComp, coarse": Row(hetcomp),
    "LightGCN on Gowalla": Row(lightgcn, 40),
    "evaluation": Row(evaluation),
}

#: Epochs are asked for, and told about, through these.
_asked: Iterator[None]


def measured_epoch(epoch: Callable[..., Found]) -> Callable[..., Found]:
    """An epoch, when it is asked for, with its losses and CPU seconds told."""

    def run(*arguments: Any) -> Found:
        if next(_asked, "none") == "none":
            raise Enough
        # Batches are differentiated in threads of their own, all of which count.
        wall, cpu = time.perf_counter(), time.process_time()
        row = epoch(*arguments)
        spent = {"CPU seconds": time.process_time() - cpu, "seconds": time.perf_counter() - wall}
        values = {key: value for key, value in row.items() if key not in ("seconds", "epoch")}
        answer({**spent, "peak GB": peak_memory(), "values": values})
        return row

    return run


def run_row(name: str, root: Path, asked: Iterable[None]) -> None:
    """In a child process: the epochs of a row, one whenever it is asked for."""
    global _asked
    fit, _asked = ROWS[name].prepare(root), iter(asked)
    if (batches := ROWS[name].batches) is not None:
        whole = InteractionLoader.__iter__
        InteractionLoader.__iter__ = lambda self: islice(whole(self), batches)
        InteractionLoader.__len__ = lambda self: batches
    Run.train_epoch = measured_epoch(Run.train_epoch)
    try:
        fit()
    except Enough:
        return


def difference(before: list[dict[str, Any]], now: list[dict[str, Any]]) -> list[float]:
    """The largest relative difference of the values of each epoch."""
    return [
        max(abs(b - now_) / max(abs(b), 1e-30) for b, now_ in paired(old["values"], new["values"]))
        for old, new in zip(before, now, strict=True)
    ]


def paired(before: Found, now: Found) -> Iterator[tuple[float, float]]:
    """Values of the same name; those that only one of the two has are passed over."""
    return ((value, now[key]) for key, value in before.items() if key in now)


def compare(
    name: str, other: Path, root: Path, threads: int, count: int, budget: float
) -> dict[str, Any]:
    """The epochs of a row, in two processes by turns."""
    arguments = ["--step", name, "--root", str(root), "--threads", str(threads)]
    checkouts = [Checkout(path, __file__, arguments) for path in (other, HERE)]
    before, now = in_turn(checkouts, count, budget)
    seconds = {
        when: [row["CPU seconds"] for row in rows[1:]]
        for when, rows in (("before", before), ("now", now))
    }
    ratios = [b / n for b, n in zip(seconds["before"], seconds["now"], strict=True)]
    differences = difference(before, now)
    return {
        **{when: median(values) for when, values in seconds.items()},
        "wall before": median(row["seconds"] for row in before[1:]),
        "wall now": median(row["seconds"] for row in now[1:]),
        "ratio": median(ratios),
        "ratio, least": min(ratios),
        "ratio, greatest": max(ratios),
        "ratio of the fastest": min(seconds["before"]) / min(seconds["now"]),
        "epochs": len(ratios),
        "batches": ROWS[name].batches,
        "difference, first epoch": differences[0],
        "difference, all epochs": max(differences),
        "values": now[0]["values"],
        "peak GB": {"before": before[-1]["peak GB"], "now": now[-1]["peak GB"]},
    }


def show(rows: dict[str, dict[str, dict[str, Any]]]) -> None:
    columns = ("before", "now", "ratio", "ratio, least", "ratio, greatest", "ratio of the fastest")
    checks = ("difference, first epoch", "difference, all epochs")
    lines = [
        [name, threads, *(row[key] for key in (*columns, *checks))]
        for name, by_threads in rows.items()
        for threads, row in by_threads.items()
    ]
    table(["row", "threads", *columns, *checks], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(os.environ.get("PYG_KD_DATA", "data")))
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="compare with that one")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS, metavar="ROW")
    parser.add_argument("--threads", type=int, nargs="+", default=[torch.get_num_threads()])
    parser.add_argument("--epochs", type=int, default=3, help="after the first, at least")
    parser.add_argument("--budget", type=float, default=4.0, help="CPU seconds of a row at least")
    parser.add_argument("--rtol", type=float, default=1e-5, help="of the losses of the first epoch")
    parser.add_argument("--dry", action="store_true", help="leave the stored results alone")
    parser.add_argument("--step", choices=ROWS, help="measure an epoch of a row whenever asked to")
    args = parser.parse_args()
    torch.set_num_threads(args.threads[0])
    if args.step:
        run_row(args.step, args.root, steps(kd))
        return
    if args.against is None:
        parser.error("--against CHECKOUT is needed")
    path = RESULTS / "inner_loops.json"
    before = version(args.against)
    stored = json.loads(path.read_text()) if path.exists() else {}
    rows: dict[str, Any] = stored["rows"] if stored.get("before") == before else {}
    for name in args.rows:
        for threads in args.threads:
            row = compare(name, args.against, args.root, threads, args.epochs, args.budget)
            row["commit"] = version(HERE)
            rows.setdefault(name, {})[str(threads)] = row
            show({name: {str(threads): row}})
        if not args.dry:
            write("inner_loops", {"before": before, "machine": machine(), "rows": rows})
    show({name: rows[name] for name in args.rows})
    wrong = [
        f"{name}: {row['difference, first epoch']:.1e}"
        for name in args.rows
        for row in rows[name].values()
        if row["difference, first epoch"] > args.rtol
    ]
    if wrong:
        raise SystemExit(f"losses differ by more than {args.rtol}: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
