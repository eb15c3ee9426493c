from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pyg_kd.distill import Distillation
from pyg_kd.models import Recommender
from pyg_kd.study import run_study
from pyg_kd.study.conducting import checked
from pyg_kd.study.config import _Loader, yaml
from pyg_kd.study.own_classes import own_class, own_names
from pyg_kd.study.processes import InProcess
from pyg_kd.study.verifying import verify_study
from tests.study.tiny import Counting, tiny

ROOT = Path(__file__).parents[2]

#: Languages of the blocks of a page.
KINDS = ("python", "yaml")

MINE = '''
from pyg_kd.distill import Distillation, SoftLabel
from pyg_kd.models import MF


class Softer(SoftLabel):
    """Soft labels with a number of their own."""

    def __init__(self, *, num_listed: int = 10):
        super().__init__(num_listed=num_listed)


class Plain(MF):
    """A factorisation under another name."""


class Outer:
    class Inner(Softer):
        """Inside of another class."""


Base = Distillation
'''


def own(**changes: Any) -> dict[str, Any]:
    """The tiny study with a method and a student of module ``mine``."""
    config = tiny(seeds=[0], **changes)
    config["methods"]["mine"] = {"method": "mine:Softer", "search": {"weight": [0.1, 1.0]}}
    config["methods"]["model"] = {"student": "mine:Plain", "search": {"trainer.lr": [0.01, 0.03]}}
    return config


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of a study, with the module beside it."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    folder = tmp_path / "studies"
    folder.mkdir()
    (folder / "mine.py").write_text(MINE)
    (folder / "own.yaml").write_text(json.dumps(own()))  # JSON is YAML
    monkeypatch.chdir(tmp_path)
    yield folder / "own.yaml"
    sys.modules.pop("mine", None)


def conduct(config: Path, executor: InProcess | None = None) -> Any:
    return run_study(config, "out", executor=executor or InProcess(), progress=False)


def test_own_classes_are_run_reported_and_verified(config: Path) -> None:
    results = conduct(config)
    assert results.about["missing"] == 0 and results.about["failed"] == {}
    record = results.record("made", "mf", "mine", 0)
    assert [*record.recipe["sources"]] == ["mine:Softer"]
    assert [*results.record("made", "mf", "model", 0).recipe["sources"]] == ["mine:Plain"]
    for method in ("teacher", "student alone", "soft"):  # whose keys are as ever
        assert "sources" not in results.record("made", "mf", method, 0).recipe
    soft = results.record("made", "mf", "soft", 0)
    if soft.setting == record.setting:
        assert soft.test == record.test
    (row,) = verify_study(config, "out", [record.key], executor=InProcess(), progress=False)
    assert row["same"] and row["difference"] == 0.0


def test_an_edited_class_runs_again_and_alone(config: Path) -> None:
    conduct(config)
    file = config.with_name("mine.py")
    file.write_text(f"{MINE}\n# edited\n")
    with pytest.raises(ValueError, match=r"mine.py' changed after 'mine:Softer' was imported"):
        conduct(config)
    sys.modules.pop("mine")  # as in a new Python
    executor = Counting()
    conduct(config, executor)
    trained = {method for kind, method, _ in executor.done if kind == "train"}
    assert trained == {"mine", "model"}


def test_a_class_that_changes_under_a_study_is_no_result(config: Path) -> None:
    class Editing(Counting):
        def __call__(self, job: Any) -> None:
            if job.record.method == "mine":  # as a process that has just imported the file
                job.record.recipe["sources"] = {"mine:Softer": "0" * 64}
            super().__call__(job)

    results = run_study(config, "out", executor=Editing(), progress=False)
    assert "mine" not in [record.method for record in results.finalists()]
    assert any("changed after the study was begun" in t for t in results.about["failed"].values())


