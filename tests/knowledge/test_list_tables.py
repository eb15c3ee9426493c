from __future__ import annotations

from math import inf, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import HeteroData

from pyg_kd import RelaxedRankingDistillation, SoftLabel, compress, extract_knowledge
from pyg_kd.cli.lists.formats import Lists, format_of
from pyg_kd.datasets import SyntheticInteractions, from_interactions
from pyg_kd.knowledge import Listed, fuse, load_knowledge, read_lists, save_knowledge
from pyg_kd.models import EASE
from pyg_kd.training.validation import Validation
from pyg_kd.transforms import UserSplit
from pyg_kd.typing import INTERACTS


def graph_of(users: list[Any], items: list[Any], edges: list[tuple[int, int]]) -> HeteroData:
    """A graph whose users and items are called as given, in any order."""
    data = HeteroData()
    for key, raw in (("user", users), ("item", items)):
        data[key].num_nodes = len(raw)
        data[key].raw_id = raw if isinstance(raw[0], str) else torch.tensor(raw)
    data[INTERACTS].edge_index = torch.tensor(edges).T
    return data


USERS, ITEMS = [70, 50, 60], ["d", "b", "10", "a"]
SMALL = graph_of(USERS, ITEMS, [(0, 0), (1, 1), (2, 3)])


@given(st.data())
def test_lists_are_those_of_a_sorted_table(draw: st.DataObject) -> None:
    pairs = [(u, i) for u in range(3) for i in range(4)]
    rows = draw.draw(st.permutations(pairs))[: draw.draw(st.integers(4, 12))]
    numbers = st.lists(st.integers(0, 3), min_size=len(rows), max_size=len(rows))
    columns = {
        name: draw.draw(numbers)
        for name in ("rank", "score", "confidence")
        if draw.draw(st.booleans())
    }
    most = draw.draw(st.sampled_from([None, 1, 2, 9]))
    seen = {(0, 0), (1, 1), (2, 3)}
    expected: list[list[tuple[int, float, float]]] = []
    for user in range(3):
        place = [n for n, (u, i) in enumerate(rows) if u == user and (u, i) not in seen]
        place = [n for n in place if columns.get("confidence", {n: 1})[n] > 0]
        if "rank" in columns:
            place.sort(key=lambda n: columns["rank"][n])
        elif "score" in columns:
            place.sort(key=lambda n: -columns["score"][n])
        zero = [0] * len(rows)
        expected.append([
            (rows[n][1], columns.get("score", zero)[n], columns.get("confidence", zero)[n])
            for n in place[:most]
        ])  # fmt: skip
    table = {"user": [USERS[u] for u, _ in rows], "item": [ITEMS[i] for _, i in rows], **columns}
    if not any(expected):
        with pytest.raises(ValueError, match="must list an item that its user has not seen"):
            read_lists(table, SMALL, num_items=most)
        return
    store = read_lists(table, SMALL, num_items=most)["user"]
    width = max(map(len, expected))
    carried = {"score": "teacher_scores", "confidence": "teacher_confidence"}
    assert store.teacher_items.dtype == torch.int32 and store.teacher_items.shape == (3, width)
    for at, (name, pad) in enumerate([("teacher_items", -1), *((n, 0) for n in carried.values())]):
        if name != "teacher_items" and name.removeprefix("teacher_").rstrip("s") not in columns:
            assert name not in store
            continue
        found = [[row[at] for row in some] + [pad] * (width - len(some)) for some in expected]
        assert store[name].tolist() == found


@pytest.mark.parametrize("kind", ["text", "integer", "position"])
@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_files_that_recommend_wrote(tmp_path: Path, kind: str, ending: str) -> None:
    pytest.importorskip("pandas")
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    data = SyntheticInteractions(None, num_users=20, num_items=30, num_edges=150)[0]
    name = {"text": lambda n: f"{n:03d}", "integer": lambda n: 7 - 3 * n, "position": int}[kind]
    for key, size in (("user", 20), ("item", 30)):
        raw = [name(n) for n in range(size)]
        if kind != "position":
            data[key].raw_id = raw if kind == "text" else torch.tensor(raw)
    graph = extract_knowledge(EASE(data), data, num_items=8)
    items = graph["user"].teacher_items[:-1].numpy()  # the last user gets no list
    scores = -np.sort(np.random.default_rng(0).random(items.shape)).astype(np.float32)
    named = np.array([[name(i) for i in row] for row in items.tolist()], dtype=object)
    form = format_of(f"lists.{ending}", text_users=kind == "text", text_items=kind == "text")
    form.write([Lists([name(u) for u in range(19)], named, scores)], tmp_path / "part")
    form.merge([tmp_path / "part"], tmp_path / f"lists.{ending}")
    found = read_lists(tmp_path / f"lists.{ending}", data)["user"]
    assert torch.equal(found.teacher_items[:-1], graph["user"].teacher_items[:-1])
    assert found.teacher_items[-1].tolist() == [-1] * 8
    assert torch.equal(found.teacher_scores[:-1], torch.from_numpy(scores))


