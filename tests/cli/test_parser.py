"""From words and YAML to what a command is called with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyg_kd.cli.app import COMMANDS, find
from pyg_kd.cli.parser import option_types, parse


@dataclass(frozen=True)
class Source:
    """Where from

    Args:
        path: A file.
        column: A column.
    """

    path: str = field(metadata={"positional": True})
    column: str = "user"


@dataclass(frozen=True)
class Rest:
    """All else

    Args:
        out: A folder.
        k: Lengths.
        dim: A width.
        lr: A rate.
        mode: A choice.
        switch: On or off.
        options: More.
    """

    out: str
    k: list[int] = field(default_factory=lambda: [10])
    dim: int | None = None
    lr: float = 0.1
    mode: Literal["a", "b"] = "a"
    switch: bool = True
    options: dict[str, Any] | None = None


def command(source: Source, rest: Rest) -> None:
    """Do something."""


def test_defaults():
    found = parse(command, ["x.csv", "--out", "run"])
    assert found == {"source": Source("x.csv"), "rest": Rest("run")}


def test_values():
    words = ["--out", "run", "--k", "5,20", "--dim", "8", "--lr", "1e-3", "--mode", "b"]
    words += ["--no-switch", "x.csv", "--column", "who"]
    found = parse(command, [*words, "--options.a", "1", "--options.b-c", "x"])
    assert found["source"] == Source("x.csv", "who")
    assert found["rest"] == Rest("run", [5, 20], 8, 1e-3, "b", False, {"a": 1, "b-c": "x"})


def test_yaml_and_words(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("path: y.csv\nout: there\nk: [1, 2]\nlr: 1e-4\noptions: {deep: {er: 1}}\n")
    found = parse(command, ["--config", str(path), "--out", "here"])
    assert found["source"] == Source("y.csv")
    assert found["rest"] == Rest("here", [1, 2], lr=1e-4, options={"deep": {"er": 1}})
    assert parse(command, ["--config", str(path), "z.csv"])["source"].path == "z.csv"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("out: x\nfoo: 1\n", "foo"),
        ("out: x\ndim: many\n", r"--dim must be an integer or null \(got 'many'\)"),
        ("out: [\n", "config"),
        ("- 1\n", "config"),
        ("out: {a: 1}\n", "--out must be text"),
        ("k: 5\n", "--k must be a list like 10,20"),
    ],
)
def test_wrong_yaml(tmp_path, content, message):
    path = tmp_path / "config.yaml"
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        parse(command, ["x.csv", "--out", "run", "--config", str(path)])
    assert "\n" not in str(caught.value) or "config" in str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "PATH and --out must be given "),
        (["--out", "run"], "PATH must be given "),
        (["x.csv"], "--out must be given "),
        (["--path", "x.csv", "--out", "run"], "there is no option --path: PATH is given without"),
        (["--paths=x.csv", "y.csv", "--out", "x"], "there is no option --paths.*: PATH is given"),
        (["x.csv", "--outs", "run"], r"there is no option --outs, did you mean --out\?"),
    ],
)
def test_what_is_given_by_its_place_is_no_option(words, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        parse(command, words)


OPTIONS = sorted({name for command in COMMANDS for name in option_types(find(command))})
PLAIN = ["x", "1", "-1", "1e3", "null", "true", "[1", "{a", "{a: 1}", "--", "-x", "=", ""]
WORD = st.one_of(
    st.sampled_from([f"--{name}" for name in OPTIONS]),
    st.sampled_from([f"--no-{name.replace('_', '-')}" for name in OPTIONS]),
    st.sampled_from(PLAIN),
    st.text(max_size=5),
)


@pytest.mark.parametrize("name", COMMANDS)
@settings(max_examples=10)
@given(words=st.lists(WORD, max_size=5))
def test_any_words_are_taken_or_refused(name, words):
    if any(word in ("-h", "--config") or word.startswith("--print") for word in words):
        return
    try:
        found = parse(find(name), words)
    except ValueError:
        return
    assert found is None or all(found.values())
