from __future__ import annotations

import numpy as np
import pytest
import torch

from pyg_kd import (
    DistillationExperts,
    ItemSideRankingRegularization,
    SoftLabel,
    Trainer,
    extract_knowledge,
)
from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.models import MF
from pyg_kd.study.report import to_html
from pyg_kd.study.tuning import tune, tuning_section
from pyg_kd.study.tuning.figure import draw_slices, draw_trials
from pyg_kd.training import AlternatingLeastSquares, validate
from pyg_kd.transforms import UserSplit


@pytest.fixture(scope="module")
def graphs():
    data = SyntheticInteractions(None, num_users=80, num_items=50, num_edges=1200)[0]
    train, val, _ = UserSplit(seed=0)(data)
    teacher = AlternatingLeastSquares(progress=False).fit(MF(train, dim=16), train)
    return extract_knowledge(teacher, train, num_items=20), val


TRAINER = {"max_epochs": 4, "batch_size": 256, "lr": 0.02}


def student(graph):
    return MF(graph, dim=4)


def test_the_recipe_is_what_the_trainer_does(graphs) -> None:
    train, val = graphs
    methods = [(DistillationExperts(num_experts=2), 0.05)]
    found = tune(
        student, train, val, distillations=methods, trainer=TRAINER, trials=3, seed=5,
        metric="ndcg@10", progress=False,
    )  # fmt: skip
    torch.manual_seed(5)
    model = student(train)
    trainer = Trainer(**TRAINER, seed=5, metric="ndcg@10", progress=False)
    history = trainer.fit(model, train, val_data=val, distillations=methods)
    assert found.default.value == max(history["ndcg@10"])
    assert found.default.value == validate(model, train, val, "ndcg@10")["ndcg@10"]
    assert [value for _, value in found.default.curve] == history["ndcg@10"]
    assert [step for step, _ in found.default.curve] == [0, 1, 2, 3]
    assert {*found.space} == {"lr", "weight_decay", "DistillationExperts.weight"}


def test_a_trial_trains_with_its_setting(graphs) -> None:
    train, val = graphs
    options = {**TRAINER, "batch_by": "user", "batch_size": 32, "base_weight": 0.0}
    methods = [(SoftLabel(num_listed=20), 1.0)]
    found = tune(
        student, train, val, distillations=methods, trainer=options, trials=3, progress=False
    )
    for trial in found.trials:
        torch.manual_seed(0)
        chosen = {name: trial.setting[name] for name in ("lr", "weight_decay")}
        trainer = Trainer(**{**options, **chosen}, metric="recall@20", progress=False)
        method = SoftLabel(num_listed=20, temperature=trial.setting["SoftLabel.temperature"])
        history = trainer.fit(student(train), train, val_data=val, distillations=[(method, 1.0)])
        assert trial.value == max(history["recall@20"])
    assert len({trial.value for trial in found.trials}) == 3


def test_epochs_between_validations(graphs) -> None:
    train, val = graphs
    options = {**TRAINER, "max_epochs": 5, "evaluate_every": 2}
    found = tune(student, train, val, trainer=options, trials=1, progress=False)
    assert [step for step, _ in found.default.curve] == [1, 3]


def test_the_random_state_stays(graphs) -> None:
    train, val = graphs
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    tune(student, train, val, trainer=TRAINER, trials=2, progress=False)
    assert torch.equal(torch.rand(3), expected)


def test_it_resumes(graphs, tmp_path) -> None:
    train, val = graphs
    options = {"trainer": TRAINER, "progress": False, "storage": tmp_path / "tuning.json"}
    first = tune(student, train, val, trials=2, **options)
    second = tune(student, train, val, trials=4, **options)
    assert second.trials[:2] == first.trials and len(second.trials) == 4


def test_figures(graphs) -> None:
    from matplotlib.figure import Figure

    train, val = graphs
    found = {
        "student": tune(student, train, val, trainer=TRAINER, trials=4, progress=False),
        "student alone": tune(student, train, val, trainer=TRAINER, trials=2, progress=False),
    }
    section = tuning_section(found)
    assert to_html(section).count("<svg") == 3
    assert section.tables[0].rows[0][3] == found["student"].best.value
    assert [row[0] for row in section.tables[1].rows] == ["0 (recipe)", "1", "2", "3"]
    figure = Figure()
    draw_trials(found, figure)
    shown = np.asarray(figure.axes[0].collections[0].get_offsets())
    done = found["student"].complete
    assert shown[:, 1] == pytest.approx([trial.value for trial in done])
    line = figure.axes[0].lines[0].get_ydata()
    assert line[-1] == found["student"].best.value and (np.diff(line) >= 0).all()
    figure = Figure()
    draw_slices(found["student"], figure)
    assert [axes.get_xlabel() for axes in figure.axes] == ["lr", "weight_decay"]
    points = np.asarray(figure.axes[0].collections[0].get_offsets())
    assert points[:, 0] == pytest.approx([trial.numbers["lr"] for trial in done])


def test_errors(graphs) -> None:
    train, val = graphs
    with pytest.raises(ValueError, match="'lr' must be positive"):
        tune(student, train, val, trainer={"lr": 0.0})
    with pytest.raises(ValueError, match="'evaluate_every' must be at most 'max_epochs', 2"):
        tune(student, train, val, trainer={"max_epochs": 2, "evaluate_every": 3})
    method = ItemSideRankingRegularization()
    with pytest.raises(ValueError, match=r"needs 'graph\['item'\].teacher_users'"):
        tune(student, train, val, distillations=[(method, 1.0)], progress=False)
