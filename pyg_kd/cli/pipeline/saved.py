"""Runs read back: their data, and their models."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pyg_kd.cli.options import Data, Metrics
from pyg_kd.cli.options.distill import Student, Teacher
from pyg_kd.cli.options.train import Model
from pyg_kd.cli.parser import arguments
from pyg_kd.cli.pipeline import ensembles
from pyg_kd.cli.pipeline.data import Graphs, read_graphs
from pyg_kd.cli.pipeline.fitting import trainer_options
from pyg_kd.cli.pipeline.models import is_run, make_model
from pyg_kd.cli.runs import RECORD, Run
from pyg_kd.knowledge import graph_fingerprint
from pyg_kd.models import Recommender
from pyg_kd.models.state_files import load_state
from pyg_kd.provenance import described


class SavedRun:
    """A complete run of ``train`` or ``distill``."""

    def __init__(self, run: Run) -> None:
        self.run, self.command = run, run.record["command"]
        self.options = arguments(
            _command(self.command), run.config | {"out": str(run.path), "overwrite": False}
        )

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> SavedRun:
        r"""Read a run.

        Raises:
            ValueError: If there is none, it was not finished, or it is damaged.
        """
        run = Run.open(path)
        try:
            return cls(run)
        except KeyError as error:
            raise ValueError(f"'{path}' is damaged: it does not tell {error}") from error

    @property
    def data(self) -> Data:
        """The options of the data."""
        found: Data = self.options["data"]
        return found

    @property
    def metrics(self) -> Metrics:
        """What was measured."""
        found: Metrics = self.options["metrics"]
        return found

    @property
    def metric(self) -> str:
        """What was validated."""
        group = self.options["training" if self.command == "train" else "student"]
        return str(group.metric)

    def graphs(self) -> Graphs:
        r"""The data as it was split for the run.

        Raises:
            FileNotFoundError: If the file is gone.
            ValueError: If it has changed.
        """
        self.check_inputs()
        graphs = read_graphs(self.data)
        if graphs.fingerprints != self.run.record["fingerprints"]:
            raise ValueError(
                f"{self.data.interactions!r} gives other interactions or another split than when "
                f"'{self.run.path}' was made"
            )
        return graphs

    def check_inputs(self) -> None:
        r"""Compare the files that the run has read with what they were.

        Raises:
            FileNotFoundError: If one is gone.
            ValueError: If one has changed.
        """
        for name, before in self.run.record["inputs"].items():
            path = Path(name)
            if not path.is_file():
                raise FileNotFoundError(f"'{name}', which '{self.run.path}' was made of, is gone")
            if described(path) != before:
                raise ValueError(
                    f"'{name}' has changed since '{self.run.path}' was made: its SHA-256 was "
                    f"{before['sha256']:.12}..., is {described(path)['sha256']:.12}..."
                )

    @property
    def names(self) -> list[str]:
        """The models of the run."""
        if self.command == "train":
            return ["model"]
        student: Student = self.options["student"]
        return ["teacher", *(["alone"] if student.baseline else []), "student"]

    @property
    def state(self) -> Path:
        """The file of the model that may teach; of one in closed form, the record of its run."""
        if self.command != "train":
            raise ValueError(f"'teacher' must be a run of train (got a run of {self.command})")
        path = self.run.state("model")
        return path if path.is_file() else self.run.path / RECORD

    @property
    def dim(self) -> int | None:
        """Width of the model that may teach."""
        model: Model = self.options["model"]
        return model.dim

    def model(self, name: str, graphs: Graphs) -> Recommender:
        """One of its models."""
        if self.command == "train":
            model: Model = self.options["model"]
            return self._read(name, model.model, graphs, model.dim, model.model_options)
        teacher: Teacher = self.options["teacher"]
        if name != "teacher":
            student: Student = self.options["student"]
            return self._read(
                name, str(student.student), graphs, student.dim, student.student_options
            )
        if is_run(teacher.teacher):
            return SavedRun.open(teacher.teacher).model_for(graphs)
        if self.of_ensemble:
            return ensembles.read(self.run, "teacher", graphs)
        return self._read(
            name, teacher.teacher, graphs, teacher.teacher_dim, teacher.teacher_options
        )

    @property
    def of_ensemble(self) -> bool:
        """Whether its teacher is an ensemble."""
        return self.command != "train" and ensembles.report_of(self.run, "teacher").is_file()

    def timed_teacher(self, graphs: Graphs) -> Recommender | None:
        """The teacher, of an ensemble its best factorisation; ``None`` if there is none."""
        if "teacher" not in self.names:
            return None
        if self.of_ensemble:
            return ensembles.factors(self.run, "teacher", graphs)
        return self.model("teacher", graphs)

    def vectors(self, name: str, graphs: Graphs) -> Recommender:
        r"""One of its models, of an ensemble its best factorisation.

        Raises:
            ValueError: If the ensemble has none.
        """
        found = self.timed_teacher(graphs) if name == "teacher" else self.model(name, graphs)
        if found is None:
            raise ValueError(f"the ensemble in '{self.run.path}' has no vectors, only lists")
        return found

    def model_for(self, graphs: Graphs) -> Recommender:
        r"""The model of a run of ``train``, as a teacher on some data.

        Raises:
            ValueError: If it was trained on other data, or another split.
        """
        found = graph_fingerprint(graphs.train)
        if self.run.record["fingerprints"]["train"] != found:
            raise ValueError(
                f"the teacher in '{self.run.path}' was trained on other interactions or another "
                "split: give distill the same data options"
            )
        return self.model("model", graphs)

    def untrained(self, graphs: Graphs) -> tuple[str, Recommender, dict[str, Any]]:
        """The name of the model of a run of ``train``, made anew, and how it is trained."""
        model, machine = self.options["model"], self.options["machine"]
        made = make_model(model.model, graphs.train, model.dim, model.model_options, machine.seed)
        return "model", made, trainer_options(self.options["training"])

    @property
    def refitted(self) -> bool:
        """Whether what is served was trained on the test interactions as well."""
        return bool(self.options["bundle"].refit)

    def _read(
        self, name: str, kind: str, graphs: Graphs, dim: int | None, options: Any
    ) -> Recommender:
        model = make_model(kind, graphs.train, dim, options, started=False)
        if model.trainable:
            load_state(model, self.run.state(name))
        return model


def _command(name: str) -> Any:
    from pyg_kd.cli.app import find

    return find(name)
