"""The stages of a distillation: teacher, student alone, knowledge, distilled student."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch_geometric.data import HeteroData

from pyg_kd.cli.console import warn
from pyg_kd.cli.options import Machine
from pyg_kd.cli.pipeline.choices import Choices, is_ensemble, members
from pyg_kd.cli.pipeline.data import Graphs
from pyg_kd.cli.pipeline.ensembles import factors, size_of, taught, weights_of
from pyg_kd.cli.pipeline.fitting import best_epochs, fit, trainer_options
from pyg_kd.cli.pipeline.given_lists import doubts
from pyg_kd.cli.pipeline.models import make_model
from pyg_kd.cli.runs import Run
from pyg_kd.distill import Distillation
from pyg_kd.graph import interactions
from pyg_kd.knowledge import Listed, extract_knowledge
from pyg_kd.models import Recommender
from pyg_kd.training.history import History

#: Users that each item's list of the teacher holds, for methods that need such lists.
NUM_USERS = 200


class Stages(NamedTuple):
    """What the stages of a run share."""

    run: Run
    choices: Choices
    graphs: Graphs
    machine: Machine

    def teacher(self) -> Recommender:
        """The teacher, read or trained."""
        saved, options = self.choices.saved, self.choices.teacher
        if saved is not None:
            return saved.model_for(self.graphs)
        if is_ensemble(options.teacher):
            return self._ensemble("teacher")
        training = {**(options.teacher_training or {}), "epochs": options.teacher_epochs}
        return self._trained("teacher", training | {"metric": self.choices.student.metric})

    def shown(self, teacher: Recommender, *, again: bool) -> Recommender | None:
        """What stands for the teacher beside the student, where vectors are needed."""
        if not isinstance(teacher, Listed):
            return teacher if teacher.inner_product else None
        return factors(self.run, "teacher-again" if again else "teacher", self.graphs)

    def size(self, teacher: Recommender) -> int | None:
        """Bytes of the members of an ensemble; ``None`` for a teacher that holds its own."""
        return size_of(self.run, "teacher") if isinstance(teacher, Listed) else None

    def _ensemble(self, name: str, weights: Sequence[float] | None = None) -> Listed:
        return taught(
            self.run,
            name,
            self._members,
            self.graphs,
            self.choices.student.metric,
            self.choices.knowledge.num_items,
            self.machine,
            weights,
        )

    def _members(self) -> Any:
        """The teachers of the ensemble; warns of lists in files that are no fair ones."""
        teacher = self.choices.teacher.teacher
        found = members(teacher, self.graphs.train)
        for path, member in zip(teacher.split("+"), found, strict=False):
            if isinstance(member, HeteroData):
                for message in doubts(path, member, self.graphs):
                    warn(message)
        return found

    def alone(self) -> Recommender:
        """The student without a teacher."""
        return self._trained("alone", self.alone_training)

    @property
    def alone_training(self) -> dict[str, Any]:
        """How the student without a teacher is trained."""
        student = self.choices.student
        training = {**(student.baseline_training or {}), "epochs": student.baseline_epochs}
        return training | {"metric": student.metric, "patience": student.patience}

    def pairs(self) -> list[tuple[Distillation, float]]:
        """The methods, made anew, with their weights."""
        return [(method.make(), method.weight) for method in self.choices.methods]

    def student(self, teacher: Recommender) -> Recommender:
        """The distilled student."""
        return self._distilled("student", teacher, trainer_options(self.choices.student))

    def again(self) -> tuple[Recommender, Recommender]:
        """Teacher and student on all interactions, for as many epochs as were best."""
        whole = self._replace(graphs=self.graphs.whole)
        teacher = whole._teacher_again()
        options = trainer_options(self.choices.student)
        options["epochs"] = best_epochs(History.from_json(self.run.history("student")))
        return teacher, whole._distilled("student-again", teacher, options)

    def _teacher_again(self) -> Recommender:
        choices, metric = self.choices, self.choices.student.metric
        if choices.saved is None and is_ensemble(choices.teacher.teacher):
            return self._ensemble("teacher-again", weights_of(self.run, "teacher"))
        if choices.saved is not None:
            name, made, training = choices.saved.untrained(self.graphs)
            history = choices.saved.run.history(name)
        else:
            made, history = self.made("teacher"), self.run.history("teacher")
            training = {**(choices.teacher.teacher_training or {}), "metric": metric}
        training["epochs"] = best_epochs(History.from_json(history))
        fit(self.run, "teacher-again", made, self.graphs.train, None, training, self.machine)
        return made

    def _trained(self, name: str, training: dict[str, Any]) -> Recommender:
        model, graphs = self.made(name), self.graphs
        fit(self.run, name, model, graphs.train, graphs.val, training, self.machine)
        return model

    def made(self, name: str, *, started: bool = True) -> Recommender:
        """A model of the run, its first weights drawn, or computed if it is ``started``."""
        teacher, student = self.choices.teacher, self.choices.student
        graph, seed = self.graphs.train, self.machine.seed
        if name == "teacher":
            kind, dim, options = teacher.teacher, teacher.teacher_dim, teacher.teacher_options
        else:
            kind, dim, options = str(student.student), student.dim, student.student_options
        return make_model(kind, graph, dim, options, seed, started=started)

    def _distilled(self, name: str, teacher: Recommender, options: dict[str, Any]) -> Recommender:
        graph, val = self.knowledge(teacher), self.graphs.val
        model = self.made("student")
        fit(self.run, name, model, graph, val, options, self.machine, self.pairs())
        return model

    def knowledge(self, teacher: Recommender) -> HeteroData:
        """The training graph with what the methods need of a teacher."""
        if isinstance(teacher, Listed):
            return teacher.graph
        needs = {need for method in self.choices.methods for need in method.make().needs}
        num_items, num_users = self.choices.knowledge.num_items, 0
        if "teacher_users" in needs:
            num_users = min(NUM_USERS, self.graphs.sizes["users"])
        return extract_knowledge(
            teacher,
            self.graphs.train,
            num_items=num_items,
            num_users=num_users,
            progress=self.machine.progress,
            val_data=self.graphs.val if num_items else None,
        )


def popular(train: HeteroData) -> Recommender:
    """A model whose scores are the popularity of items."""
    edges = interactions(train)
    degree = edges.by_item().degree.float().unsqueeze(1)
    return Recommender.from_embeddings(train, torch.ones(edges.num_users, 1), degree)
