from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyg_kd.datasets.adjacency_lists import read_lists

LINE = st.lists(st.integers(0, 10**12), min_size=1, max_size=6)


@given(
    lines=st.lists(LINE, min_size=1, max_size=8),
    gap=st.sampled_from([" ", "\t", "  "]),
    end=st.sampled_from(["\n", "\r\n", " \n", "\n\n"]),
    closed=st.booleans(),
)
def test_reads_what_a_line_by_line_reader_reads(
    lines: list[list[int]],
    gap: str,
    end: str,
    closed: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("lists") / "a.txt"
    text = end.join(gap.join(map(str, line)) for line in lines) + (end if closed else "")
    path.write_bytes(text.encode())
    expected = [[int(v) for v in line.split()] for line in text.splitlines() if line.split()]
    lists = read_lists(path)
    assert lists.head.tolist() == [line[0] for line in expected]
    assert lists.size.tolist() == [len(line) - 1 for line in expected]
    assert lists.value.tolist() == [v for line in expected for v in line[1:]]
    assert lists.row.tolist() == [n for n, line in enumerate(expected) for _ in line[1:]]


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_empty_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(ValueError, match=r"a\.txt' is empty"):
        read_lists(tmp_path / "a.txt")


@pytest.mark.parametrize("stray", ["x", "-3", "1.5", "<html>"])
def test_anything_but_integers_is_refused_with_its_line(tmp_path: Path, stray: str) -> None:
    (tmp_path / "a.txt").write_text(f"0 1\n1 {stray}\n")
    with pytest.raises(ValueError, match=r"must hold non-negative integers .got '.' on line 2"):
        read_lists(tmp_path / "a.txt")
    (tmp_path / "a.txt").write_text("<html>")
    with pytest.raises(ValueError, match=r"must hold non-negative integers .got '<' on line 1"):
        read_lists(tmp_path / "a.txt")


@pytest.mark.parametrize("number", ["9223372036854775808", "1234567890123456789", "9" * 40])
def test_integers_that_may_exceed_64_bits_are_refused(tmp_path: Path, number: str) -> None:
    (tmp_path / "a.txt").write_text(f"0 1\n1 999999999999999999\n2 3 {number}\n")
    with pytest.raises(ValueError, match=rf"at most 18 digits .got {number} on line 3"):
        read_lists(tmp_path / "a.txt")
