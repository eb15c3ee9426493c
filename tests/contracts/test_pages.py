"""The tables of methods on the pages agree with the classes, and every method has its page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import pyg_kd
from pyg_kd.distill import Distillation
from pyg_kd.knowledge.requirements import KNOWLEDGE

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "docs/index.md", "docs/how_to/choose.md"]
RECIPES = "docs/how_to/choose.md"


def rows(page: str) -> list[list[str]]:
    """The cells of the method table, the first one of a page."""
    text = (ROOT / page).read_text()
    table = re.search(r"^\| Method .*?\n\|[-|]+\n(.*?)\n\n", text, re.MULTILINE | re.DOTALL)
    assert table is not None
    found = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table[1].splitlines()]
    assert len({len(row) for row in found}) == 1
    return found


def rows_of(page: str, cls: type[Distillation]) -> list[list[str]]:
    return [row for row in rows(page) if re.search(rf"`{cls.__name__}\b", row[1])]


def stated(cell: str, method: Distillation) -> set[str]:
    """What a cell such as "`a`, `b`; with `option="x"`: `a`" says that a method needs."""
    always, *cases = cell.split("; with ")
    for case in cases:
        option = re.match(r'`(\w+)="([\w-]+)"`: ', case)
        assert option is not None, f"{case!r} names no option"
        if getattr(method, option[1]) == option[2]:
            always = case[option.end() :]
    return set(re.findall(r"`(teacher_\w+)`", always))


@pytest.mark.parametrize("page", PAGES)
def test_every_method_has_a_row(method_cls, page: str) -> None:
    assert rows_of(page, method_cls)


@pytest.mark.parametrize("page", PAGES)
def test_every_row_names_a_method_and_a_paper(all_methods, page: str) -> None:
    for row in rows(page):
        classes = [getattr(pyg_kd, name, None) for name in re.findall(r"`(\w+)", row[1])]
        assert len([cls for cls in classes if cls in all_methods]) == 1, row[1]
        assert row[2] == "same" or re.search(r"\]\(https://\S+\)", row[2]), row[2]
        assert all(row)


def test_the_recipes_state_what_each_method_needs(make) -> None:
    method = make()
    for row in rows_of(RECIPES, make.cls):
        assert stated(row[3], method) == set(method.needs)


def test_the_index_leads_to_the_page_of_each_method(method_cls) -> None:
    for row in rows_of("docs/index.md", method_cls):
        link = re.fullmatch(r"\[.+\]\((methods/\w+\.md)\)", row[0])
        assert link is not None, row[0]
        assert method_cls.__name__ in (ROOT / "docs" / link[1]).read_text()


def test_the_recipes_name_only_knowledge_that_exists() -> None:
    for row in rows(RECIPES):
        assert set(re.findall(r"`(teacher_\w+)`", row[3])) <= set(KNOWLEDGE), row[3]


def test_what_is_stated_is_enough(make, world) -> None:
    method, graph = make(), world.copy()
    for node_type, store in graph.node_items():
        for name in KNOWLEDGE.keys() & set(store.keys()) - set(method.needs):
            del graph[node_type][name]
    torch.manual_seed(0)
    method.bind(graph, world.dim)
    world.settle(method, {key: x.detach() for key, x in world.x_dict(seed=9).items()})
    assert bool(method(world.x_dict(), graph, world.batch).isfinite())
