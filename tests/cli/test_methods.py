from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pyg_kd
from pyg_kd.cli.pipeline.methods import NAMES, Method, as_config, own_files, parse_methods

SOFT = Method("SoftLabel", 1.0, {})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("SoftLabel=1.0", [SOFT]),
        (" SoftLabel = 1 , HintRegression=1e-2 ", [SOFT, Method("HintRegression", 0.01, {})]),
        ("SoftLabel(own_weight=0.3, target='score')=2",
         [Method("SoftLabel", 2.0, {"own_weight": 0.3, "target": "score"})]),
        ("SoftLabel()=1", [SOFT]),
        ({"SoftLabel": 1}, [SOFT]),
        ({"SoftLabel": "1e0"}, [SOFT]),  # YAML takes 1e0 for text
        ({"SoftLabel": {"weight": 1.0, "own_weight": "1e-1"}},
         [Method("SoftLabel", 1.0, {"own_weight": 0.1})]),
        (["SoftLabel=1", {"HintRegression": 0.5}], [SOFT, Method("HintRegression", 0.5, {})]),
        ("TopologyDistillation(mode='full')=1,TopologyDistillation()=2",
         [Method("TopologyDistillation", 1.0, {"mode": "full"}),
          Method("TopologyDistillation", 2.0, {})]),
    ],
)  # fmt: skip
def test_methods_of_words_and_of_yaml(given, expected):
    found = parse_methods(given)
    assert found == expected
    assert parse_methods(as_config(found)) == expected


def test_every_method_of_one_teacher_is_offered():
    several = {"Distillation", "HetComp", "ConsensusLearning"}
    exported = {name for name in pyg_kd.distill.__all__}
    assert set(NAMES) == exported - several
    for name in NAMES:
        (method,) = parse_methods(f"{name}=0.5")
        assert type(method.make()).__name__ == name


@pytest.mark.parametrize("name", NAMES)
def test_what_a_method_prints_is_what_makes_it(name):
    made = getattr(pyg_kd.distill, name)()
    (method,) = parse_methods(f"{made!r}=1.0")
    assert repr(method.make()) == repr(made)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("SoftLabels=1", "there is no method 'SoftLabels', did you mean SoftLabel?"),
        ("Nothing=1", "there is no method 'Nothing': one of CollaborativeDistillation, "),
        ("SoftLabel", "'methods' must give SoftLabel a weight, as in 'SoftLabel=1.0'"),
        ("SoftLabel(own_weight=0.5)", "'methods' must give SoftLabel a weight"),
        ("SoftLabel=many", r"'weight' must be a number \(got 'many'\)"),
        ("SoftLabel(0.5)=1", "'methods' must look like 'SoftLabel"),
        ("SoftLabel(own_weight=open('x'))=1", "'methods' must look like 'SoftLabel"),
        ("SoftLabel(own_weight=0.5=1", "'methods' must look like 'SoftLabel"),
        ("", r"'methods' must name a method \(got ''\)"),
        ([], "'methods' must name a method"),
        ({"SoftLabel": None}, "a weight"),
        ({"SoftLabel": True}, "'weight' must be a number"),
        ("HetComp=1", "HetComp is used from Python: it learns from the trajectories"),
        ("ConsensusLearning=1", "ConsensusLearning is used from Python"),
        ("Distillation=1", "there is no method 'Distillation'"),
    ],
)
def test_mistakes(given, message):
    with pytest.raises(ValueError, match=message):
        parse_methods(given)


def test_an_option_that_the_method_lacks_or_refuses():
    with pytest.raises(ValueError, match="SoftLabel has no option 'foo': it has num_listed, "):
        parse_methods("SoftLabel(foo=1)=1")[0].make()
    with pytest.raises(ValueError, match="'num_listed' must be a positive integer"):
        parse_methods("SoftLabel(num_listed=0)=1")[0].make()


@given(st.text(alphabet="SoftLabel(=,)'\"1. ", max_size=25))
def test_any_text_is_read_or_refused(text):
    try:
        found = parse_methods(text)
    except ValueError:
        return
    assert all(method.name in NAMES for method in found)


MINE = '''
from pyg_kd.distill import SoftLabel


class Softer(SoftLabel):
    """Soft labels under another name."""

    def __init__(self, *, num_listed: int = 10, own_weight: float = 0.0):
        super().__init__(num_listed=num_listed, own_weight=own_weight)
'''


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The current folder, with a module."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_methods.py").write_text(MINE)
    yield tmp_path / "own_methods.py"
    sys.modules.pop("own_methods", None)


def test_a_method_of_the_current_folder(mine):
    (found,) = methods = parse_methods("own_methods:Softer(num_listed=5, own_weight='1e-1')=2")
    assert found == Method("own_methods:Softer", 2.0, {"num_listed": 5, "own_weight": 0.1})
    assert type(found.make()).__name__ == "Softer" and found.make().num_listed == 5
    assert parse_methods(as_config(methods)) == methods
    assert own_files([*methods, SOFT]) == [mine]
    with pytest.raises(ValueError, match="has no option 'foo': it has num_listed, own"):
        parse_methods("own_methods:Softer(foo=1)=1")[0].make()
    with pytest.raises(ValueError, match="did you mean own_methods:Softer"):
        parse_methods("own_methods.Softer=1")
    with pytest.raises(ValueError, match="methods: there is no module 'own_method'"):
        parse_methods("own_method:Softer=1")


def test_a_run_remembers_the_file_of_its_method(run, table, mine):
    words = ["--teacher", "mf", "--teacher-epochs", 1, "--epochs", 1, "--no-baseline"]
    words += ["--methods", "own_methods:Softer(num_listed=5)=1", "--no-bundle", "--no-progress"]
    result = run("distill", table, "--out", "run", *words)
    assert result.code == 0, result.err
    assert run("reproduce", "run").code == 0
    mine.write_text(MINE.replace("0.0", "0.5"))
    result = run("reproduce", "run")
    assert result.code == 2 and "own_methods.py" in result.err and "has changed" in result.err