@pytest.mark.slow
def test_processes_find_the_module_beside_the_configuration(config: Path) -> None:
    words = ["study", str(config), "--methods", "mine", "--no-report", "--no-progress"]
    program = "import sys; from pyg_kd.cli import main; sys.exit(main(sys.argv[1:]))"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    found = subprocess.run(
        [sys.executable, "-c", program, *words],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    assert "made/mf/mine" in json.loads(found.stdout)["rows"]


def test_a_hidden_module_is_refused(config: Path, tmp_path: Path) -> None:
    conduct(config)
    other = tmp_path / "other"
    other.mkdir()
    (other / "own.yaml").write_text(config.read_text())
    (other / "mine.py").write_text(MINE)
    with pytest.raises(ValueError, match=r"'mine' is '.*', which hides '.*other/mine.py'"):
        checked(other / "own.yaml")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mine.Softer", "there is no method 'mine.Softer', did you mean 'mine:Softer'?"),
        ("mine:", "'mine:' must look like 'module:Class'"),
        ("mine:a b", "'mine:a b' must look like 'module:Class'"),
        ("mines:Softer", "methods.mine: there is no module 'mines', neither where Python looks"),
        ("mine.inner:Softer", "there is no module 'mine.inner', neither"),
        ("mine:Soft", "has no 'Soft', did you mean 'Softer'?"),
        ("mine:Plain", "'mine:Plain' must be a class derived from Distillation"),
        ("mine:Base", "'mine:Base' must be a class derived from Distillation"),
        ("mine:__doc__", "'mine:__doc__' must be a class derived from Distillation"),
        ("broken:Softer", "'broken' cannot be imported (ModuleNotFoundError: No module named 'no"),
        ("wrong:Softer", "'wrong' cannot be imported (SyntaxError"),
    ],
)
def test_mistakes_are_told_before_anything_runs(config: Path, name: str, message: str) -> None:
    given = own()
    given["methods"]["mine"]["method"] = name
    config.write_text(json.dumps(given))
    config.with_name("broken.py").write_text("import nosuchmodule")
    config.with_name("wrong.py").write_text("def")
    with pytest.raises(ValueError) as caught:
        checked(config)
    assert message in str(caught.value)


def test_options_of_own_classes_are_checked(config: Path) -> None:
    given = own()
    given["methods"]["mine"]["options"] = {"num_list": 3}
    config.write_text(json.dumps(given))
    with pytest.raises(ValueError, match="Softer has no option 'num_list', did you mean"):
        checked(config)
    given["methods"]["mine"].pop("options")
    given["worlds"]["mf"]["student"]["model"] = "mine:Softer"
    config.write_text(json.dumps(given))
    with pytest.raises(ValueError, match="'mine:Softer' must be a class derived from Recommender"):
        checked(config)


def test_inner_classes_and_names_wherever_they_stand(config: Path) -> None:
    checked(config)
    assert own_class("mine:Outer.Inner", Distillation, "x").__name__ == "Inner"
    assert own_class("mine:Plain", Recommender, "x").__name__ == "Plain"
    assert own_names(own()) == {"mine:Softer", "mine:Plain"}
    assert own_names({"components": [{"method": "a:B"}], "name": "c:D"}) == {"a:B"}


def test_the_pages_show_what_works(config: Path) -> None:
    """The method of the how-to, and the rows of the tutorial with its method."""
    read = partial(yaml.load, Loader=_Loader)
    how_to, tutorial = (
        (ROOT / "docs" / page).read_text()
        for page in ("how_to/studies.md", "tutorials/write_a_method.md")
    )
    _, section = how_to.split("## Methods and models of your own")
    module, row = (re.findall(rf"```{kind}\n(.*?)```", section, re.DOTALL)[0] for kind in KINDS)
    given = own()
    rows = {"student alone": {"search": {"trainer.lr": [0.01, 0.02, 0.03]}}, **read(row)}
    config.with_name("mymethods.py").write_text(module)
    config.write_text(json.dumps({**given, "methods": rows, "budget": {"extensions": 0}}))
    results = conduct(config)
    assert results.about["failed"] == {} and "cosine" in results.methods

    sys.modules.pop("mymethods")
    cells = re.findall(r"```\{code-cell\} ipython3\n(.*?)```", tutorial, re.DOTALL)
    (module,) = [cell for cell in cells if "class FavouritePairs(" in cell]
    (rows,) = re.findall(r"```yaml\n(methods:\n.*?)```", tutorial, re.DOTALL)
    imports = "import torch\nfrom pyg_kd import Distillation\nfrom pyg_kd.functional import *\n"
    config.with_name("mymethods.py").write_text(imports + module)
    config.write_text(json.dumps(given | read(rows) | {"budget": {"extensions": 0}}))
    results = run_study(config, "other", executor=InProcess(), progress=False)
    assert results.about["failed"] == {} and "pairs, shuffled teacher" in results.methods
    sys.modules.pop("mymethods")
