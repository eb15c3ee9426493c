"""From a trained model to a bundle: what is served, and what the manifest tells of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pyg_kd.datasets import SyntheticInteractions, from_interactions
from pyg_kd.graph import interactions
from pyg_kd.knowledge import extract_knowledge
from pyg_kd.knowledge.requirements import graph_fingerprint, model_fingerprint
from pyg_kd.models import EASE, MF, LightGCN, MultVAE
from pyg_kd.retrieval import BundleError, Table, TopKIndex, load_student, save_student
from pyg_kd.retrieval.bundle.precision_loss import precision_loss
from pyg_kd.retrieval.seen import Seen
from pyg_kd.transforms import UserSplit
from pyg_kd.typing import INTERACTS
from tests.retrieval.bundles import answers, contents, fields_of


@pytest.fixture(scope="module")
def graphs():
    data = SyntheticInteractions(None, num_users=60, num_items=40, num_edges=900, seed=0)[0]
    return UserSplit(seed=0)(data)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "int4"])
@pytest.mark.parametrize("make", [lambda g: MF(g, 6), lambda g: LightGCN(g, 6, num_layers=2)])
def test_lists_are_those_of_the_model(tmp_path, graphs, dtype, make):
    graph = graphs[0]
    model = make(graph)
    save_student(model, tmp_path, graph=graph, dtype=dtype)
    loaded = load_student(tmp_path)
    assert answers(loaded)[1:3] == answers(TopKIndex.from_model(model, graph, dtype=dtype))[1:3]
    if dtype == "float32":
        rows, scores = model.recommend(graph, k=5)
        items, values = loaded.search(np.arange(60), 5)
        assert np.array_equal(items, rows.numpy())
        assert np.allclose(values, scores.numpy(), rtol=1e-5)


def test_what_the_manifest_tells(tmp_path, graphs):
    train = graphs[0]
    teacher, student = LightGCN(train, 8), MF(train, 4)
    graph = extract_knowledge(teacher, train, num_items=5)
    metrics = {"recall@20": torch.tensor(0.25), "ndcg@20": np.float32(0.5)}
    told = save_student(student, tmp_path, graph=graph, metrics=metrics)
    assert told == fields_of(tmp_path)
    assert told["name"] == "MF" and told["precision"] is None
    assert told["model"] == {
        "class": "MF",
        "repr": repr(student),
        "fingerprint": model_fingerprint(student),
    }
    assert told["graph"] == {"fingerprint": graph_fingerprint(train)}
    assert told["teacher"] == {"fingerprint": model_fingerprint(teacher)}
    assert told["metrics"] == {"recall@20": 0.25, "ndcg@20": 0.5}
    assert told["versions"]["torch"] == torch.__version__
    assert told["interactions"] == train[INTERACTS].edge_index.size(1)
    assert told["fold_in"]["report"]["chosen"]


def test_teachers(tmp_path, graphs):
    graph = graphs[0]
    teacher = MF(graph, 8)
    digest = model_fingerprint(teacher)
    for given, wanted in (
        (None, None),
        (teacher, {"fingerprint": digest, "class": "MF"}),
        ("a teacher of mine", {"fingerprint": "a teacher of mine"}),
        ({"width": torch.tensor(200)}, {"width": 200}),
    ):
        told = save_student(MF(graph, 4), tmp_path, graph=graph, teacher=given, fold_in=None)
        assert told["teacher"] == wanted
        assert told["fold_in"]["report"] is None


def test_ids_of_the_graph_and_others(tmp_path):
    pairs = [("anna", "x"), ("bob", "y"), ("anna", "z")]
    graph = from_interactions([[0, 1, 0], [0, 1, 2]])
    graph["user"].raw_id = torch.tensor([70, 80])
    model = MF(graph, 4)
    ids = {"user_ids": ["anna", "bob"], "item_ids": ["x", "y", "z"]}
    save_student(model, tmp_path, graph=graph, name="named", **ids)
    loaded = load_student(tmp_path)
    assert loaded.info["name"] == "named"
    for user, item in pairs:
        assert item not in loaded.search([user], 3)[0]
    save_student(model, tmp_path, graph=graph)
    assert load_student(tmp_path).users.find([80, 70]).tolist() == [1, 0]


def test_seen_items_beyond_the_training_graph(tmp_path, graphs):
    train, _, test = graphs  # messages of the test graph are those of training and validation
    model = MF(train, 4)
    edges = interactions(test).by_user()
    for seen in (test, (edges.ptr.numpy(), edges.col.numpy())):
        told = save_student(model, tmp_path, graph=train, seen=seen)
        assert told["interactions"] == len(edges.col) > train[INTERACTS].edge_index.size(1)
        lists = load_student(tmp_path).search(np.arange(60), 40)[0]
        for user, listed in enumerate(lists.tolist()):
            assert not {*listed} & {*edges.col[edges.ptr[user] : edges.ptr[user + 1]].tolist()}


@pytest.mark.parametrize("dtype", ["float16", "int8", "int4"])
def test_what_a_precision_costs(tmp_path, graphs, dtype):
    train, val, _ = graphs
    model = MF(train, 6)
    told = save_student(model, tmp_path, graph=train, dtype=dtype, validation=val)["precision"]
    full = TopKIndex.from_model(model, train)
    lists = [
        index.search(np.arange(60), 20)[0].tolist() for index in (full, load_student(tmp_path))
    ]
    wanted: list[set[int]] = [set() for _ in range(60)]
    for user, item in val[INTERACTS].edge_label_index.t().tolist():
        wanted[user].add(item)
    users = [u for u in range(60) if wanted[u]]
    shared = sum(len(({*lists[0][u]} & {*lists[1][u]}) - {-1}) for u in users)
    listed = sum(len({*lists[0][u]} - {-1}) for u in users)
    recall = [
        np.mean([len({*found[u]} & wanted[u]) / len(wanted[u]) for u in users]) for found in lists
    ]
    assert told["users"] == len(users) and told["k"] == 20 and told["compared_with"] == "float32"
    assert told["overlap"] == pytest.approx(shared / listed, abs=1e-6)
    assert [*told["recall"]] == ["float32", dtype]
    assert [*told["recall"].values()] == pytest.approx(recall, abs=1e-6)


def test_many_users_are_sampled(monkeypatch):
    from pyg_kd.retrieval.bundle import precision_loss as module

    monkeypatch.setattr(module, "SAMPLE", 7)
    x = Table.of(np.random.default_rng(0).normal(size=(30, 3)))
    seen = Seen(np.zeros(31, int), [], 30)
    told = precision_loss((x, x), (x, x), seen)
    assert told["users"] == 6 and told["overlap"] == 1.0 and told["recall"] is None


def test_users_as_a_function_of_their_items(tmp_path, graphs):
    graph = graphs[0]
    torch.manual_seed(0)
    model = MultVAE(graph, hidden_dim=6, dim=4)
    save_student(model, tmp_path, graph=graph)
    loaded = load_student(tmp_path)
    assert any("encoder" in name for name in loaded.info["fold_in"]["report"]["tried"])
    history = loaded.seen.history(5)
    vector = loaded.fold_in([0, len(history)], history)
    if loaded.fold_in.kind == "encoder":
        assert np.allclose(vector, loaded.vectors([5]), rtol=1e-4, atol=1e-5)


def test_the_model_and_the_graph_are_left_alone(tmp_path, graphs):
    graph = graphs[0]
    model = LightGCN(graph, 4)
    model.train()
    before = {name: x.clone() for name, x in model.state_dict().items()}
    keys = {store: sorted(graph[store].keys()) for store in ("user", "item")}
    save_student(model, tmp_path, graph=graph, dtype="int8")
    assert model.training and all(torch.equal(x, before[n]) for n, x in model.state_dict().items())
    assert keys == {store: sorted(graph[store].keys()) for store in ("user", "item")}


def test_saving_is_repeatable(tmp_path, graphs):
    graph = graphs[0]
    torch.manual_seed(1)
    model = MF(graph, 4)
    files = [save_student(model, tmp_path / n, graph=graph, dtype="int8")["files"] for n in "ab"]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int2"}, r"'dtype' must be one of .*\(got 'int2'\)"),
        ({"fold_in": "best"}, r"'fold_in' must be 'auto' or None \(got 'best'\)"),
        ({"validation": ([0, 1], [0])}, r"'validation' must be of 60 users \(got 1\)"),
        ({"validation": ([0] * 60 + [1], [40])}, r"'validation.col' must lie in 0..39 \(got 40\)"),
        ({"validation": "TRAIN"}, r"'validation' has no 'edge_label_index'"),
        ({"seen": ([0, 0], [])}, r"'seen' must be of 60 users \(got 1\)"),
        ({"metrics": {"recall": float("inf")}}, "not JSON compliant"),
        ({"item_ids": ["a", "b"]}, r"'item_ids' must be 40 ids \(got 2\)"),
        ({"user_ids": [0] * 60}, r"user ids must be distinct \(got 0 twice\)"),
    ],
)
def test_wrong_options_leave_the_bundle_before_them(tmp_path, graphs, options, message):
    graph = graphs[0]
    save_student(MF(graph, 4), tmp_path / "a", graph=graph, fold_in=None)
    before = contents(tmp_path / "a")
    options = {n: graph if given == "TRAIN" else given for n, given in options.items()}
    for folder in "ab":
        with pytest.raises(ValueError, match=message):
            save_student(MF(graph, 2), tmp_path / folder, graph=graph, **options)
    assert contents(tmp_path / "a") == before and not (tmp_path / "b").exists()


def test_scores_that_are_no_inner_products(tmp_path, graphs):
    with pytest.raises(ValueError, match="which scores of EASE are not"):
        save_student(EASE(graphs[0]), tmp_path / "a", graph=graphs[0])


def test_other_folders_are_not_replaced(tmp_path, graphs):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match="other things in it"):
        save_student(MF(graphs[0], 4), tmp_path, graph=graphs[0])
