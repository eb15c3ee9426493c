"""What a study is made of: its rows, their recipes and their searches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pyg_kd.study.building import ALS, is_trained, make_method, make_trainer
from pyg_kd.study.optuna_search import OptunaSearch
from pyg_kd.study.recipes import Recipe, Tree, recipe_of, student_tree, teacher_tree, with_parts
from pyg_kd.study.records import STUDENT, TEACHER, Record, digest
from pyg_kd.study.schema import Config, Row, Teacher
from pyg_kd.study.search import GridSearch, Search
from pyg_kd.study.settings import Setting, applied, flat, settings_of
from pyg_kd.study.store import Place

GRID, OPTUNA = "grid", "optuna"

#: What was chosen for a row.
Chosen = Callable[[Place], Setting]


class Plan:
    r"""The rows of a study on data of known sizes.

    Args:
        config: The study.
        sizes: Numbers of users and items of each data set.
        splits: Digest of the split of each data set.
    """

    def __init__(
        self,
        config: Config,
        sizes: Mapping[str, Mapping[str, int]],
        splits: Mapping[str, str],
    ) -> None:
        self.config, self.sizes, self.splits = config, sizes, splits
        self.rows = {world: config.rows(world) for world in config.worlds}
        #: The teachers of each world by the name of their row, that of the world first.
        self.teachers: dict[str, dict[str, str]] = {}
        for world, of in config.worlds.items():
            others = {row.teacher for row in self.rows[world].values()} - {None, of.teacher}
            found = {row_of(name): name for name in sorted(map(str, others))}
            self.teachers[world] = {TEACHER: of.teacher, **found}

    def places(self) -> Iterator[Place]:
        """All rows but teachers, in the order of the configuration."""
        for dataset in self.config.datasets:
            for world, of in self.config.worlds.items():
                if of.datasets is None or dataset in of.datasets:
                    for name in self.rows[world]:
                        yield dataset, world, name

    def has(self, record: Record) -> bool:
        """Whether a run is of a row and a seed of this study, and of its split as it is now."""
        dataset, world, name, seed = record.row
        rows = {place[2] for place in self.places() if place[:2] == (dataset, world)}
        if not rows or name not in rows | {*self.teachers[world]}:
            return False
        split = record.recipe["split"]
        return seed in self.config.seeds and split == self.splits.get(dataset, split)

    def row(self, place: Place) -> Row:
        """A row."""
        return self.rows[place[1]][place[2]]

    def is_teacher(self, place: Place) -> bool:
        """Whether a row is a teacher's."""
        return place[2] in self.teachers[place[1]]

    def above(self, place: Place) -> Place:
        """The row of a row's teacher."""
        if self.is_teacher(place):
            return place
        named, usual = self.row(place).teacher, self.teachers[place[1]][TEACHER]
        return (*place[:2], TEACHER if named in (None, usual) else row_of(str(named)))

    def teacher(self, place: Place) -> Teacher:
        """The teacher of a row, or that of a teacher's row."""
        return self.config.teachers[self.teachers[place[1]][self.above(place)[2]]]

    def baseline(self, place: Place) -> Place:
        """The row of the student alone, beside a row."""
        return (*place[:2], self.config.baseline)

    def seeds(self, place: Place) -> list[int]:
        """The seeds of a row; of a teacher that no seed changes, the first."""
        seeds = self.config.seeds
        return seeds if not self.is_teacher(place) or not is_one(self.teacher(place)) else seeds[:1]

    def seed_of_teacher(self, place: Place, seed: int) -> int:
        """The seed of the teacher of a student's seed."""
        return self.config.seeds[0] if is_one(self.teacher(place)) else seed

    def depends(self, place: Place) -> list[Place]:
        """The rows whose choice comes before that of a row."""
        if self.is_teacher(place):
            return []
        row = self.row(place)
        names = [*row.parts, *([row.like] if row.like else [])]
        names += [self.config.baseline] if row.knowledge == "self" else []
        return [(*place[:2], name) for name in names]

    def tree(self, place: Place, chosen: Chosen) -> Tree:
        """What a row is made of, before its own setting."""
        if self.is_teacher(place):
            return self._teacher_tree(self.teacher(place))
        row, fused = self.row(place), self.teacher(place).ensemble is not None
        student = self.config.worlds[place[1]].student
        tree = student_tree(student, row, self.sizes[place[0]], fused=fused)
        above = [(*place[:2], name) for name in row.parts]
        return with_parts(tree, [applied(self.tree(p, chosen), chosen(p)) for p in above])

    def needs(self, tree: Tree) -> set[str]:
        """What the methods of a row need of its teacher."""
        return {need for c in tree["components"] for need in make_method(c, "methods").needs}

    def lengths(self, place: Place, needs: set[str]) -> tuple[int, int]:
        """How many items and users the teacher of a row lists."""
        sizes, teacher = self.sizes[place[0]], self.teacher(place)
        num_items = min(500 if teacher.num_items is None else teacher.num_items, sizes["items"])
        num_users = min(200 if teacher.num_users is None else teacher.num_users, sizes["users"])
        return num_items, num_users if "teacher_users" in needs else 0

    def recipe(self, place: Place, setting: Setting, seed: int, chosen: Chosen) -> Recipe:
        """All that a run depends on."""
        tree, knowledge = self.tree(place, chosen), None
        role = TEACHER if self.is_teacher(place) else STUDENT
        if role == STUDENT and tree["components"]:
            knowledge = self._knowledge(place, applied(tree, setting), seed, chosen)
        return recipe_of(
            role,
            tree,
            setting,
            split=self.splits[place[0]],
            metric=self.config.metric,
            seed=seed,
            knowledge=knowledge,
        )

    def search(self, place: Place, folder: Path) -> Search:
        """How the setting of a row is searched; trials of Optuna are kept in a folder."""
        teacher, budget = self.is_teacher(place), self.config.budget
        given = self.teacher(place).search if teacher else self.row(place).search
        if budget.search == OPTUNA and not teacher and given:
            assert isinstance(given, dict) and budget.trials is not None
            name = digest([*place, self.config.seeds[0]])
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{name}.db"
            return OptunaSearch(flat(given), budget.trials, path, "/".join(place), int(name, 16))
        settings = settings_of(given, place[2])
        return GridSearch(settings, budget.extensions, lambda s: self.possible(place, s))

    def possible(self, place: Place, setting: Setting) -> bool:
        """Whether methods and trainer take the values of a setting."""
        try:
            tree = applied(self.tree(place, lambda _: {}), setting)
            make_trainer(tree["trainer"], "trainer")
            for component in tree.get("components", ()):
                make_method(component, "methods")
        except ValueError:
            return False
        return True

    def _teacher_tree(self, teacher: Teacher) -> Tree:
        tree = teacher_tree(teacher)
        if teacher.trajectories:
            members = [teacher_tree(self.config.teachers[n]) for n in teacher.trajectories]
            names = ("class", "options", "trainer", "dim", "start")
            tree["members"] = [{name: member[name] for name in names} for member in members]
            tree |= {"num_states": teacher.num_states, "num_items": teacher.num_items or 100}
        return tree

    def _knowledge(self, place: Place, tree: Tree, seed: int, chosen: Chosen) -> dict[str, Any]:
        above = self.above(place)
        taught_by = self.recipe(above, chosen(above), self.seed_of_teacher(place, seed), chosen)
        num_items, num_users = self.lengths(place, self.needs(tree))
        control, alone = self.row(place).knowledge, None
        if control == "self":
            base = self.baseline(place)
            alone = digest(self.recipe(base, chosen(base), seed, chosen))
        return {
            "teacher": digest(taught_by),
            "num_items": num_items,
            "num_users": num_users,
            "control": control,
            "self": alone,
        }


def row_of(teacher: str) -> str:
    """The name of the row of a teacher that is not the world's."""
    return f"{TEACHER}: {teacher}"


def is_one(teacher: Teacher) -> bool:
    """Whether a teacher is the same for all seeds."""
    if teacher.one or teacher.knowledge is not None:
        return True
    name = teacher.model
    return name is not None and name != ALS and not is_trained(name)
