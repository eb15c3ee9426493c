"""The command ``distill``."""

from __future__ import annotations

from pyg_kd.cli.options import Bundle, Data, Machine, Metrics, Output
from pyg_kd.cli.options.distill import Knowledge, Student, Teacher


def distill(
    data: Data,
    teacher: Teacher,
    knowledge: Knowledge,
    student: Student,
    metrics: Metrics,
    machine: Machine,
    bundle: Bundle,
    output: Output,
) -> None:
    """Train a teacher, and a narrow student with what the teacher knows.

    A table then compares the teacher, the student alone, the distilled student and the most
    popular items. The folder --out holds the models, the metrics, all options and what they
    depend on, and in OUT/bundle the student to be served.
    """
    from pyg_kd.cli.pipeline.distill import run_distillation

    run_distillation(data, teacher, knowledge, student, metrics, machine, bundle, output)
