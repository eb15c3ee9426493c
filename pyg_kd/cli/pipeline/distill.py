"""What ``distill`` does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch_geometric.data import HeteroData

from pyg_kd.cli.console import note, warn
from pyg_kd.cli.distill import Knowledge, Student, Teacher
from pyg_kd.cli.options import Bundle, Data, Machine, Metrics, Output, flat
from pyg_kd.cli.pipeline import recipes
from pyg_kd.cli.pipeline.bundles import save_bundle, write_titles
from pyg_kd.cli.pipeline.comparison import Comparison
from pyg_kd.cli.pipeline.data import Graphs, options_of, read_graphs, source_file
from pyg_kd.cli.pipeline.fitting import check_wanted, fit, metric_for, trainer_options, use_threads
from pyg_kd.cli.pipeline.methods import Method, as_config, parse_methods
from pyg_kd.cli.pipeline.models import CLASSES, make_model
from pyg_kd.cli.pipeline.saved import SavedRun
from pyg_kd.cli.runs import Run, begin
from pyg_kd.graph import interactions
from pyg_kd.knowledge import extract_knowledge
from pyg_kd.models import Recommender

#: The rows of the comparison.
TEACHER, ALONE, STUDENT, POPULAR = "teacher", "student alone", "student", "most popular"

#: Users that each item's list of the teacher holds, for methods that need such lists.
NUM_USERS = 200


def run_distillation(
    data: Data,
    teacher: Teacher,
    knowledge: Knowledge,
    student: Student,
    metrics: Metrics,
    machine: Machine,
    bundle: Bundle,
    output: Output,
) -> None:
    """Train the teacher and the students, compare them, and write the run."""
    check_wanted(metrics, student.metric)
    source, saved = source_file(data.interactions), saved_teacher(teacher)
    data = Data(**options_of(data))
    if saved is not None:
        path = saved.run.path.resolve()
        if path == Path(output.out).expanduser().resolve():
            raise ValueError(f"'out' must not be the teacher's folder (got '{path}')")
        teacher = replace(teacher, teacher=str(path))
    if knowledge.methods is not None:
        parse_methods(knowledge.methods)  # mistakes first
    given = flat(data, teacher, knowledge, student, metrics, machine, bundle)
    machine = use_threads(machine)
    inputs = [*([] if source is None else [source]), *([] if saved is None else [saved.state])]
    with begin(output.out, "distill", given, inputs, output.overwrite) as run:
        graphs = read_graphs(data)
        note(graphs.described)
        run.update(data=graphs.sizes, fingerprints=graphs.fingerprints)
        teacher, student, knowledge, methods = resolved(saved, teacher, knowledge, student, graphs)
        run.write_config(flat(data, teacher, knowledge, student, metrics, machine, bundle))
        compared = Comparison(graphs, metrics, student.metric, machine.progress)
        compared.add(POPULAR, popular(graphs.train))
        model = train_teacher(run, teacher, saved, graphs, student.metric, machine)
        compared.add(TEACHER, model)
        if student.baseline:
            compared.add(ALONE, train_alone(run, student, graphs, machine))
        graph = with_knowledge(model, graphs, knowledge, methods, machine)
        distilled = train_student(run, student, graph, graphs.val, methods, machine)
        compared.add(STUDENT, distilled)
        if bundle.bundle:
            options = bundle, teacher, machine
            write_bundles(run, distilled, model, graphs, compared, options)
        run.write_metrics(compared.result)
    for message in compared.doubts():
        warn(message)
    print(compared.table(), flush=True)


def saved_teacher(teacher: Teacher) -> SavedRun | None:
    r"""The run that ``--teacher`` names, or :obj:`None` if it names a model.

    Raises:
        ValueError: If it is neither.
    """
    if Path(teacher.teacher).expanduser().is_dir():
        return SavedRun.open(Path(teacher.teacher).expanduser())
    if teacher.teacher not in CLASSES:
        raise ValueError(
            f"'teacher' must be a run or one of {', '.join(CLASSES)} (got {teacher.teacher!r})"
        )
    return None


def resolved(
    saved: SavedRun | None,
    teacher: Teacher,
    knowledge: Knowledge,
    student: Student,
    graphs: Graphs,
) -> tuple[Teacher, Student, Knowledge, list[Method]]:
    """The options with what was left open."""
    sizes, num_edges = graphs.sizes, graphs.sizes["interactions"]
    width = recipes.teacher_dim(num_edges) if teacher.teacher_dim is None else teacher.teacher_dim
    if saved is None:
        recipe = recipes.training(teacher.teacher, sizes)
        epochs = recipe.get("epochs") if teacher.teacher_epochs is None else teacher.teacher_epochs
        teacher = replace(teacher, teacher_dim=width, teacher_epochs=epochs)
    elif saved.dim is not None:
        width = saved.dim
    asked = recipes.methods(sizes) if knowledge.methods is None else knowledge.methods
    methods = parse_methods(asked)
    student = resolved_student(student, methods, width, graphs)
    methods = [with_own_items(method, student) for method in methods]
    length = recipes.num_items(sizes) if knowledge.num_items is None else knowledge.num_items
    length = min(length, sizes["items"])
    knowledge = replace(knowledge, methods=as_config(methods), num_items=length)
    return teacher, student, knowledge, methods


def resolved_student(
    student: Student, methods: list[Method], width: int, graphs: Graphs
) -> Student:
    """The student's options with what was left open."""
    names = [method.name for method in methods]
    recipe = recipes.distillation(names, student.student, graphs.sizes)
    missing = {k: v for k, v in recipe.items() if getattr(student, k) is None}
    changed: dict[str, Any] = {
        "metric": metric_for(student.metric, graphs.sizes["items"]),
        **missing,
    }
    if student.baseline_epochs is None:
        alone = recipes.training(student.student, graphs.sizes)
        same = missing.get("base_weight", student.base_weight) != 0
        epochs = missing.get("epochs", student.epochs)
        changed["baseline_epochs"] = epochs if same else alone.get("epochs")
    if student.dim is None:
        changed["dim"] = recipes.student_dim(width)
    if "SoftLabel" in names and student.student == "mf":
        # A loss over the whole catalogue learns from larger embeddings than BPR does.
        changed["student_options"] = {"init_std": 0.1} | (student.student_options or {})
    return replace(student, **changed)


