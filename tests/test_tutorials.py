"""The code of the documentation runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.md")), ids=lambda path: path.stem)
def test_page_runs(path):
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", path.read_text(), flags=re.DOTALL):
        exec(compile(block, str(path), "exec"), names)
    if path.stem == "tutorial":
        assert 0 < names["metrics"]["recall@20"] < 1
        assert len(names["history"]) == 5
    if path.stem == "many_teachers":
        assert names["graph"]["user"].teacher_trajectory.shape[1:] == (3, 4, 100)
        assert names["pointers"][0] == 0 < names["pointers"][-1] <= 3
        assert sorted(names["pointers"]) == names["pointers"]
        assert (
            names["history"]["ConsensusLearning"][3] == 0 < names["history"]["ConsensusLearning"][4]
        )
        for found in (names["metrics"], names["head"], names["together"]):
            assert 0 < found["recall@10"] < 1
