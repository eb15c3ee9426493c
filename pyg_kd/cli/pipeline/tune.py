"""What ``tune`` does.

best.yaml      the options of the best trials, as distill --config takes them
tuning.json    all trials, from which the command goes on
trials.csv     the same as a table
report/        what was found, as Markdown and HTML, with figures
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch_geometric.data import HeteroData

from pyg_kd.alignment import aligned
from pyg_kd.checks import require_count, require_positive
from pyg_kd.cli.console import note, warn
from pyg_kd.cli.options import Bundle, Data, Machine, Metrics, Output, flat
from pyg_kd.cli.options.distill import Knowledge, Student, Teacher
from pyg_kd.cli.options.tune import Searched
from pyg_kd.cli.pipeline.checking import check_students
from pyg_kd.cli.pipeline.choices import Choices
from pyg_kd.cli.pipeline.data import options_of, read_graphs, source_file
from pyg_kd.cli.pipeline.distill import ALONE, STUDENT, input_files
from pyg_kd.cli.pipeline.fitting import (
    RENAMED,
    check_wanted,
    make_trainer,
    trainer_options,
    use_threads,
)
from pyg_kd.cli.pipeline.methods import Method, as_config
from pyg_kd.cli.pipeline.models import make_model
from pyg_kd.cli.pipeline.stages import Stages
from pyg_kd.cli.runs import COMPLETE, RECORD, RUNNING, TRIALS, Run, begin, deciding, yaml
from pyg_kd.files import atomic_write
from pyg_kd.models import Recommender
from pyg_kd.retrieval.extras import need
from pyg_kd.study.tuning import Tuning, tune
from pyg_kd.study.tuning.figure import edge_warning

BEST, TABLE, REPORT = "best.yaml", "trials.csv", "report"


def run_tuning(
    data: Data,
    teacher: Teacher,
    knowledge: Knowledge,
    student: Student,
    searched: Searched,
    metrics: Metrics,
    machine: Machine,
    bundle: Bundle,
    output: Output,
) -> None:
    """Train the teacher, tune the students, and write what was found."""
    need("optuna", "study", "tune")
    check_wanted(metrics, student.metric)
    require_positive(minutes=searched.minutes)
    if searched.trials is not None:
        require_count(trials=searched.trials)
    source, choices = source_file(data.interactions), Choices.checked(teacher, knowledge, student)
    data = Data(**options_of(data))
    inputs = input_files(source, choices, output)
    given = flat(data, *choices[:3], metrics, machine, bundle)
    machine = use_threads(machine)
    reopen(Run(Path(output.out).expanduser()), given, output.overwrite)
    with begin(output.out, "tune", given, inputs, output.overwrite) as run:
        graphs = read_graphs(data)
        if graphs.val is None:
            raise ValueError("tune needs interactions to validate on: give --val, or more of them")
        note(graphs.described)
        run.update(data=graphs.sizes, fingerprints=graphs.fingerprints)
        stages = Stages(run, choices.filled(graphs), graphs, machine)
        check_students(stages, served=bundle.bundle)
        check_validated(stages)
        run.write_config(flat(data, *stages.choices[:3], metrics, machine, bundle))
        found = tuned(stages, searched)
        if not found[STUDENT].complete:
            raise RuntimeError("training diverged in all trials: give a lower --lr")
        best = chosen(stages.choices, found)
        write_found(run, found, flat(data, *best[:3], metrics, machine, bundle))
        report(found)
        if any(tuning.interrupted for tuning in found.values()):
            raise KeyboardInterrupt
    note(f"train it: pyg-kd distill --config {run.path / BEST} --out FOLDER")


def reopen(run: Run, given: Mapping[str, Any], overwrite: bool) -> None:
    """Let a complete search of the same options go on, with more minutes."""
    if overwrite or not (run.path / RECORD).is_file():
        return
    record = run.record
    same = deciding(record.get("options", {})) == deciding(json.loads(json.dumps(dict(given))))
    if record.get("command") == "tune" and same and record.get("state") == COMPLETE:
        run.update(state=RUNNING)


def tuned(stages: Stages, searched: Searched) -> dict[str, Tuning]:
    """The searches, that of the student first; after an interruption no other begins."""
    student = stages.choices.student
    graph = stages.knowledge(stages.teacher())
    training, pairs = trainer_options(student), stages.pairs()
    found = {STUDENT: _search(stages, searched, STUDENT, graph, training, pairs)}
    if student.baseline and not found[STUDENT].interrupted:
        train, training = stages.graphs.train, stages.alone_training
        found[ALONE] = _search(stages, searched, ALONE, train, training, [])
    return found


def check_validated(stages: Stages) -> None:
    """Raise ``ValueError`` if a training would end before it is first validated."""
    student = stages.choices.student
    trainings = {"epochs": trainer_options(student)}
    if student.baseline:
        trainings["baseline_epochs"] = stages.alone_training
    for name, training in trainings.items():
        trainer = make_trainer(training, stages.machine)
        if trainer.evaluate_every > trainer.max_epochs:
            raise ValueError(
                f"'evaluate_every' must be at most '{name}', {trainer.max_epochs}, or nothing is "
                f"validated (got {trainer.evaluate_every})"
            )


def _search(
    stages: Stages,
    searched: Searched,
    name: str,
    graph: HeteroData,
    training: Mapping[str, Any],
    methods: list[Any],
) -> Tuning:
    machine, val = stages.machine, stages.graphs.val
    assert val is not None
    options = {RENAMED.get(key, key): value for key, value in training.items() if key != "metric"}
    return tune(
        partial(_student, stages),
        graph,
        val,
        distillations=methods,
        trainer=options | {"accelerator": machine.device},
        metric=stages.choices.student.metric,
        minutes=searched.minutes,
        trials=searched.trials,
        storage=stages.run.path / TRIALS,
        name=name,
        seed=machine.seed,
        progress=machine.progress,
    )


def _student(stages: Stages, graph: HeteroData) -> Recommender:
    student = stages.choices.student
    options, seed = student.student_options, stages.machine.seed
    return make_model(str(student.student), graph, student.dim, options, seed)


def chosen(choices: Choices, found: Mapping[str, Tuning]) -> Choices:
    """The choices with the best settings, those of the student alone as well."""
    best = found[STUDENT].best.setting
    methods = [_with(method, name, best) for name, method in _named(choices.methods)]
    student = replace(choices.student, lr=best["lr"], weight_decay=best["weight_decay"])
    if ALONE in found and found[ALONE].complete:
        alone = {**(student.baseline_training or {}), **found[ALONE].best.setting}
        student = replace(student, baseline_training=alone)
    knowledge = replace(choices.knowledge, methods=as_config(methods))
    return choices._replace(knowledge=knowledge, student=student)


def _with(method: Method, name: str, best: Mapping[str, Any]) -> Method:
    mine = {k.partition(".")[2]: v for k, v in best.items() if k.startswith(f"{name}.")}
    weight = mine.pop("weight", method.weight)
    return method._replace(weight=weight, options={**method.options, **mine})


def _named(methods: list[Method]) -> list[tuple[str, Method]]:
    """Methods by the names of their settings: the second of a class is counted."""
    names = [method.name for method in methods]
    counts = [names[: place + 1].count(name) for place, name in enumerate(names)]
    told = [n if count == 1 else f"{n} {count}" for n, count in zip(names, counts, strict=True)]
    return list(zip(told, methods, strict=True))


def write_found(run: Run, found: Mapping[str, Tuning], options: Mapping[str, Any]) -> None:
    """Write the best options, the trials and the page."""
    with atomic_write(run.path / BEST) as temporary:
        text = yaml.safe_dump(dict(options), sort_keys=False, allow_unicode=True)
        temporary.write_text(text, encoding="utf-8")
    rows = [row for name, tuning in found.items() for row in _rows(name, tuning)]
    names = list(dict.fromkeys(name for row in rows for name in row))
    with atomic_write(run.path / TABLE) as temporary:
        _write_table(temporary, names, rows)
    _write_report(run, found)
    run.write_metrics({name: _summary(tuning) for name, tuning in found.items()})


def _write_table(path: Path, names: list[str], rows: list[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


def _write_report(run: Run, found: Mapping[str, Tuning]) -> None:
    """The report, if its figures can be drawn."""
    from pyg_kd.study.report import write_section
    from pyg_kd.study.tuning import tuning_section

    whole = {name: tuning for name, tuning in found.items() if tuning.complete}
    try:
        write_section(tuning_section(whole), run.path / REPORT)
    except ImportError as error:
        warn(f"no report: {error}")


def _rows(name: str, tuning: Tuning) -> list[dict[str, Any]]:
    return [
        {
            "model": name,
            "trial": trial.number,
            "state": trial.state,
            tuning.metric: trial.value,
            "seconds": round(trial.seconds, 3),
            **{key: _plain(value) for key, value in trial.setting.items()},
        }
        for trial in tuning.trials
    ]


def _summary(tuning: Tuning) -> dict[str, Any]:
    return {
        "metric": tuning.metric,
        "trials": len(tuning.trials),
        "recipe": tuning.default.value if tuning.default else None,
        "best": tuning.best.value if tuning.complete else None,
        "setting": tuning.best.setting if tuning.complete else None,
        "edges": tuning.edges,
    }


def report(found: Mapping[str, Tuning]) -> None:
    """Print what was found, and say what to doubt."""
    metric, alone = found[STUDENT].metric, found.get(ALONE)
    rows = [["", f"{metric}, recipe", f"{metric}, best", "trials", "setting"]]
    for name, tuning in found.items():
        if not tuning.complete:
            warn(f"{name}: no trial was trained to its end")
            continue
        default, best = tuning.default, tuning.best
        setting = ", ".join(f"{key}={_plain(value)}" for key, value in best.setting.items())
        recipe = "-" if default is None else f"{default.value:.4f}"
        rows.append([name, recipe, f"{tuning.best_value:.4f}", str(len(tuning.trials)), setting])
        if (message := edge_warning(name, tuning)) is not None:
            warn(message)
    print(aligned(rows), flush=True)
    if alone is not None and alone.complete and alone.best_value >= found[STUDENT].best_value:
        warn(
            "the student alone, tuned as long, is no worse on the validation interactions: try "
            "other methods, or a better teacher"
        )


def _plain(value: Any) -> str:
    return ", ".join(f"{v:g}" for v in value) if isinstance(value, list) else f"{value:g}"
