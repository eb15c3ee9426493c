"""Whom the rows of a study serve, from its files to its report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pyg_kd.graph import interactions
from pyg_kd.study import Results
from pyg_kd.study.data import read_graphs
from pyg_kd.study.report import study_section, summary, to_markdown
from pyg_kd.study.schema import Dataset
from tests.study.tiny import CONFIG, conduct

pytest.importorskip("pyarrow")
METRIC = "ndcg@5"


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Results:
    out = tmp_path_factory.mktemp("activity") / "tiny"
    conduct(CONFIG, out)
    return Results(out)


@pytest.fixture(scope="module")
def found(results) -> dict:
    """Through JSON, as it is stored."""
    return json.loads(json.dumps(summary(results, num_replicates=99, progress=False)))


def test_values_and_retention_are_means_over_the_users_of_a_quarter(results, found) -> None:
    (world,) = found["worlds"]
    graphs = read_graphs(Dataset(**CONFIG["datasets"]["made"]))
    degree = interactions(graphs.train).by_user().degree.numpy()
    values = results.values("made", "mf", METRIC)
    user = results.users("made", "mf", "soft", 0).user.numpy()
    of = {name: np.mean([v.numpy() for v in seeds.values()], 0) for name, seeds in values.items()}
    groups = [name for name in world["activity"]["rows"]["soft"] if name != "all"]
    assert len(groups) == 4
    for group in groups:
        low, _, high = group.partition(" to ")
        inside = (degree[user] >= int(low)) & (degree[user] <= int(high or low))
        row = world["activity"]["rows"]["soft"][group]
        assert row["users"] == inside.sum() > 0
        assert row["value"] == pytest.approx(of["soft"][inside].mean())
        expected = of["soft"][inside].mean() / of["teacher"][inside].mean()
        assert row["retention"] == pytest.approx(expected)
    assert sum(world["activity"]["rows"]["soft"][g]["users"] for g in groups) == len(user)
    assert world["activity"]["rows"]["teacher"]["all"]["retention"] is None


def test_the_report_says_where_the_best_row_keeps_least(found) -> None:
    text = to_markdown(study_section(found))
    (world,) = found["worlds"]
    rows = world["activity"]["rows"]
    best = max(("soft", "student alone"), key=lambda n: world["rows"][n]["test"][METRIC]["mean"])
    kept = {group: of["retention"] for group, of in rows[best].items() if group != "all"}
    worst = min(kept, key=kept.__getitem__)
    assert "## By activity of users" in text
    assert f"*{best}*, keeps least with {worst} interactions: {100 * kept[worst]:.0f} %" in text
    assert (
        f"{rows['soft'][worst]['value']:.4f} ({100 * rows['soft'][worst]['retention']:.0f}" in text
    )


def test_a_study_that_did_not_note_it_has_no_such_section(results, found) -> None:
    path = results.path / "study.json"
    about = json.loads(path.read_text())
    try:
        path.write_text(json.dumps({**about, "activity": {}}))
        told = summary(Results(results.path), num_replicates=99, progress=False)
    finally:
        path.write_text(json.dumps(about))
    assert "activity" not in told["worlds"][0]
    assert "By activity" not in to_markdown(study_section(told))


def test_a_damaged_file_is_refused(results) -> None:
    (path,) = Path(results.path).glob("activity-*.parquet")
    content = path.read_bytes()
    try:
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(ValueError, match="is damaged"):
            summary(results, num_replicates=99, progress=False)
    finally:
        path.write_bytes(content)
