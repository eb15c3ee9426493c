"""The site's sources: everything is in a table of contents, and nothing asks the network."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import runpy
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

import pyg_kd

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
NAMES = [path.relative_to(DOCS).with_suffix("").as_posix() for path in PAGES]


@pytest.fixture(autouse=True)
def extensions(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))


def entries(path: Path) -> set[str]:
    """The pages that the tables of contents of a page name."""
    found: set[str] = set()
    for block in re.findall(r"^```\{toctree\}\n(.*?)^```", path.read_text(), re.M | re.S):
        options = re.findall(r"^:(\w+):", block, re.M)
        names = [line for line in block.splitlines() if line and not line.startswith(":")]
        for name in (re.sub(r".*<(.+)>", r"\1", line).removesuffix(".md") for line in names):
            if "glob" in options and "*" in name:
                matches = [p.with_suffix("") for p in path.parent.glob(f"{name}.md") if p != path]
                found |= {match.relative_to(DOCS).as_posix() for match in matches}
            else:
                found.add((path.parent / name).resolve().relative_to(DOCS).as_posix())
    return found


def test_every_page_is_in_one_table_of_contents() -> None:
    named = [name for path in PAGES for name in entries(path)]
    assert set(named) == set(NAMES) - {"index"}
    assert len(named) == len(set(named))


@pytest.mark.parametrize("name", NAMES)
def test_a_page_has_one_title(name: str) -> None:
    text = (DOCS / f"{name}.md").read_text()
    if "{include}" in text:
        return
    prose = re.sub(r"^(`{3,}).*?^\1", "", text, flags=re.MULTILINE | re.DOTALL)
    prose = re.sub(r"\A---\n.*?\n---\n", "", prose, flags=re.DOTALL)
    levels = [len(match) for match in re.findall(r"^(#+) ", prose, re.MULTILINE)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels)), "a level is skipped"


@pytest.mark.parametrize("name", NAMES)
def test_a_page_fetches_nothing(name: str) -> None:
    text = (DOCS / f"{name}.md").read_text()
    assert re.findall(r"!\[[^\]]*\]\(\s*(?:https?:)?//[^)]*\)", text) == []
    assert re.findall(r"<(?:img|script|iframe|link)\b[^>]*//[^>]*>", text) == []


@pytest.mark.parametrize("name", NAMES)
def test_executed_pages_say_so(name: str) -> None:
    text = (DOCS / f"{name}.md").read_text()
    if re.search(r"^```\{code-cell\}", text, re.MULTILINE):
        assert re.match(r"---\n(?:.*\n)*?file_format: mystnb\n", text), "cells would not run"


def test_style_sheets_and_pictures_fetch_nothing() -> None:
    for path in sorted((DOCS / "_static").iterdir()):
        text = path.read_text()
        own = text.replace("http://www.w3.org/2000/svg", "")
        assert re.findall(r"(?:https?:)?//\w[^\s\"')]*", own.replace("/*", "")) == [], path.name


def rooms() -> list[tuple[str, list[str]]]:
    """The directives of the API: the module, and what is left out below it."""
    found = []
    for path in sorted((DOCS / "api").glob("*.md")):
        for block in re.findall(r"\.\. room:: (.*?)\n```", path.read_text(), re.DOTALL):
            name, *options = block.splitlines()
            below = [o.split(":below:")[1].split() for o in options if ":below:" in o]
            found.append((name, below[0] if below else ["*"]))
    return found


def test_every_public_name_is_on_a_page_of_the_api() -> None:
    room = pytest.importorskip("room")
    covered = set()
    for name, left_out in rooms():
        module = importlib.import_module(name)
        parts = [name] if left_out == ["*"] else [name, *room.below(module, left_out)]
        for part in parts:
            found = importlib.import_module(part)
            if hasattr(found, "__all__"):
                covered |= {id(getattr(found, entry)) for entry in room.exported(found)}
    packages = [m.name for m in pkgutil.walk_packages(pyg_kd.__path__, "pyg_kd.") if m.ispkg]
    for package in ["pyg_kd", *packages]:
        module = importlib.import_module(package)
        for entry in set(getattr(module, "__all__", ())) - {"__version__"}:
            value = getattr(module, entry)
            assert inspect.ismodule(value) or id(value) in covered, f"{package}.{entry}"


def test_the_configuration_loads_and_its_extensions_exist() -> None:
    pytest.importorskip("sphinx")
    before = list(sys.path)
    try:
        found = runpy.run_path(str(DOCS / "conf.py"))
    finally:
        sys.path[:] = before
    assert found["release"] == pyg_kd.__version__ and found["nitpicky"]
    assert "intersphinx" not in " ".join(found["extensions"])
    for name in found["extensions"]:
        importlib.import_module(name)
    local = {path.stem for path in (DOCS / "_ext").glob("*.py") if "def setup(" in path.read_text()}
    assert local <= set(found["extensions"])


def test_a_fingerprint_follows_the_sources(tmp_path: Path) -> None:
    from fingerprint import package_fingerprint

    (tmp_path / "pyg_kd").mkdir()
    source = tmp_path / "pyg_kd" / "a.py"
    source.write_text("x = 1\n")
    before = package_fingerprint(tmp_path)
    assert package_fingerprint(tmp_path) == before
    source.write_text("x = 2\n")
    assert package_fingerprint(tmp_path) != before
    source.write_text("x = 1\n")
    source.rename(source.with_name("b.py"))
    assert package_fingerprint(tmp_path) != before


GOOD = '<html><head><link rel="stylesheet" href="a.css"><link rel="canonical" href="https://x.y/">\
</head><body><h1 id="top">A</h1><a href="#top">up</a> <a href="https://x.y/">away</a></body></html>'


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("", ""), None),
        (('href="a.css"', 'href="//cdn.x/a.css"'), "index.html fetches //cdn.x/a.css"),
        (("<body>", '<body><script src="https://x.y/z.js"></script>'), "fetches https://x.y/z.js"),
        (("<body>", '<body><img src="gone.png">'), "needs gone.png, which is not there"),
        (('href="#top"', 'href="#bottom"'), "leads to #bottom, which is not there"),
        (('href="#top"', 'href="gone.html"'), "leads to gone.html, which is not there"),
        (("<body>", "<body><style>p{background:url(https://x.y/p.png)}</style>"), "x.y/p.png"),
    ],
)
def test_a_site_with_a_fault_is_refused(tmp_path, change, complaint) -> None:
    from check_site import problems

    (tmp_path / "a.css").write_text("p { color: red }")
    (tmp_path / "index.html").write_text(GOOD.replace(*change) if change[0] else GOOD)
    found = problems(tmp_path)
    assert found == [] if complaint is None else len(found) == 1 and complaint in found[0]


def test_style_sheets_of_a_site_are_read(tmp_path) -> None:
    from check_site import problems

    (tmp_path / "a.css").write_text('@import "https://x.y/font.css";')
    (tmp_path / "index.html").write_text(GOOD)
    assert problems(tmp_path) == ["a.css fetches https://x.y/font.css"]


def test_the_check_says_what_is_wrong(tmp_path) -> None:
    script = DOCS / "_ext" / "check_site.py"
    done = subprocess.run(
        [sys.executable, script, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and "there is no page" in done.stdout


def test_an_undescribed_name_is_found(tmp_path, monkeypatch) -> None:
    import check_site

    (tmp_path / "api").mkdir()
    page = tmp_path / "api" / "training.html"
    page.write_text('<dt id="pyg_kd.training.compress"></dt><dt id="pyg_kd.metrics.METRICS"></dt>')
    names = ["pyg_kd.compress", "pyg_kd.metrics.METRICS", "pyg_kd.models.MF"]
    monkeypatch.setattr(check_site, "public_names", lambda: names)
    assert check_site.unexplained(tmp_path) == ["pyg_kd.models.MF is described nowhere"]
