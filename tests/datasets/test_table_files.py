from __future__ import annotations

import builtins
import csv
import gzip
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyg_kd.datasets import from_interactions, table_files
from pyg_kd.typing import INTERACTS, ITEM, USER
from tests.parquets import damaged_parquet

pytest.importorskip("pandas")


def _write(path: Path, content: str | bytes) -> Path:
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def _refused(path: Path, content: str | bytes, message: str, **options: Any) -> None:
    with pytest.raises(ValueError, match=message):
        from_interactions(_write(path, content), **options)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "user,item,time\n7,b,1\n5,a,2\n"),
        ("a.CSV.gz", "user,item,time\r\n7,b,1\r\n5,a,2"),
        ("a.tsv", "user\titem\ttime\n7\tb\t1\n\n5\ta\t2\n"),
        ("a.tsv.gz", "\ufeffuser\titem\ttime\r7\tb\t1\r5\ta\t2\r"),
        ("a.dat", "user::item::time\n7::b::1\n5::a::2\n"),
        ("a.dat", "user\titem\ttime\n7\tb\t1\n5\ta\t2\n"),
        ("a.dat.gz", "\nuser  item time\n 7 b   1\n\t5 a 2 \n"),
        ("a.dat", "user::item::time::x\n7::b::1::\x1f\n5::a::2::\x1e\n"),
        ("a.dat", "user|item|time\n7|b|1\n5|a|2\n"),
        ("a.csv", 'note,user,item,time\n"x, y",7,b,1\n"line\nbreak ""q""",5,"a",2\n'),
        ("a.csv", "item,extra,extra,time,user\nb,,é,1,7\na,0,,2,5\n"),
    ],
)
def test_text_files(tmp_path: Path, name: str, text: str) -> None:
    data = from_interactions(_write(tmp_path / name, text), time="time")
    assert data[USER].raw_id.tolist() == [5, 7]
    assert data[ITEM].raw_id == ["a", "b"]
    assert data[INTERACTS].edge_index.tolist() == [[0, 1], [0, 1]]
    assert data[INTERACTS].time.tolist() == [2, 1]


def test_positions_stand_for_a_missing_header(tmp_path: Path) -> None:
    path = _write(tmp_path / "ratings.dat", "7::30::5::978300760\n5::10::3::978302109\n")
    data = from_interactions(path, user=0, item=1, time=3)
    assert data[USER].raw_id.tolist() == [5, 7]
    assert data[ITEM].raw_id.tolist() == [10, 30]
    assert data[INTERACTS].time.tolist() == [978302109, 978300760]
    _refused(path, "7::30\n", r"'time' must be one of .* \(got 3\)", user=0, item=1, time=3)
    _refused(path, "7::30\n", r"\['7', '30'\] \(got 'user'\): .* such as 0 for the user")


# Given the extra field, pandas alone takes the first column for an index: users become items.
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user,item\n1,2,3\n4,5,6\n", r"line 2 of .*a.csv' must have 2 fields \(got 3\)"),
        ("user,item\n1,2,\n", r"line 2 of .* must have 2 fields \(got 3\)"),
        ("user,item,time\n1,2,3\n\n1,4\n", r"line 4 of .* must have 3 fields \(got 2\)"),
        ('user,item\n"a\nb",1\n2,3,4\n', r"line 4 of .* must have 2 fields \(got 3\)"),
        ('user,item\n1,2\n"3,4\n5,6\n', r"line 3 of .* is malformed \(.*end of data\)"),
        ("user;item\n1;2\n", r"'user' must be one of the columns \['user;item'\]"),
        ("user,item,item\n1,2,3\n", r"'item' must name one column"),
        ("user,item\n1,2\n3,\n", r"column 'item' must have no missing values \(got 1\)"),
        ("user,item\n1,2\nNA,3\n", r"column 'user' must have no missing values \(got 1\)"),
        ("user,item\n", r"must hold at least one interaction"),
        ("", r"'table' must not be an empty file"),
        (" \n\n", r"'table' must not be an empty file"),
        ("user,item\n1,a\n2,\u00e9".encode("latin-1"), r"UTF-8 \(got byte 233 on line 3\)"),
        ("user,item\n1,2\n".encode("utf-16"), r"must be text in UTF-8 \(got byte 255 on line 1"),
        (b"user,item\n1,2\0\n", r"must be text in UTF-8 \(got byte 0 on line 2\)"),
        ("user,item\n1.5,2\n", r"column 'user' must hold .* whole numbers .* \(got 1.5\)"),
    ],
)
def test_bad_text_files(tmp_path: Path, text: str | bytes, message: str) -> None:
    _refused(tmp_path / "a.csv", text, message)


