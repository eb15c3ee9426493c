from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pyg_kd.knowledge import (
    Trajectory,
    attach_trajectories,
    extract_knowledge,
    load_knowledge,
    save_knowledge,
    store,
)
from pyg_kd.models import CML, EASE, MF
from pyg_kd.typing import INTERACTS


@pytest.fixture
def graph(data, teacher):
    return extract_knowledge(teacher, data, num_items=5, num_users=4)


@pytest.fixture
def path(graph, tmp_path: Path) -> Path:
    path = tmp_path / "teacher.safetensors"
    save_knowledge(graph, path)
    return path


def test_round_trip(data, graph, path: Path) -> None:
    loaded = load_knowledge(path, data)
    for node_type, name in (
        ("user", "teacher_x"),
        ("item", "teacher_x"),
        ("user", "teacher_items"),
        ("item", "teacher_users"),
    ):
        assert torch.equal(loaded[node_type][name], graph[node_type][name])
        assert loaded[node_type][name].dtype == graph[node_type][name].dtype
    assert loaded.graph_fingerprint == graph.graph_fingerprint
    assert loaded.teacher_fingerprint == graph.teacher_fingerprint
    assert loaded.teacher_inner_product is True


def with_places(graph):
    graph["user"].teacher_scores = torch.randn(graph["user"].teacher_items.shape)
    graph["user"].teacher_confidence = torch.rand(graph["user"].teacher_items.shape)
    return graph


def test_what_lists_carry(data, graph, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_knowledge(with_places(graph), path)
    loaded = load_knowledge(path, data)
    for name in ("teacher_scores", "teacher_confidence"):
        assert torch.equal(loaded["user"][name], graph["user"][name])
    # Lists of another length, or of another teacher, leave nothing of it.
    again = extract_knowledge(EASE(data, l2=1.0), loaded, num_items=3)
    assert not {"teacher_scores", "teacher_confidence"} & set(again["user"].keys())


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("teacher_scores", lambda x: x[:, 1:], r"must have the shape of the lists, .*, 5"),
        ("teacher_scores", lambda x: x.fill_(torch.nan), "must be finite"),
        ("teacher_confidence", lambda x: x.int(), "must be floating point"),
        ("teacher_confidence", lambda x: x[1:], "has 22 rows for 23"),
        ("teacher_confidence", lambda x: -x - 1, "must be 0 or more .got -1"),
        ("teacher_confidence", torch.zeros_like, "must not be 0 everywhere"),
    ],
)
def test_bad_values_of_places(data, graph, tmp_path: Path, name, change, message) -> None:
    owner = with_places(graph)["user"]
    owner[name] = change(owner[name])
    with pytest.raises(ValueError, match=f"{name}' {message}"):
        save_knowledge(graph, tmp_path / "x.safetensors")
    value = graph["user"][name].contiguous()
    tensors = {f"user.{name}": value, "user.teacher_items": graph["user"].teacher_items}
    metadata = {"format": store.FORMATS[0], "graph_fingerprint": graph.graph_fingerprint}
    save_file(tensors, tmp_path / "y.safetensors", metadata=metadata)
    with pytest.raises(ValueError, match=f"y.safetensors.*{name}' {message}"):
        load_knowledge(tmp_path / "y.safetensors", data)


def test_places_without_lists(data, graph, tmp_path: Path) -> None:
    del with_places(graph)["user"].teacher_items
    with pytest.raises(ValueError, match="must have the shape of the lists, None"):
        save_knowledge(graph, tmp_path / "x.safetensors")


def test_what_is_said_of_another_teacher_is_dropped(data, teacher, tmp_path: Path) -> None:
    graph = extract_knowledge(teacher, data, num_items=5)
    del graph.teacher_inner_product  # as on a graph made by hand
    save_knowledge(graph, tmp_path / "x.safetensors")
    other = extract_knowledge(EASE(data, l2=1.0), data, num_items=5)
    loaded = load_knowledge(tmp_path / "x.safetensors", other)
    assert "teacher_inner_product" not in loaded
    assert other.teacher_inner_product is False


def test_a_score_that_is_no_inner_product(data, tmp_path: Path) -> None:
    save_knowledge(extract_knowledge(CML(data, 4), data, num_items=3), tmp_path / "x.safetensors")
    assert load_knowledge(tmp_path / "x.safetensors", data).teacher_inner_product is False


def test_part_of_the_knowledge(data, teacher, tmp_path: Path) -> None:
    save_knowledge(extract_knowledge(teacher, data, num_items=0), tmp_path / "x.safetensors")
    loaded = load_knowledge(tmp_path / "x.safetensors", data)
    assert "teacher_x" in loaded["user"] and "teacher_items" not in loaded["user"]


def test_the_graph_given_is_left_alone(data, path: Path) -> None:
    loaded = load_knowledge(path, data)
    assert set(data["user"].keys()) == {"num_nodes"} and "graph_fingerprint" not in data
    assert loaded[INTERACTS].edge_index is data[INTERACTS].edge_index


def test_nothing_of_another_teacher_stays(data, graph, path: Path, tmp_path: Path) -> None:
    other = extract_knowledge(MF(data, 2), data, num_items=3)
    save_knowledge(other, tmp_path / "other.safetensors")
    loaded = load_knowledge(tmp_path / "other.safetensors", graph)
    assert loaded["item"].teacher_x.size(1) == 2 and "teacher_users" not in loaded["item"]
    # What is in the file comes to what the same teacher left.
    again = load_knowledge(path, extract_knowledge(MF(data, 2), data, num_items=3))
    assert again["user"].teacher_items.size(1) == 5 and "teacher_users" in again["item"]


