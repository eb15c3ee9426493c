"""Recipes: all that a run depends on, as plain JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pyg_kd.study.own_classes import is_own, sources_of
from pyg_kd.study.schema import Component, Row, Student, Teacher
from pyg_kd.study.settings import Setting, applied
from pyg_kd.training.student_recipe import INIT_STD, student_labels, student_training

Recipe = dict[str, Any]
Tree = dict[str, Any]

#: Changes with what a recipe means.
VERSION = 1

#: The names that a setting may begin with.
STUDENT_NAMES = ("weight", "options", "components", "scale", "trainer", "model", "dim", "start")
TEACHER_NAMES = ("options", "trainer", "dim", "start", "num_items")


def student_tree(
    student: Student, row: Row, sizes: Mapping[str, int], *, fused: bool = False
) -> Tree:
    r"""What a row trains, before a setting is applied.

    Args:
        student: The student of its world.
        row: The row, whose ``parts`` are not resolved here.
        sizes: Numbers of ``"users"`` and ``"items"``.
        fused: Whether the teacher is an ensemble, for a row that says ``compress``.
    """
    given = row.components or ([Component(row.method)] if row.method else [])
    components: list[dict[str, Any]] = [
        {"method": c.method, "weight": c.weight, "options": dict(c.options)} for c in given
    ]
    trainer = dict(student.trainer)
    options = dict(student.options) if row.student is None else {}
    if row.compress:
        labels = student_labels(sizes["items"], fused=fused)
        components = [{"method": "SoftLabel", "weight": 1.0, "options": labels}]
        trainer |= student_training(sizes["users"], row.trainer.get("max_epochs"))
        options |= {"init_std": INIT_STD}
    for component in components[:1]:
        component["weight"] = component["weight"] if row.weight is None else row.weight
        component["options"] = {**component["options"], **row.options}
    return {
        "class": row.student or student.model,
        "model": options | row.model,
        "trainer": trainer | row.trainer,
        "components": components,
        "scale": row.scale,
        "dim": student.dim if row.dim is None else row.dim,
        "start": student.start if row.start is None else row.start,
    }


def with_parts(tree: Tree, parts: list[Tree]) -> Tree:
    """A tree with the components of other rows, whose settings are applied."""
    found = [
        {**component, "weight": component["weight"] * part["scale"]}
        for part in parts
        for component in part["components"]
    ]
    return {**tree, "components": [*found, *tree["components"]]}


def teacher_tree(teacher: Teacher) -> Tree:
    """What a teacher is made of, before a setting is applied."""
    return {
        "class": teacher.model,
        "ensemble": teacher.ensemble,
        "file": teacher.knowledge,
        "options": dict(teacher.options),
        "trainer": dict(teacher.trainer),
        "dim": teacher.dim,
        "start": teacher.start,
        # A model's lists are made when its knowledge is extracted.
        "num_items": None if teacher.ensemble is None else teacher.num_items,
    }


def recipe_of(
    role: str,
    tree: Tree,
    setting: Setting,
    *,
    split: str,
    metric: str,
    seed: int,
    knowledge: Mapping[str, Any] | None = None,
) -> Recipe:
    r"""The recipe of a run.

    Args:
        role: ``"teacher"`` or ``"student"``.
        tree: What it is made of.
        setting: What is searched.
        split: Digest of the split.
        metric: What epochs are chosen by.
        seed: The seed.
        knowledge: What it learns from, of a student with methods.
    """
    found = applied(tree, setting)
    scale = found.pop("scale", 1.0)
    for component in found.get("components", ()):
        component["weight"] = component["weight"] * scale
    whole = {
        "version": VERSION,
        "role": role,
        "split": split,
        "metric": metric,
        "seed": seed,
        "knowledge": dict(knowledge) if knowledge is not None else None,
        **found,
    }
    if sources := sources_in(found):  # without own classes, keys stay what they were
        whole["sources"] = sources
    plain: Recipe = json.loads(json.dumps(whole))  # as it is read back, where a tuple is a list
    return plain


def sources_in(tree: Mapping[str, Any]) -> dict[str, str]:
    r"""Digests of the sources of the own classes that a tree or a recipe names.

    Raises:
        ValueError: If a source has changed since it was imported.
    """
    names = [tree.get("class"), *(part["method"] for part in tree.get("components", ()))]
    names += [member["class"] for member in tree.get("members", ())]
    return sources_of(sorted({name for name in names if is_own(name)}))