def test_columns_by_other_names_and_by_position(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    rows = "70,b,2,.5\n70,10,1,.25\n50,d,9,1\n"
    (tmp_path / "x.csv").write_text(f"who,what,place,sure\n{rows}")
    (tmp_path / "y.csv").write_text(rows)
    named = {"user": "who", "item": "what", "rank": "place", "confidence": "sure"}
    for path, options in ((tmp_path / "x.csv", named), (
        tmp_path / "y.csv", dict(zip(named, range(4), strict=True))
    )):  # fmt: skip
        store = read_lists(path, SMALL, **options)["user"]
        assert store.teacher_items.tolist() == [[2, 1], [0, -1], [-1, -1]]
        assert store.teacher_confidence.tolist() == [[0.25, 0.5], [1, 0], [0, 0]]
        assert "teacher_scores" not in store


def test_ids_that_look_like_numbers(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    long = "9" * 30
    data = graph_of(["007", "7", long], ["1.50", "1.5"], [(0, 0), (1, 1), (2, 0)])
    rows = f"007,1.5\n7,1.50\n{long},1.5\n"
    for path, text, options in (
        (tmp_path / "x.csv", "user,item\n" + rows, {}),
        (tmp_path / "y.csv", rows, {"user": 0, "item": 1}),
    ):
        path.write_text(text)
        assert read_lists(path, data, **options)["user"].teacher_items.tolist() == [[1], [0], [1]]
    # Where ids are numbers, one that is none leaves the others numbers.
    numbers = graph_of([70, -5], [3, 4], [(0, 0), (1, 1)])
    (tmp_path / "z.csv").write_text("user,item\n70,4\n-5,3\nx,4\n\u0667\u0660,4\n7E1,4\n")
    lists = read_lists(tmp_path / "z.csv", numbers, unknown="skip")["user"].teacher_items
    assert lists.tolist() == [[1], [0]]


def test_data_frames_and_tensors() -> None:
    pandas = pytest.importorskip("pandas")
    pyarrow = pytest.importorskip("pyarrow")
    data = from_interactions({"user": [3, 5], "item": [7, 9]})
    table = {"user": [3, 5], "item": torch.tensor([9, 7]), "score": torch.tensor([1.0, 2.0])}
    for given_table in (
        table,
        pandas.DataFrame({k: list(map(float, v)) for k, v in table.items()}),
        pyarrow.table({k: list(map(float, v)) for k, v in table.items()}),
    ):
        store = read_lists(given_table, data)["user"]
        assert store.teacher_items.tolist() == [[1], [0]]
        assert store.teacher_scores.tolist() == [[1], [2]]


def test_what_is_not_of_the_graph() -> None:
    table = {"user": [70, 1, 50, 2], "item": ["b", "b", "x", "d"]}
    for key, message in (
        ("user", "user ids of the graph .got 1, and 2 rows of unknown users in all"),
        ("item", "item ids of the graph .got 'x', and 1 rows of unknown items in all"),
    ):
        some = table if key == "user" else {k: [v[0], v[2]] for k, v in table.items()}
        with pytest.raises(ValueError, match=message):
            read_lists(some, SMALL)
    store = read_lists(table, SMALL, unknown="skip")["user"]
    assert store.teacher_items.tolist() == [[1], [-1], [-1]]
    # Repeated pairs that are not of the graph are left out with the others.
    again = {k: [*v, v[1]] for k, v in table.items()}
    assert torch.equal(
        read_lists(again, SMALL, unknown="skip")["user"].teacher_items, store.teacher_items
    )


GOOD = {"user": [70, 70, 50], "item": ["b", "a", "a"]}


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        ({"user": [70, 70, 70]}, {}, ValueError, "repeat a pair.*user 70 with item 'a'.* 1 rep"),
        ({"score": [1, nan, 2]}, {}, ValueError, "'score' must hold finite numbers .got nan in ro"),
        ({"score": [1, 2, -inf]}, {}, ValueError, "'score' must hold finite.*-inf in row 2"),
        ({"score": [1, 2, 1e300]}, {}, ValueError, "'score' must hold finite.*1e.300 in row 2"),
        ({"score": ["1", "2", "3"]}, {}, TypeError, "'score' must hold numbers"),
        ({"rank": [1, nan, 2]}, {}, ValueError, "'rank' must hold finite numbers"),
        ({"confidence": [1, -0.5, 1]}, {}, ValueError, "numbers of 0 or more .got -0.5 in row 1"),
        ({"confidence": [1, nan, 1]}, {}, ValueError, "numbers of 0 or more .got nan in row 1"),
        ({"confidence": [1, inf, 1]}, {}, ValueError, "numbers of 0 or more .got inf in row 1"),
        ({"confidence": [0, 0, 0]}, {}, ValueError, "a confidence above 0.*none in 3 rows"),
        ({"confidence": [1, 1]}, {}, ValueError, "same length"),
        ({"user": [50], "item": ["b"]}, {}, ValueError, "must list an item .*none in 1 rows"),
        ({"user": [], "item": []}, {}, ValueError, "at least one row"),
        ({"user": [70, None, 50]}, {}, ValueError, "'user' must have no missing values"),
        ({}, {"score": "s"}, ValueError, "'score' must be one of the columns"),
        ({}, {"score": "user"}, ValueError, "must be different columns"),
        ({}, {"unknown": "drop"}, ValueError, "'unknown' must be one of"),
        ({}, {"num_items": 0}, ValueError, "'num_items' must be a positive"),
    ],
)
def test_refused(change, options, error, message) -> None:
    with pytest.raises(error, match=message):
        read_lists({**GOOD, **change}, SMALL, **options)


