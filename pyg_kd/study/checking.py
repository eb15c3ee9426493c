"""A configuration checked before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from math import inf
from pathlib import Path
from typing import Any

from pyg_kd.checks import SEEDS, is_number, require_count
from pyg_kd.knowledge.controls import CONTROLS
from pyg_kd.metrics.ranking_metrics import check_lengths, check_metrics, parse_metric
from pyg_kd.models.spectral import STARTS
from pyg_kd.study.binding import nearest
from pyg_kd.study.building import ALS, is_trained, make_method, make_trainer, model_class
from pyg_kd.study.data import PUBLISHED, check_names, dataset_class, table_path, transform_of
from pyg_kd.study.plan import GRID, OPTUNA, Plan
from pyg_kd.study.recipes import STUDENT_NAMES, TEACHER_NAMES
from pyg_kd.study.schema import Config, Dataset, Row, Student, Teacher
from pyg_kd.study.settings import Setting, applied, flat, is_space, settings_of
from pyg_kd.study.store import Place
from pyg_kd.training.teachers import Name

#: Sizes that no catalogue is smaller than, so that rows can be made before data is read.
SIZES = {"users": 1_000, "items": 1_000}


def check_config(config: Config, roots: Mapping[str, str] | None = None) -> None:
    r"""Raise unless everything that a study names is there, and takes its options.

    Args:
        config: The study.
        roots: Folders of the files of data sets, by their names in the study.

    Raises:
        ValueError: With the place of the mistake.
        FileNotFoundError: If a file is missing.
    """
    parse_metric(config.metric)
    check_metrics(config.test.metrics)
    check_lengths(config.test.k, 10**9)
    require_count(0, extensions=config.budget.extensions)
    if config.budget.search not in (GRID, OPTUNA):
        raise ValueError(f"budget.search must be grid or optuna (got {config.budget.search!r})")
    for name in roots or ():
        _one_of(name, config.datasets, "roots")
    for name in ("seeds", "datasets", "worlds", "teachers"):
        if not getattr(config, name):
            raise ValueError(f"{name!r} must hold one or more (got none)")
    if len(set(config.seeds)) < len(config.seeds):
        raise ValueError(f"'seeds' must differ (got {config.seeds})")
    if not all(seed in SEEDS for seed in config.seeds):
        raise ValueError(f"'seeds' must lie in 0..{SEEDS[-1]} (got {config.seeds})")
    for name, dataset in config.datasets.items():
        check_dataset(dataset, f"datasets.{name}", (roots or {}).get(name))
    for name, teacher in config.teachers.items():
        check_teacher(teacher, f"teachers.{name}")
        for member in teacher.trajectories:
            _one_of(member, config.teachers, f"teachers.{name}.trajectories")
            if config.teachers[member].model is None:
                raise ValueError(f"teachers.{name}: {member!r} is no model, so it has no states")
    for name, world in config.worlds.items():
        _one_of(world.teacher, config.teachers, f"worlds.{name}.teacher")
        for data in world.datasets or ():
            _one_of(data, config.datasets, f"worlds.{name}.datasets")
        check_model(world.student, f"worlds.{name}.student")
        make_trainer(world.student.trainer, f"worlds.{name}.student.trainer")
    plan = Plan(config, dict.fromkeys(config.datasets, SIZES), dict.fromkeys(config.datasets, ""))
    check_rows(plan)
    check_published(plan)


def check_sizes(config: Config, name: str, sizes: Mapping[str, int]) -> None:
    """Raise unless lists of the lengths that are measured can be made of a data set."""
    lengths = {"metric": parse_metric(config.metric)[1], "test.k": max(config.test.k)}
    for option, length in lengths.items():
        if length > sizes["items"]:
            raise ValueError(
                f"{option!r} asks for lists of {length} items, but datasets.{name} has "
                f"{sizes['items']}"
            )


def check_published(plan: Plan) -> None:
    """Raise unless published figures are numbers by metric, of rows or of the rows of worlds."""
    config = plan.config
    known = {world: {*plan.teachers[world], *plan.rows[world]} for world in config.worlds}
    for name, of in config.published.items():
        if name not in known:
            _one_of(name, [*known, *sorted(set().union(*known.values()))], "published")
            _check_figures(of, f"published.{name}")
            continue
        if not isinstance(of, Mapping):
            raise ValueError(f"published.{name} must hold figures by row (got {of!r})")
        for row, figures in of.items():
            _one_of(row, known[name], f"published.{name}")
            _check_figures(figures, f"published.{name}.{row}")


def _check_figures(figures: object, place: str) -> None:
    if not isinstance(figures, Mapping) or not figures or not all(map(is_number, figures.values())):
        told = f"{place} must hold numbers by metric, like recall@20: 0.17"
        raise ValueError(f"{told} (got {figures!r})")
    for name in figures:
        parse_metric(str(name))


def check_dataset(dataset: Dataset, place: str, root: str | None = None) -> None:
    """Raise unless a data set can be read and split."""
    if (dataset.data is None) == (dataset.table is None):
        raise ValueError(f"{place} must name 'data' or a 'table', one of them")
    if dataset.data is not None:
        check_names(dataset_class(dataset.data, place), dataset.options, f"{place}.options")
    elif not table_path(dataset, root).is_file():
        raise FileNotFoundError(f"{place}: there is no file '{table_path(dataset, root)}'")
    for given in dataset.transforms:
        transform_of(given, f"{place}.transforms")
    if dataset.split != PUBLISHED:
        transform_of(dataset.split, f"{place}.split")


def check_teacher(teacher: Teacher, place: str) -> None:
    """Raise unless a teacher can be made."""
    given = [teacher.model, teacher.ensemble, teacher.trajectories or None, teacher.knowledge]
    if sum(kind is not None for kind in given) != 1:
        names = "'model', 'ensemble', 'trajectories' or 'knowledge'"
        raise ValueError(f"{place} must name {names}, one of them")
    require_count(2, num_states=teacher.num_states)
    if teacher.model is not None:
        check_model(Student(teacher.model, teacher.dim, teacher.options, teacher.start), place)
        make_trainer(teacher.trainer, f"{place}.trainer")
    if isinstance(teacher.ensemble, list) or teacher.ensemble not in (None, "auto"):
        members = teacher.ensemble if isinstance(teacher.ensemble, list) else [teacher.ensemble]
        for member in members:
            _one_of(str(member), Name.__args__, f"{place}.ensemble")  # type: ignore[attr-defined]
    if teacher.knowledge is not None and not Path(teacher.knowledge).expanduser().is_file():
        raise FileNotFoundError(f"{place}: there is no file '{teacher.knowledge}'")
    for setting in settings_of(teacher.search, place):
        _check_setting(setting, TEACHER_NAMES, place)
        make_trainer(applied({"trainer": teacher.trainer}, setting)["trainer"], place)


def check_model(student: Student, place: str) -> None:
    """Raise unless a model takes its options."""
    kind = model_class(student.model, place)
    check_names(kind, student.options, f"{place}.options", 0 if student.model == ALS else 1)
    if student.start is not None:
        _one_of(student.start, STARTS, f"{place}.start")
    wide = student.model == ALS or _needs_width(kind)
    if wide and student.dim is None:
        raise ValueError(f"{place}: {student.model} needs a width, 'dim'")
    if student.dim is not None:
        require_count(dim=student.dim)


def check_rows(plan: Plan) -> None:
    """Raise unless every row can be made at each of its settings, and all are tuned alike."""
    config = plan.config
    counts: dict[str, int] = {}
    for place in plan.places():
        row, name = plan.row(place), f"methods.{place[2]}"
        if plan.is_teacher(place):
            raise ValueError(f"{place[2]!r} is the name of a teacher's own row")
        _check_names_of(row, config, name)
        _check_order(plan, place, ())
        for setting in _tried(config, row, name):
            _check_setting(setting, STUDENT_NAMES, name)
            _check_made(plan, place, setting, name)
        if row.like is None and not (config.budget.search == OPTUNA and row.search):
            counts[f"{place[1]}: {place[2]}"] = len(settings_of(row.search, name))
    wanted = config.budget.trials
    if len({*counts.values(), *([wanted] if wanted is not None else [])}) > 1:
        raise ValueError(
            f"all rows must be tuned alike, with 'budget.trials' settings each (got {counts})"
        )
    if config.budget.search == OPTUNA:
        require_count(trials=0 if wanted is None else wanted)
    for world in config.worlds:
        for name in [config.baseline, *(config.against or ())]:
            if plan.rows[world] and name not in plan.rows[world]:
                raise ValueError(f"worlds.{world} has no row {name!r} to compare with")


def _check_made(plan: Plan, place: Place, setting: Setting, name: str) -> None:
    tree = applied(plan.tree(place, lambda _: {}), setting)
    trainer = make_trainer(tree["trainer"], f"{name}.trainer")
    if trainer.evaluate_every > trainer.max_epochs:
        raise ValueError(
            f"{name}.trainer: 'evaluate_every' must be at most 'max_epochs', "
            f"{trainer.max_epochs} (got {trainer.evaluate_every})"
        )
    check_model(Student(tree["class"], tree["dim"], tree["model"], tree["start"]), f"{name}.model")
    for component in tree["components"]:
        make_method(component, name)
        for key, value in (("weight", component["weight"]), ("scale", tree["scale"])):
            if not is_number(value):
                raise ValueError(f"{name}: {key!r} must be a number (got {value!r})")
            if not 0 <= value < inf:
                raise ValueError(f"{name}: {key!r} must be finite and 0 or more (got {value})")
    if not is_trained(tree["class"]) and tree["components"]:
        raise ValueError(f"{name}: {tree['class']} is not trained, so it can't be distilled")


def _tried(config: Config, row: Row, name: str) -> list[Setting]:
    """The settings of a row; of ranges the two ends."""
    if config.budget.search != OPTUNA or not isinstance(row.search, dict):
        return settings_of(row.search, name)
    values = flat(row.search)
    both = [{n: v[e] if is_space(v) else v[0] for n, v in values.items()} for e in ("low", "high")
            if all(is_space(v) or v for v in values.values())]  # fmt: skip
    return both if values else [{}]


def _check_names_of(row: Row, config: Config, place: str) -> None:
    if row.method is not None and row.components:
        raise ValueError(f"{place} must name 'method' or 'components', one of them")
    if row.compress and (row.method is not None or row.components):
        raise ValueError(f"{place} must name 'compress' or a method, one of them")
    if row.like is not None and row.search:
        raise ValueError(f"{place} must have 'like' or 'search', one of them")
    if row.knowledge is not None:
        _one_of(row.knowledge, CONTROLS, f"{place}.knowledge")
    if row.teacher is not None:
        _one_of(row.teacher, config.teachers, f"{place}.teacher")
    for name in [*row.parts, *([row.like] if row.like else [])]:
        _one_of(name, config.methods, place)


def _check_order(plan: Plan, place: Place, above: tuple[Place, ...]) -> None:
    if place in above:
        raise ValueError(f"methods.{place[2]} depends on itself, by 'parts', 'like' or 'self'")
    for other in plan.depends(place):
        if other[2] not in plan.rows[place[1]]:
            raise ValueError(f"methods.{place[2]} needs the row {other[2]!r} in {place[1]!r}")
        _check_order(plan, other, (*above, place))


def _check_setting(setting: Mapping[str, Any], names: tuple[str, ...], place: str) -> None:
    for name in setting:
        _one_of(name.split(".")[0], names, f"{place}.search")


def _needs_width(kind: Any) -> bool:
    parameter = signature(kind).parameters.get("dim")
    return parameter is not None and parameter.default is parameter.empty


def _one_of(name: str, known: Any, place: str) -> None:
    if name not in known:
        raise ValueError(f"{place}: there is no {name!r}{nearest(name, list(known))}")