@pytest.mark.parametrize(
    "ids", [["18446744073709551616", "1"], ["-1", "9223372036854775808"], ["9223372036854775808"]]
)
def test_integers_beyond_64_bits(tmp_path: Path, ids: list[str]) -> None:
    path = tmp_path / "a.csv"
    longest = max(ids, key=len)
    rows = "".join(f"{n},{n},{value}\n" for n, value in enumerate(ids))
    message = rf"column 'x'.* must hold 64-bit integers \(got {longest}\)"
    _refused(path, "user,item,x\n" + rows, message, item="x")
    _refused(path, "user,item,x\n" + rows, message, time="x")
    # Beside an id that is none, they are strings like it.
    data = from_interactions(_write(path, "user,item,x\n" + rows + "8,9,id\n"), item="x")
    assert data[ITEM].raw_id == sorted([*ids, "id"])


def test_mixed_ids_read_the_same_in_short_and_long_files(tmp_path: Path) -> None:
    lines = [f"{n % 900},{n % 7}" for n in range(100_000)]
    short = from_interactions(_write(tmp_path / "a.csv", "user,item\n001,1\nx,2\n"))
    assert short[USER].raw_id == ["001", "x"]
    text = "\n".join(["user,item", *lines, "x,2"])
    long = from_interactions(_write(tmp_path / "a.csv", text))
    assert long[USER].raw_id == sorted({str(n) for n in range(900)} | {"x"})


@pytest.mark.parametrize(
    "ids",
    [
        ["1E5", "100000", "12E3", "7"],
        ["1e5", "1e05"],
        ["inf", "Infinity", "1.0"],
        ["1.5", "1e2"],
        ["True", "true", "FALSE"],
        ["1", "\u0663"],
        ["9" * 20, "1\u0663"],
    ],
)
def test_ids_that_only_look_like_numbers_are_strings(tmp_path: Path, ids: list[str]) -> None:
    text = "".join(f"{n},{item},1e{n}\n" for n, item in enumerate(ids))
    path = _write(tmp_path / "a.csv", "user,item,time\n" + text)
    data = from_interactions(path, time="time")
    assert data[ITEM].raw_id == sorted(ids)
    assert data[USER].raw_id.tolist() == [*range(len(ids))]
    assert data[INTERACTS].time.tolist() == [10.0**n for n in range(len(ids))]
    data = from_interactions(_write(path, text), item=0, user=1)
    assert data[USER].raw_id == sorted(ids)


def test_ids_written_with_a_point_are_integers(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.csv", "item,user\n7.0,x\n+8.,x\n 09,x\n-0.00,x\n")
    assert from_interactions(path)[ITEM].raw_id.tolist() == [0, 7, 8, 9]


@pytest.mark.parametrize("cut", [10, -9])
def test_damaged_gzip(tmp_path: Path, cut: int) -> None:
    path = _write(tmp_path / "a.csv.gz", "user,item\n1,2\n" * 9)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"a.csv.gz' is not a whole gzip file"):
        from_interactions(path)
    path.write_text("user,item\n1,2\n")
    with pytest.raises(ValueError, match=r"a.csv.gz' is not a whole gzip file"):
        from_interactions(path)


FIELD = st.text("ab1 ", max_size=3)


@given(
    rows=st.lists(st.lists(FIELD, min_size=1, max_size=4), max_size=9),
    block=st.integers(1, 12),
    closed=st.booleans(),
)
def test_ragged_lines_are_those_of_the_csv_module(
    rows: list[list[str]], block: int, closed: bool
) -> None:
    text = "\n".join(map(",".join, rows)) + ("\n" if closed else "")
    lines = text.split("\n")
    expected = next(
        (
            (n, len(row))
            for n, row in enumerate(csv.reader(lines), 1)
            if len(row) != 3 and "".join(row).strip() + "," * (len(row) - 1)
        ),
        None,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_files, "_BLOCK", block)
        assert table_files._ragged_line(text.encode(), ",", 3) == expected


def test_parquet(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    path = tmp_path / "a.parquet"
    frame = pandas.DataFrame({"user": [7, 5, 5], "item": [*"baa"], "other": [[1], [], [2]]})
    for table in (frame, frame.set_index("user")):
        table.to_parquet(path)
        data = from_interactions(path)
        assert data[USER].raw_id.tolist() == [5, 7]
        assert data[ITEM].raw_id == ["a", "b"]
    with pytest.raises(ValueError, match=r"'time' must be one of .*'other'.* \(got 'when'\)"):
        from_interactions(path, time="when")
    with pytest.raises(TypeError, match=r"column 'other' must hold .* \(got ndarray\)"):
        from_interactions(path, item="other")
    whole = path.read_bytes()
    for content in (whole[:-9], b"", whole[:200] + bytes(100) + whole[300:]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a.parquet' is not a readable Parquet file"):
            from_interactions(path)


@pytest.mark.parametrize(("suffix", "package"), [("csv", "pandas"), ("parquet", "pyarrow")])
def test_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, package: str
) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_text("user,item\n1,2\n")
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == package:
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=rf"needs {package}: pip install 'pyg_kd\[tables\]'"):
        from_interactions(path)


def test_checksums_of_parquet_pages_are_verified(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    damaged_parquet(path)
    with pytest.raises(ValueError, match=r"a.parquet' is not a readable Parquet file .*CRC"):
        from_interactions(path)
