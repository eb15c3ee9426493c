"""The code of the documentation runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from pyg_kd import Distillation
from pyg_kd.checks import require_count, require_positive
from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.functional import list_scores
from pyg_kd.knowledge import extract_knowledge
from pyg_kd.knowledge.confidence import trusted_lists
from pyg_kd.knowledge.requirements import check_width
from pyg_kd.models import MF
from pyg_kd.training import Trainer

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.md")), ids=lambda path: path.stem)
def test_page_runs(path):
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", path.read_text(), flags=re.DOTALL):
        exec(compile(block, str(path), "exec"), names)
    if path.stem == "tutorial":
        assert 0 < names["metrics"]["recall@20"] < 1
        assert len(names["history"]) == 5
        assert names["better"]["recall@20"] > names["metrics"]["recall@20"]
        assert [len(row) for row in names["lists"]] == [10, 10] and names["foreign"].out_dim == 16
        assert names["found"].difference > 0
    if path.stem == "own_model":
        assert torch.equal(
            names["same"]["user"].teacher_items, names["graph"]["user"].teacher_items
        )
        assert len(names["history"]) == 12 and names["items"].shape == (2, 10)
        assert names["newcomer"].shape == (1, 10) and int(names["newcomer"].min()) >= 0
        assert not {5, 9} & set(names["newcomer"][0].tolist())
        assert names["found"].interval[0] < names["found"].difference < names["found"].interval[1]
        teacher, as_wide, alone, distilled = names["recall"].values()
        assert teacher > 1.1 * as_wide > 0 and distilled > 1.2 * alone > 0
    if path.stem == "serving":
        assert names["code"] == 0 and names["newcomer"]["source"] == "folded"
        assert names["before"][0] not in [item["id"] for item in names["after"]["items"]]
        assert names["reloaded"]["workers"] == 2
    if path.stem == "many_teachers":
        assert names["graph"]["user"].teacher_trajectory.shape[1:] == (3, 4, 100)
        assert names["pointers"][0] == 0 < names["pointers"][-1] <= 3
        assert sorted(names["pointers"]) == names["pointers"]
        assert (
            names["history"]["ConsensusLearning"][3] == 0 < names["history"]["ConsensusLearning"][4]
        )
        for found in (names["metrics"], names["head"], names["together"]):
            assert 0 < found["recall@10"] < 1


GUIDE = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)


@pytest.mark.parametrize(("place", "weight"), [(0, 1e-2), (1, 10.0)])
def test_the_methods_of_the_contributors_guide(place, weight):
    names = {"torch": torch, "Distillation": Distillation, "list_scores": list_scores}
    names |= {"require_count": require_count, "require_positive": require_positive}
    names |= {"trusted_lists": trusted_lists}
    names |= {"check_width": check_width, "softplus": torch.nn.functional.softplus}
    exec(compile(GUIDE[place], "CONTRIBUTING.md", "exec"), names)
    method_cls = names[re.findall(r"class (\w+)\(Distillation\)", GUIDE[place])[0]]
    data = SyntheticInteractions(None, num_users=300, num_items=40, num_edges=2400)[0]
    graph = extract_knowledge(MF(data, 6, init_std=1.0), data, num_items=20)
    history = Trainer(max_epochs=40, batch_size=512, lr=0.01, progress=False).fit(
        MF(graph, 6),
        graph,
        distillations=[(method_cls(), weight)],
    )
    column = history[method_cls.__name__]
    assert 0 < sum(column[-5:]) / 5 < 0.9 * column[0]
    assert repr(method_cls()).startswith(f"{method_cls.__name__}(")
