"""The code of the documentation runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import wraps
from pathlib import Path
from socket import socket

import matplotlib
import pandas
import pytest
import torch

from pyg_kd import Distillation
from pyg_kd.checks import require_count, require_positive
from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.functional import gather_rows, list_scores
from pyg_kd.knowledge import extract_knowledge
from pyg_kd.knowledge.confidence import trusted_lists
from pyg_kd.knowledge.requirements import check_width
from pyg_kd.loader import LinkNeighborLoader, triples
from pyg_kd.models import MF, LightGCN
from pyg_kd.training import Trainer
from tests.pages import blocks, cells, pages, run

ROOT = Path(__file__).parent.parent
NOTEBOOKS = [path for path in pages() if cells(path)]
#: What needs a shell; it has a test of its own.
ELSEWHERE = {"csv_to_service"}
SLOW = {
    "consensus_learning",
    "first_student",
    "topology",
    "write_a_method",
    "diagnostics",
    "refresh",
}
#: Its Python takes a file of the reader's.
NOT_RUN = {"studies"}


def marked(path):
    marks = [pytest.mark.slow] if path.stem in SLOW else []
    return pytest.param(path, id=f"{path.parent.name}-{path.stem}", marks=marks)


@pytest.mark.parametrize(
    "path", [marked(p) for p in pages() if blocks(p) and p.stem not in NOT_RUN]
)
def test_page_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run(blocks(path), path)
    if path.stem == "serving":
        assert names["code"] == 0 and names["newcomer"]["source"] == "folded"
        assert names["before"][0] not in [item["id"] for item in names["after"]["items"]]
        assert names["reloaded"]["workers"] == 2


@pytest.mark.parametrize("path", [marked(p) for p in NOTEBOOKS if p.stem not in ELSEWHERE])
def test_notebook_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if path.parent.name == "methods" and path.stem not in SLOW:
        # Its code is run here; its numbers are those of the build.
        limit_epochs(monkeypatch, 12 if path.stem == "ranking_distillation" else 6)
    with matplotlib.rc_context():
        names = run(cells(path), path)
    check = CHECKS.get(path.stem)
    if check is not None:
        check(names)


def limit_epochs(monkeypatch, most):
    start = Trainer.__init__

    @wraps(start)
    def shorter(self, *, max_epochs=15, **options):
        start(self, max_epochs=min(max_epochs, most), **options)

    monkeypatch.setattr(Trainer, "__init__", shorter)


def first_student(names):
    assert 0.4 < names["metrics"]["recall@20"] < names["better"]["recall@20"] < 1
    assert [len(row) for row in names["lists"]] == [10, 10] and names["foreign"].out_dim == 16
    assert names["found"].difference > 0 and names["found"].adjusted < 0.01


def own_model(names):
    assert torch.equal(names["same"]["user"].teacher_items, names["graph"]["user"].teacher_items)
    assert len(names["history"]) == 12 and names["items"].shape == (2, 10)
    assert names["newcomer"].shape == (1, 10) and int(names["newcomer"].min()) >= 0
    assert not {5, 9} & set(names["newcomer"][0].tolist())
    assert names["found"].interval[0] < names["found"].difference < names["found"].interval[1]
    teacher, as_wide, alone, distilled = names["recall"].values()
    assert teacher > 1.1 * as_wide > 0 and distilled > 1.2 * alone > 0
    state = names["shop_teacher"].state_dict()
    with pytest.raises(ValueError, match="with num_layers=2, the model has num_layers=1"):
        names["ShopGNN"](names["taught"], dim=32, num_layers=1).load_state_dict(state)


def heterogeneous_teachers(names):
    assert names["graph"]["user"].teacher_trajectory.shape[1:] == (3, 4, 100)
    assert names["pointers"][0] == 0 < names["pointers"][-1] <= 3
    assert sorted(names["pointers"]) == names["pointers"]
    assert names["history"]["ConsensusLearning"][3] == 0 < names["history"]["ConsensusLearning"][4]
    for found in (names["metrics"], names["head"], names["together"]):
        assert 0 < found["recall@10"] < 1


def topology(names):
    taught, alone, full = names["taught"], names["alone"], names["full"]
    assert set(taught.nodes) == set(names["topology"](alone).nodes)
    of_teacher, pairs = names["of_teacher"], names["above"]
    apart = [
        (names["cosines"](model) - of_teacher)[pairs].square().sum() for model in (alone, full)
    ]
    assert apart[1] < apart[0]  # what FTD minimises


def read_a_study(names):
    table = names["beside"].tables[0]
    control = dict(zip(table.header, table.rows[1], strict=True))
    assert control["Row"] == "RRD, shuffled teacher"
    # What the page says of its row: that users alone would call a difference is not one.
    assert float(control["p, users"]) < 0.05 < float(control["p, both"])
    assert names["report"].is_file() and names["up"] > names["down"]


CHECKED = first_student, own_model, heterogeneous_teachers, topology, read_a_study
CHECKS = {check.__name__: check for check in CHECKED}


@pytest.mark.slow
def test_a_csv_becomes_a_service(tmp_path):
    """The commands of the tutorial, in one shell, one after another."""
    (page,) = [path for path in NOTEBOOKS if path.stem == "csv_to_service"]
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    script = "".join(cell.removeprefix("%%bash\n") for cell in cells(page)).replace("8321", port)
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path, env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    known, unknown = (
        json.loads(line) for line in re.findall(r'{"items":.*?"unknown":0}', done.stdout)
    )
    assert (known["source"], unknown["source"]) == ("model", "folded")
    listed = pandas.read_csv(tmp_path / "lists.csv")
    own = listed[listed["user"] == "reader-1"]["item"].tolist()
    assert [item["id"] for item in known["items"]] == own
    assert all(item["id"].startswith(("poetry", "travel")) for item in unknown["items"])
    assert '"event":"stopped"' in done.stdout


def test_the_guide_and_the_tutorial_show_the_same_methods():
    (page,) = [path for path in NOTEBOOKS if path.stem == "write_a_method"]
    tutorial = "\n".join(cells(page))
    assert all(block in tutorial for block in GUIDE[:2])


GUIDE = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)


def guide_method(place):
    names = {"torch": torch, "Distillation": Distillation, "list_scores": list_scores}
    names |= {"require_count": require_count, "require_positive": require_positive}
    names |= {"trusted_lists": trusted_lists, "gather_rows": gather_rows}
    names |= {"check_width": check_width, "softplus": torch.nn.functional.softplus}
    exec(compile(GUIDE[place], "CONTRIBUTING.md", "exec"), names)
    return names[re.findall(r"class (\w+)\(Distillation\)", GUIDE[place])[0]]


@pytest.fixture(scope="module")
def taught():
    torch.manual_seed(0)
    data = SyntheticInteractions(None, num_users=300, num_items=40, num_edges=2400)[0]
    return extract_knowledge(MF(data, 6, init_std=1.0), data, num_items=20)


@pytest.mark.parametrize(("place", "weight"), [(0, 1e-2), (1, 10.0)])
def test_the_methods_of_the_contributors_guide(place, weight, taught):
    method_cls, graph = guide_method(place), taught
    history = Trainer(max_epochs=40, batch_size=512, lr=0.01, progress=False).fit(
        MF(graph, 6),
        graph,
        distillations=[(method_cls(), weight)],
    )
    column = history[method_cls.__name__]
    assert 0 < sum(column[-5:]) / 5 < 0.9 * column[0]
    assert repr(method_cls()).startswith(f"{method_cls.__name__}(")


@pytest.mark.parametrize("place", [0, 1])
def test_the_methods_of_the_guide_on_sampled_neighbours(place, taught):
    """In the trainer, which samples around what they say they read, to the same loss."""
    columns = []
    for num_neighbors in (None, [-1]):
        torch.manual_seed(0)
        student = LightGCN(taught, 6, num_layers=1)
        trainer = Trainer(
            max_epochs=1, batch_size=512, loss="bpr", num_neighbors=num_neighbors, progress=False
        )
        method_cls = guide_method(place)
        history = trainer.fit(student, taught, distillations=[(method_cls(), 1.0)])
        columns.append(history[method_cls.__name__][0])
    assert columns[0] == pytest.approx(columns[1], rel=1e-4)


def test_the_first_method_of_the_guide_on_a_loader(taught):
    """It reads the batch alone, which the seeds of a link loader are."""
    method, student = guide_method(0)().bind(taught, 6), LightGCN(taught, 6, num_layers=1)
    loader = LinkNeighborLoader(taught, [3], batch_size=8, neg_sampling="triplet")
    subgraph = next(iter(loader))
    assert subgraph["user"].num_nodes < 300
    assert method(student(subgraph), subgraph, triples(subgraph)).isfinite()
