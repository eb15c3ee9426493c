"""Lists of a model elsewhere that leave out, or know, what is held out here."""

from __future__ import annotations

import pytest
import torch

from pyg_kd.cli.options import Data
from pyg_kd.cli.pipeline import given_lists
from pyg_kd.cli.pipeline.data import read_graphs
from pyg_kd.cli.pipeline.given_lists import doubts
from pyg_kd.knowledge import extract_knowledge, read_lists
from pyg_kd.models import EASE

QUICK = ["--no-progress", "--threads", 1, "--k", "5,10", "--epochs", 1, "--no-baseline"]


@pytest.fixture(scope="module")
def graphs(table):
    return read_graphs(Data(str(table)))


def targets(graph):
    return graph["user", "item"].edge_label_index.t().tolist()


def lists_of(graphs, pairs):
    """Lists of pairs of users and items, in their order."""
    columns = {"user": [], "item": []}
    for user, item in pairs:
        columns["user"].append(graphs.all["user"].raw_id[user])
        columns["item"].append(int(graphs.all["item"].raw_id[item]))
    return read_lists(columns, graphs.train)


def test_lists_of_recommend(run, table, trained, tmp_path):
    words = ["export", trained, tmp_path / "bundle", "--format", "bundle", "--model", "model"]
    assert run(*words).code == 0
    found = {}
    for name, more in (("without", []), ("whole", ["--no-exclude-seen"])):
        lists = tmp_path / f"{name}.csv"
        words = ["recommend", tmp_path / "bundle", "--k", 40, "--out", lists, "--no-progress"]
        assert run(*words, *more).code == 0
        out = tmp_path / name
        found[name] = run("distill", table, "--out", out, "--teacher", f"als+{lists}", *QUICK)
        assert found[name].code == 0, found[name].err
    (line,) = [line for line in found["without"].err.splitlines() if "hold none" in line]
    assert f"warning: the lists in '{tmp_path / 'without.csv'}' hold none of the " in line
    assert "validation and " in line and line.endswith("unless it is given --no-exclude-seen")
    assert "the lists in" not in found["whole"].err


def test_what_is_held_out_is_known(graphs):
    val, test = targets(graphs.val), targets(graphs.test)
    (message,) = doubts("a.csv", lists_of(graphs, val + test), graphs)
    assert "'a.csv' begin with 100% of the validation and 100% of the test interactions" in message
    found = doubts("a.csv", lists_of(graphs, test), graphs)
    assert len(found) == 2 and f"none of the {len(val)} validation interactions" in found[0]
    assert "100% of the test interactions" in found[1]


def test_parts_are_counted_as_a_whole(graphs, monkeypatch):
    half = lists_of(graphs, targets(graphs.val)[::2])
    wanted = {"val": graphs.val["user", "item"].edge_label_index}
    whole = given_lists.look_for(wanted["val"], half, wanted)
    users = {user for user, _ in targets(graphs.val)[::2]}
    total = sum(user in users for user, _ in targets(graphs.val))
    assert whole.total == total  # users without a list don't count
    assert whole.held == whole.first == pytest.approx(len(targets(graphs.val)[::2]) / total)
    monkeypatch.setattr(given_lists, "AT_ONCE", 3)
    assert given_lists.look_for(wanted["val"], half, wanted) == whole


def test_fair_lists(graphs):
    model = EASE(graphs.train)
    assert doubts("a.csv", extract_knowledge(model, graphs.train, num_items=20), graphs) == []


def test_users_with_little_left_do_not_count(graphs):
    val = graphs.val["user", "item"].edge_label_index
    everything = {"val": val, "test": torch.cartesian_prod(torch.arange(60), torch.arange(40)).t()}
    found = given_lists.look_for(val, lists_of(graphs, targets(graphs.val)), everything)
    assert found.held == 1 and found.first == 0
