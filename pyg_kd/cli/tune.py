"""The command ``tune``."""

from __future__ import annotations

from pyg_kd.cli.options import Bundle, Data, Machine, Metrics, Output
from pyg_kd.cli.options.distill import Knowledge, Student, Teacher
from pyg_kd.cli.options.tune import Searched


def tune(
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
    """Tune a student for your interactions, in so many minutes.

    Searches the learning rate, the weight decay, and weights and temperatures of the methods, on
    the validation interactions; the test interactions are not read. What is not searched is as
    distill has it, whose recipe is the first trial. The student alone gets as many minutes. The
    folder --out holds best.yaml, the options that distill --config takes, all trials, and figures.
    Give the command again to go on, after an interruption or with more minutes.
    """
    from pyg_kd.cli.pipeline.tune import run_tuning

    run_tuning(data, teacher, knowledge, student, searched, metrics, machine, bundle, output)
