from __future__ import annotations

import numpy as np
import pytest
import torch

from pyg_kd import RelaxedRankingDistillation, TopologyDistillation
from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.evaluation import popularity_bias, slices
from pyg_kd.knowledge import extract_knowledge
from pyg_kd.models import EASE, GFCF, MF
from pyg_kd.study.insight import (
    bias_section,
    diagnostics_section,
    slices_section,
    teacher_section,
)
from pyg_kd.study.insight.bias import amplification
from pyg_kd.study.insight.training import remarks
from pyg_kd.study.report import to_html, to_markdown
from pyg_kd.training import Trainer
from pyg_kd.training.diagnostics import Diagnostics, diagnose_teacher
from pyg_kd.training.history import History
from pyg_kd.transforms import UserSplit


@pytest.fixture(scope="module")
def world():
    pytest.importorskip("matplotlib").use("Agg")
    data = SyntheticInteractions(num_users=120, num_items=70, num_edges=2_000)[0]
    train, val, test = UserSplit(seed=0)(data)
    torch.manual_seed(0)
    return train, val, test, MF(train, dim=4), EASE(train)


def written(section) -> str:
    text = to_markdown(section)
    page = to_html(section)
    for table in section.tables:
        for row in table.rows:
            assert str(row[0]) in text and str(row[0]) in page
    return text


def test_slices_tell_where_most_is_lost(world):
    train, _, test, student, teacher = world
    tables = slices(student, train, test, reference=teacher)
    text = written(slices_section(tables))
    for table in tables.values():
        assert f"least is kept in *{table.worst.name}*: {100 * table.worst.retention:.0f} %" in text
    alone = slices_section(slices(student, train, test))
    assert not alone.figures and "least is kept" not in to_markdown(alone)


def test_bias_is_compared_with_the_teacher_user_by_user(world):
    train, _, _, student, teacher = world
    rows = {
        "teacher": popularity_bias(teacher, train, 10),
        "student": [popularity_bias(student, train, 10), popularity_bias(GFCF(train), train, 10)],
    }
    more, ends = amplification(rows["student"], rows["teacher"])
    lifts = [run.lift for run in rows["student"]]
    assert more == pytest.approx(np.mean(lifts) - rows["teacher"].lift)
    assert ends[0] < more < ends[1]
    section = bias_section(rows, teacher="teacher")
    written(section)
    assert section.tables[0].rows[1][-2] == pytest.approx(more)
    assert section.tables[0].rows[0][-2] is None
    with pytest.raises(ValueError, match="'teacher' must be one of"):
        bias_section(rows, teacher="nobody")
    some = popularity_bias(teacher, train, 10, users=torch.arange(3))
    with pytest.raises(ValueError, match="must be of the users of 'student'"):
        amplification(rows["student"], some)


def test_a_teacher_and_a_run_become_sections(world):
    train, val, _, _, teacher = world
    verdict = diagnose_teacher(teacher, train, val, dim=4)
    assert verdict.notes[0] in written(teacher_section(verdict))
    graph = extract_knowledge(MF(train, dim=8), train, num_items=50)
    rrd = RelaxedRankingDistillation(num_interesting=10, num_uninteresting=10)
    history = Trainer(max_epochs=2, progress=False).fit(
        MF(train, dim=4),
        graph,
        distillations=[(rrd, 1e-9), (TopologyDistillation(num_groups=4), 0.01)],
        callbacks=[Diagnostics()],
    )
    text = written(diagnostics_section(history))
    assert "hardly pulls" in text
    with pytest.raises(ValueError, match="'history' must have columns of Diagnostics"):
        diagnostics_section(History([{"epoch": 0, "loss": 1.0}]))


def test_what_stands_out_is_said():
    names = ("conflict A", "pull A", "groups A user", "effective rank item")
    values = ((0.5, 0.2, 9.0, 8.0), (-0.7, 1e-5, 2.0, 1.5))
    rows = [{"epoch": e, **dict(zip(names, v, strict=True))} for e, v in enumerate(values)]
    found = remarks(History(rows))
    assert len(found) == 4
    assert remarks(History(rows[:1])) == []