def test_tables_and_files_of_other_kinds(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"'table' must be a path, a data frame or.*got int"):
        read_lists(3, SMALL)
    with pytest.raises(FileNotFoundError, match="'table' must be an existing file"):
        read_lists(tmp_path / "none.csv", SMALL)
    with pytest.raises(ValueError, match="'table' must be a file that ends in"):
        read_lists(tmp_path / "lists.jsonl", SMALL)


def test_the_source_is_named() -> None:
    known = extract_knowledge(EASE(SMALL), SMALL)
    graph = read_lists(GOOD, known)
    assert set(SMALL["user"].keys()) == {"num_nodes", "raw_id"}
    assert graph.graph_fingerprint == known.graph_fingerprint
    assert graph.teacher_fingerprint != known.teacher_fingerprint
    assert graph.teacher_inner_product is False and "teacher_x" not in graph["user"]
    same = {k: v[::-1] for k, v in GOOD.items()}
    others = [same, {**GOOD, "score": [3, 2, 1]}, {**GOOD, "confidence": [3, 2, 1]}]
    found = {read_lists(table, SMALL).teacher_fingerprint for table in (GOOD, GOOD, *others)}
    assert len(found) == 4


@pytest.fixture(scope="module")
def split():
    return UserSplit(seed=0)(
        SyntheticInteractions(None, num_users=90, num_items=60, num_edges=1800)[0]
    )


def table_of(graph: HeteroData) -> dict[str, Any]:
    lists = graph["user"].teacher_items
    user, place = (lists >= 0).nonzero(as_tuple=True)
    confidence = 1 / (1 + place.double())
    return {
        "user": user,
        "item": lists[user, place].long(),
        "rank": place,
        "confidence": confidence,
    }


def test_they_teach_like_any_other(split, tmp_path: Path) -> None:
    train, val, _ = split
    teacher = extract_knowledge(EASE(train), train, num_items=30)
    graph = read_lists(table_of(teacher), train)
    assert torch.equal(graph["user"].teacher_items, teacher["user"].teacher_items)
    save_knowledge(graph, tmp_path / "x.safetensors")
    loaded = load_knowledge(tmp_path / "x.safetensors", train)
    assert torch.equal(loaded["user"].teacher_confidence, graph["user"].teacher_confidence)
    value = Validation(train, val, "recall@20")
    assert value.of_teacher(graph) == value.of_teacher(teacher)
    # Equal lists, fused with a confidence that falls, keep their order.
    fused = fuse([graph, teacher])
    assert torch.equal(fused["user"].teacher_items, teacher["user"].teacher_items)
    _, report = compress(train, val, dim=4, teachers=[graph, teacher], epochs=3, progress=False)
    assert report.names[2:4] == ["given lists", "given lists"]
    for method in (SoftLabel(), RelaxedRankingDistillation(num_interesting=9)):
        method.bind(graph, 4)


def test_places_of_no_confidence_are_not_ranked(split) -> None:
    train, val, _ = split
    graph = extract_knowledge(EASE(train), train, num_items=30)
    confidence = torch.ones(90, 30)
    confidence[:, 3:9] = 0
    graph["user"].teacher_confidence = confidence
    lists = graph["user"].teacher_items
    shorter = extract_knowledge(EASE(train), train, num_items=30)
    shorter["user"].teacher_items = torch.cat(
        [lists[:, :3], lists[:, 9:], torch.full_like(lists[:, :6], -1)], 1
    )
    value = Validation(train, val, "recall@20").of_teacher
    assert value(graph) == value(shorter) != value(extract_knowledge(EASE(train), train))
    assert torch.equal(Listed(graph).lists, shorter["user"].teacher_items)


def test_a_teacher_of_some_users(split) -> None:
    train, val, _ = split
    teacher = extract_knowledge(EASE(train), train, num_items=30)
    table = table_of(teacher)
    some = {name: column[table["user"] < 60] for name, column in table.items()}
    options = {"dim": 4, "epochs": 2, "progress": False}
    _, report = compress(train, val, teachers=[read_lists(some, train)], **options)
    assert "ensemble" in report.names and report.value("ensemble") is None