def test_a_path_and_a_graph_the_wrong_way_round(data, path: Path) -> None:
    with pytest.raises(TypeError, match=r"'path' must be a path \(got HeteroData\)"):
        load_knowledge(data, path)


def test_order_of_the_edges_does_not_matter(data, path: Path) -> None:
    edges = data[INTERACTS].edge_index
    data[INTERACTS].edge_index = edges[:, torch.randperm(edges.size(1))]
    assert "teacher_x" in load_knowledge(path, data)["user"]


def test_a_name_as_text_and_folders_that_are_missing(graph, data, tmp_path: Path) -> None:
    path = str(tmp_path / "a" / "b" / "teacher.safetensors")
    save_knowledge(graph, path)
    assert "teacher_x" in load_knowledge(path, data)["user"]


def test_knowledge_of_another_graph(data, path: Path) -> None:
    data[INTERACTS].edge_index = data[INTERACTS].edge_index[:, 1:]
    with pytest.raises(ValueError, match=r"teacher\.safetensors' holds knowledge of another graph"):
        load_knowledge(path, data)


def test_missing_file(data, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no knowledge file at .*nothing\.safetensors"):
        load_knowledge(tmp_path / "nothing.safetensors", data)
    with pytest.raises(FileNotFoundError):
        load_knowledge(tmp_path, data)


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_truncated_file(data, path: Path, kept: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(
        ValueError, match=r"teacher\.safetensors' is truncated or not a safetensors"
    ):
        load_knowledge(path, data)


def test_one_byte_short(data, path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="truncated"):
        load_knowledge(path, data)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"format": "pyg_kd.knowledge.0"}])
def test_foreign_file(data, tmp_path: Path, metadata: dict | None) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"user.teacher_x": torch.zeros(23, 3)}, path, metadata=metadata)
    with pytest.raises(ValueError, match=r"other\.safetensors' is not a pyg_kd knowledge file"):
        load_knowledge(path, data)


def test_some_text(data, tmp_path: Path) -> None:
    path = tmp_path / "text.safetensors"
    path.write_text("user,item\n" * 100)
    with pytest.raises(ValueError, match="not a safetensors file"):
        load_knowledge(path, data)


def test_nothing_to_save(data, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no knowledge: call extract_knowledge\(teacher, data\)"):
        save_knowledge(data, tmp_path / "x.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_no_part_of_a_file(graph, tmp_path: Path, monkeypatch) -> None:
    def full_disk(tensors: dict, path: str, metadata: dict) -> None:
        Path(path).write_bytes(b"half of it")
        raise OSError("no space left on device")

    monkeypatch.setattr(store, "save_file", full_disk)
    with pytest.raises(OSError, match="no space"):
        save_knowledge(graph, tmp_path / "x.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_file_before_it(graph, data, path: Path, monkeypatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    before = path.read_bytes()
    monkeypatch.setattr(store, "save_file", broken)
    with pytest.raises(OSError, match="no space"):
        save_knowledge(graph, path)
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


def test_saving_again_replaces(graph, data, path: Path) -> None:
    graph["user"].teacher_x = graph["user"].teacher_x + 1
    save_knowledge(graph, path)
    assert torch.equal(load_knowledge(path, data)["user"].teacher_x, graph["user"].teacher_x)
    assert list(path.parent.iterdir()) == [path]


def test_a_view_is_saved_as_what_it_shows(graph, data, tmp_path: Path) -> None:
    graph["user"].teacher_x = torch.randn(3, 23).t()
    save_knowledge(graph, tmp_path / "x.safetensors")
    loaded = load_knowledge(tmp_path / "x.safetensors", data)
    assert torch.equal(loaded["user"].teacher_x, graph["user"].teacher_x)


def test_what_could_not_be_read_is_not_written(graph, tmp_path: Path) -> None:
    graph["user"].teacher_items = graph["user"].teacher_items + 31
    with pytest.raises(ValueError, match=r"'graph\['user'\]\.teacher_items' must hold ids"):
        save_knowledge(graph, tmp_path / "x.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_whose_knowledge_it_is_has_to_be_known(graph, tmp_path: Path) -> None:
    del graph.graph_fingerprint
    with pytest.raises(ValueError, match="'graph' has no 'graph_fingerprint'"):
        save_knowledge(graph, tmp_path / "x.safetensors")


def test_a_file_has_the_usual_mode_and_a_link_stays(graph, data, tmp_path: Path) -> None:
    target, link, plain = (tmp_path / name for name in ("a.safetensors", "b", "plain"))
    link.symlink_to(target)
    plain.touch()
    save_knowledge(graph, link)
    assert link.is_symlink() and target.stat().st_mode == plain.stat().st_mode
    assert "teacher_x" in load_knowledge(link, data)["user"]


def test_names_of_teachers_with_spaces(graph, data, tmp_path: Path) -> None:
    lists = graph["user"].teacher_items.unsqueeze(1)
    trajectory = Trajectory(lists, lists, graph.graph_fingerprint, "a teacher of mine")
    save_knowledge(attach_trajectories(data, [trajectory]), tmp_path / "x.safetensors")
    loaded = load_knowledge(tmp_path / "x.safetensors", data)
    assert loaded.trajectory_fingerprints == ["a teacher of mine"]


def test_the_same_knowledge_has_the_same_bytes(graph, tmp_path: Path) -> None:
    for place in range(9):  # by chance, one order of four fields comes up nine times in 1e11
        save_knowledge(graph, tmp_path / f"{place}.safetensors")
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
