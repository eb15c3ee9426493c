"""What ``distill`` does."""

from __future__ import annotations

from pathlib import Path

from pyg_kd.cli.console import note, warn
from pyg_kd.cli.options import Bundle, Data, Machine, Metrics, Output, flat
from pyg_kd.cli.options.distill import Knowledge, Student, Teacher
from pyg_kd.cli.pipeline.bundles import save_bundle, write_titles
from pyg_kd.cli.pipeline.checking import check_students
from pyg_kd.cli.pipeline.choices import Choices, list_files
from pyg_kd.cli.pipeline.comparison import Comparison
from pyg_kd.cli.pipeline.data import options_of, read_graphs, source_file
from pyg_kd.cli.pipeline.fitting import check_wanted, use_threads
from pyg_kd.cli.pipeline.methods import own_files
from pyg_kd.cli.pipeline.stages import Stages, popular
from pyg_kd.cli.runs import Run, begin
from pyg_kd.models import Recommender

#: The rows of the comparison.
TEACHER, ALONE, STUDENT, POPULAR = "teacher", "student alone", "student", "most popular"


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
    source, choices = source_file(data.interactions), Choices.checked(teacher, knowledge, student)
    data = Data(**options_of(data))
    inputs = input_files(source, choices, output)
    given = flat(data, *choices[:3], metrics, machine, bundle)
    machine = use_threads(machine)
    with begin(output.out, "distill", given, inputs, output.overwrite) as run:
        graphs = read_graphs(data)
        note(graphs.described)
        run.update(data=graphs.sizes, fingerprints=graphs.fingerprints)
        stages = Stages(run, choices.filled(graphs), graphs, machine)
        check_students(stages, served=bundle.bundle)
        run.write_config(flat(data, *stages.choices[:3], metrics, machine, bundle))
        compared = Comparison(graphs, metrics, stages.choices.student.metric, machine.progress)
        distil(stages, compared, bundle)
        run.write_metrics(compared.result)
    for message in compared.doubts():
        warn(message)
    print(compared.table(), flush=True)


def input_files(source: Path | None, choices: Choices, output: Output) -> list[Path]:
    r"""The files that a student is made of: interactions, a saved teacher, lists, own methods.

    Raises:
        ValueError: If the run would be written over its teacher.
    """
    inputs = [] if source is None else [source]
    if choices.saved is not None:
        path = choices.saved.run.path
        if path.resolve() == Path(output.out).expanduser().resolve():
            raise ValueError(f"'out' must not be the teacher's folder (got '{path}')")
        inputs.append(choices.saved.state)
    methods = choices.methods if choices.knowledge.methods else []  # a recipe's are the package's
    return inputs + list_files(choices.teacher.teacher) + own_files(methods)


def distil(stages: Stages, compared: Comparison, bundle: Bundle) -> None:
    """Train all models, measure them, and write what is served."""
    compared.add(POPULAR, popular(stages.graphs.train))
    teacher = stages.teacher()
    compared.add(TEACHER, teacher, stages.size(teacher))
    if stages.choices.student.baseline:
        compared.add(ALONE, stages.alone())
    student = stages.student(teacher)
    compared.add(STUDENT, student)
    if bundle.bundle:
        if bundle.refit:
            teacher, student = stages.again()
            stages = stages._replace(graphs=stages.graphs.whole)
        write_bundles(stages, student, teacher, compared, bundle)


def write_bundles(
    stages: Stages,
    student: Recommender,
    teacher: Recommender,
    compared: Comparison,
    bundle: Bundle,
) -> None:
    """The student to be served, and the teacher to be shown beside it."""
    run: Run = stages.run
    index = save_bundle(
        student,
        run.path / "bundle",
        stages.graphs,
        dtype=bundle.dtype,
        metrics=compared.noted(STUDENT),
        teacher=teacher,
        seed=stages.machine.seed,
    )
    note(f"wrote {run.path / 'bundle'}: {index.nbytes:,} bytes of vectors")
    shown = None
    if stages.choices.teacher.teacher_bundle:
        shown = stages.shown(teacher, again=bundle.refit)
    if shown is not None:
        # What was measured is the ensemble, of which its factorisation is a part.
        noted = compared.noted(TEACHER) if shown is teacher else {}
        path = run.path / "teacher"
        save_bundle(shown, path, stages.graphs, dtype="float32", metrics=noted, fold_in=False)
    write_titles(stages.graphs, run.path / "titles.csv")