def with_own_items(method: Method, student: Student) -> Method:
    """Soft labels that raise a user's own items, where no base loss does."""
    if method.name != "SoftLabel" or student.base_weight != 0.0:
        return method
    return method._replace(options={"own_weight": 0.5} | method.options)


def train_teacher(
    run: Run,
    teacher: Teacher,
    saved: SavedRun | None,
    graphs: Graphs,
    metric: str,
    machine: Machine,
) -> Recommender:
    """The teacher, read or trained."""
    if saved is not None:
        return saved.model_for(graphs)
    model = make_model(
        teacher.teacher, graphs.train, teacher.teacher_dim, teacher.teacher_options, machine.seed
    )
    options = recipes.training(teacher.teacher, graphs.sizes)
    options |= {"metric": metric, "epochs": teacher.teacher_epochs}
    fit(run, "teacher", model, graphs.train, graphs.val, options, machine)
    return model


def train_alone(run: Run, student: Student, graphs: Graphs, machine: Machine) -> Recommender:
    """The student without a teacher."""
    model = make_model(
        student.student, graphs.train, student.dim, student.student_options, machine.seed
    )
    options = trainer_options(student)
    if student.base_weight == 0:  # without a teacher, these options would train nothing
        kept = {"metric": student.metric, "patience": student.patience}
        options = recipes.training(student.student, graphs.sizes) | kept
    options |= {"epochs": student.baseline_epochs}
    fit(run, "alone", model, graphs.train, graphs.val, options, machine)
    return model


def with_knowledge(
    teacher: Recommender,
    graphs: Graphs,
    knowledge: Knowledge,
    methods: list[Method],
    machine: Machine,
) -> HeteroData:
    """The training graph with what the methods need of the teacher."""
    needs = {need for method in methods for need in method.make().needs}
    num_users = min(NUM_USERS, graphs.sizes["users"]) if "teacher_users" in needs else 0
    return extract_knowledge(
        teacher,
        graphs.train,
        num_items=knowledge.num_items,
        num_users=num_users,
        progress=machine.progress,
        val_data=graphs.val if knowledge.num_items else None,
    )


def train_student(
    run: Run,
    student: Student,
    graph: HeteroData,
    val: HeteroData | None,
    methods: list[Method],
    machine: Machine,
) -> Recommender:
    """The distilled student."""
    model = make_model(student.student, graph, student.dim, student.student_options, machine.seed)
    pairs = [(method.make(), method.weight) for method in methods]
    fit(run, "student", model, graph, val, trainer_options(student), machine, pairs)
    return model


def write_bundles(
    run: Run,
    student: Recommender,
    teacher: Recommender,
    graphs: Graphs,
    compared: Comparison,
    options: tuple[Bundle, Teacher, Machine],
) -> None:
    """The student to be served, and the teacher to be shown beside it."""
    bundle, of_teacher, machine = options
    index = save_bundle(
        student,
        run.path / "bundle",
        graphs,
        dtype=bundle.dtype,
        metrics=compared.noted(STUDENT),
        teacher=teacher,
        seed=machine.seed,
    )
    note(f"wrote {run.path / 'bundle'}: {index.nbytes:,} bytes of vectors")
    if of_teacher.teacher_bundle and teacher.inner_product:
        path, noted = run.path / "teacher", compared.noted(TEACHER)
        save_bundle(teacher, path, graphs, dtype="float32", metrics=noted, fold_in=False)
    write_titles(graphs, run.path / "titles.csv")


def popular(train: HeteroData) -> Recommender:
    """A model whose scores are the popularity of items."""
    edges = interactions(train)
    degree = edges.by_item().degree.float().unsqueeze(1)
    return Recommender.from_embeddings(train, torch.ones(edges.num_users, 1), degree)
