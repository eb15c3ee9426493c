"""CITATION.cff has what its schema requires, and agrees with the package."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())
RECIPE = yaml.safe_load((ROOT / "conda" / "recipe" / "recipe.yaml").read_text())
PROJECT = (ROOT / "pyproject.toml").read_text()

#: Of version 1.2.0 of the Citation File Format.
ALLOWED = {
    "abstract", "authors", "cff-version", "commit", "contact", "date-released", "doi",
    "identifiers", "keywords", "license", "license-url", "message", "preferred-citation",
    "references", "repository", "repository-artifact", "repository-code", "title", "type", "url",
    "version",
}  # fmt: skip


def people(entries: list[dict[str, str]]) -> None:
    """Authors are persons, by their names, or entities."""
    assert entries
    for entry in entries:
        assert set(entry) == {"name"} or {"family-names", "given-names"} <= set(entry), entry
        assert all(isinstance(value, str) and value for value in entry.values())


def test_required_fields() -> None:
    assert {"authors", "cff-version", "message", "title"} <= set(CITATION) <= ALLOWED
    assert CITATION["cff-version"] == "1.2.0"
    assert CITATION["type"] in ("software", "dataset")
    people(CITATION["authors"])


def test_references() -> None:
    for reference in CITATION["references"]:
        assert {"authors", "title", "type"} <= set(reference)
        people(reference["authors"])
        assert 2000 < reference["year"] < 2100
        page = (ROOT / "README.md").read_text()
        assert reference["title"] in page and reference["url"] in page


def field(name: str) -> str:
    """A string of pyproject.toml."""
    found = re.search(rf'^{name} = "(.*)"$', PROJECT, re.MULTILINE)
    assert found is not None
    return found[1]


def test_the_licence_is_one() -> None:
    assert CITATION["license"] == RECIPE["about"]["license"] == field("license")
    assert RECIPE["about"]["summary"] == field("description")


def bounds(lines: list[str]) -> dict[str, str]:
    """Least versions by name."""
    pairs = [re.match(r"([A-Za-z_-]+)(?:\[\w+\])?\s*>=\s*([\d.]+)", line) for line in lines]
    return {pair[1].lower().replace("-", "_"): pair[2] for pair in pairs if pair is not None}


def test_the_recipe_asks_for_what_the_package_does() -> None:
    declared = re.search(r"^dependencies = \[(.*?)^\]", PROJECT, re.MULTILINE | re.DOTALL)
    assert declared is not None
    wanted = bounds(re.findall(r'^ +"([^"]+)"', declared[1], re.MULTILINE))
    called = {"pytorch": "torch", "pytorch_geometric": "torch_geometric"}
    found = bounds(RECIPE["requirements"]["run"])
    assert {called.get(name, name): bound for name, bound in found.items()} == wanted
    host = bounds(RECIPE["requirements"]["host"])
    build = re.search(r"^requires = (\[.*\])$", PROJECT, re.MULTILINE)
    assert build is not None
    assert host == bounds(re.findall(r'"([^"]+)"', build[1]))


@pytest.mark.parametrize("name", ["pyg-kd = pyg_kd.cli:main"])
def test_the_recipe_has_the_command(name: str) -> None:
    assert RECIPE["build"]["python"]["entry_points"] == [name]
    command, _, target = name.partition(" = ")
    assert f'{command} = "{target}"' in PROJECT


def test_the_release_builds_from_a_tag_and_publishes_without_a_token() -> None:
    release = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())
    jobs = release["jobs"]
    assert release[True]["push"]["tags"]  # `on` is a truth value in YAML
    assert jobs["publish"]["needs"] == "build"
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert "secrets." not in (ROOT / ".github" / "workflows" / "release.yml").read_text()
    assert any(step.get("run") == "make package" for step in jobs["build"]["steps"])
