from __future__ import annotations

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyg_kd.cli.spelling import explained, in_words, normalized

TYPES = {
    "k_core": int | None,
    "baseline": bool,
    "no_seen": bool,
    "k": list[int],
    "split": Literal["user", "temporal"],
    "options": dict[str, Any] | None,
}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--k-core", "5"], ["--k_core", "5"]),
        (["--k-core=5"], ["--k_core=5"]),
        (["--k_core", "5"], ["--k_core", "5"]),
        (["--no-baseline", "x.csv"], ["--baseline=false", "x.csv"]),
        (["--baseline", "x.csv"], ["--baseline=true", "x.csv"]),
        (["--baseline", "false"], ["--baseline", "false"]),
        (["--baseline=false"], ["--baseline=false"]),
        (["--baseline"], ["--baseline=true"]),
        (["--no-seen"], ["--no_seen=true"]),
        (["--k", "10,20"], ["--k", "[10,20]"]),
        (["--k", "10"], ["--k", "[10]"]),
        (["--k=10,20"], ["--k=[10,20]"]),
        (["--k", "[10, 20]"], ["--k", "[10, 20]"]),
        (["--k=5", "10,20"], ["--k=[5]", "10,20"]),
        (["--options.init-std", "1"], ["--options.init-std", "1"]),
        (["a-b", "-h", "--"], ["a-b", "-h", "--"]),
    ],
)
def test_normalized(given, expected):
    assert normalized(given, TYPES) == expected


@given(st.lists(st.text(alphabet="abc=.-_[]5, ", max_size=6), max_size=5))
def test_normalized_takes_anything_and_keeps_values(words):
    out = normalized(words, TYPES)
    assert len(out) == len(words)
    for word, made in zip(words, out, strict=True):
        if not word.startswith("--"):
            assert made in (word, f"[{word}]")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (int, "an integer"),
        (int | None, "an integer or null"),
        (Literal["a", "b", "c"], "a, b or c"),
        (list[int], "a list like 10,20"),
        (list[str], "a list like a,b"),
        (dict[str, Any] | None, "a mapping or null"),
        (str | None, "text or null"),
    ],
)
def test_types_in_words(kind, words):
    assert in_words(kind) == words


def test_a_message_that_is_not_known_is_kept():
    assert explained(ValueError("some\n  thing"), TYPES) == "some thing"
