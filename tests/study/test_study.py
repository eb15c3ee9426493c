from __future__ import annotations

import copy
import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from pyg_kd.evaluation import evaluate
from pyg_kd.knowledge import extract_knowledge, save_knowledge
from pyg_kd.models import EASE, MF
from pyg_kd.study import Results
from pyg_kd.study.data import read_graphs
from pyg_kd.study.records import RECORD, USERS
from pyg_kd.study.schema import Dataset
from pyg_kd.study.verifying import run_summary, verify_study
from pyg_kd.training import AlternatingLeastSquares, Trainer
from tests.study.tiny import CONFIG, Counting, conduct, tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny study, run."""
    out = tmp_path_factory.mktemp("study") / "tiny"
    conduct(CONFIG, out)
    return out


@pytest.fixture
def results(folder: Path) -> Results:
    return Results(folder)


def test_every_row_is_tuned_alike_and_tested_with_all_seeds(results: Results) -> None:
    assert results.methods == ["teacher", "student alone", "soft"]
    assert results.about["missing"] == 0 and results.about["failed"] == {}
    for method in ("student alone", "soft"):
        trials = {json.dumps(r.setting) for r in results.select(method=method, seed=0)}
        assert len(trials) in (2, 3)  # the grid, and what an end of it adds
        assert [r.seed for r in results.finalists(method=method)] == [0, 1]
        (chosen,) = {json.dumps(r.setting) for r in results.finalists(method=method)}
        validated = {
            json.dumps(r.setting): r.validation for r in results.select(method=method, seed=0)
        }
        assert validated[chosen] == max(v for v in validated.values() if v is not None)


def test_a_grid_that_ends_at_its_best_value_has_grown_or_says_so(results: Results) -> None:
    for record in results.finalists(method="student alone"):
        search = record.search
        assert search is not None
        tried = [v["setting"]["trainer.lr"] for v in search["values"]]
        assert tried[:2] == [0.01, 0.03] and search["trials"] == len(tried) == 3
        best = record.setting["trainer.lr"]
        assert search["edges"] == (["trainer.lr"] if best in (min(tried), max(tried)) else [])


def test_a_row_is_what_its_parts_make_by_hand(results: Results) -> None:
    graphs = read_graphs(Dataset(**CONFIG["datasets"]["made"]))
    record = results.record("made", "mf", "student alone", 1)
    torch.manual_seed(1)
    model = MF(graphs.train, 4)
    options = CONFIG["worlds"]["mf"]["student"]["trainer"]
    lr = record.setting["trainer.lr"]
    trainer = Trainer(**options, lr=lr, seed=1, metric="ndcg@5", progress=False)
    history = trainer.fit(model, graphs.train, val_data=graphs.val)
    assert record.validation == max(history["ndcg@5"])
    found = evaluate(model, graphs.train, graphs.test, 5, ["recall", "ndcg"], per_user=True)
    users = results.users("made", "mf", "student alone", 1)
    assert record.test == found.mean and torch.equal(users.user, found.user)
    assert torch.equal(users.values["ndcg@5"], found.values["ndcg@5"])
    teacher = AlternatingLeastSquares(seed=1, progress=False).fit(MF(graphs.train, 8), graphs.train)
    by_hand = evaluate(teacher, graphs.train, graphs.test, 5, ["ndcg"])
    assert results.record("made", "mf", "teacher", 1).test["ndcg@5"] == by_hand["ndcg@5"]  # type: ignore[index]


def test_a_record_tells_what_a_run_was(results: Results) -> None:
    record = results.record("made", "mf", "soft", 1)
    graphs = read_graphs(Dataset(**CONFIG["datasets"]["made"]))
    told = {k: v for k, v in record.fingerprints.items() if k != "knowledge"}
    assert told == graphs.fingerprints and len(record.fingerprints["knowledge"]) == 64
    assert record.cpu_seconds > 0 and record.peak_bytes > 2**20 and record.epochs == 2
    assert record.size_bytes == 4 * 4 * (80 + 50)
    assert record.command.endswith(f"--run {record.key}") and "torch" in record.versions
    assert record.recipe["components"] == [
        {
            "method": "SoftLabel",
            "weight": record.setting["weight"],
            "options": {"num_listed": 10},
        }
    ]


def test_a_finished_study_trains_nothing_again(folder: Path) -> None:
    executor = Counting()
    before = {p: p.stat().st_mtime_ns for p in folder.glob("runs/*/*")}
    conduct(CONFIG, folder, executor)
    assert executor.done == []
    assert before == {p: p.stat().st_mtime_ns for p in folder.glob("runs/*/*")}


def test_a_stopped_study_goes_on_to_the_same_bits(tmp_path: Path, folder: Path) -> None:
    first = Counting(fail_after=4)
    with pytest.raises(KeyboardInterrupt):
        conduct(CONFIG, tmp_path, first)
    second = Counting()
    conduct(CONFIG, tmp_path, second)
    trained = [job for job in first.done + second.done if job[0] == "train"]
    assert len(first.done) == 4 and len(trained) == len(list(folder.glob("runs/*")))
    for path in folder.glob(f"runs/*/{USERS}"):
        assert path.read_bytes() == (tmp_path / path.relative_to(folder)).read_bytes()


def test_time_that_is_up_starts_nothing_and_tests_what_is_there(tmp_path: Path) -> None:
    results = conduct(CONFIG, tmp_path, minutes=1e-9)
    assert len(results) == 0 and results.about["missing"] == 6
    results = conduct(CONFIG, tmp_path, seeds=[0])
    assert results.seeds == [0] and results.about["missing"] == 0
    results = conduct(CONFIG, tmp_path, minutes=1e-9)
    assert results.seeds == [0] and results.about["missing"] == 3


class Slow(Counting):
    """Takes its time over every job."""

    def __call__(self, job: Any) -> None:
        time.sleep(0.15)
        super().__call__(job)


def test_runs_that_wait_for_room_are_not_started_when_time_is_up(tmp_path: Path) -> None:
    executor = Slow()
    conduct(CONFIG, tmp_path, executor, minutes=0.2 / 60)
    assert 1 <= len(executor.done) <= 3


def test_only_what_is_asked_for_is_run(tmp_path: Path) -> None:
    executor = Counting()
    results = conduct(CONFIG, tmp_path, executor, methods=["student alone"], seeds=[1])
    assert {(m, s) for _, m, s in executor.done} == {
        ("student alone", 0),
        ("student alone", 1),
        ("teacher", 0),
        ("teacher", 1),
    }
    assert [r.row[2:] for r in results.finalists()] == [("teacher", 1), ("student alone", 1)]
    results = conduct(CONFIG, tmp_path, methods=["soft"], seeds=[1])
    assert results.methods == ["teacher", "student alone", "soft"]
    assert [r.method for r in results.finalists()] == ["teacher", "student alone", "soft"]


def test_rows_that_are_gone_and_runs_of_another_split_leave(tmp_path: Path) -> None:
    conduct(CONFIG, tmp_path)
    datasets = copy.deepcopy(CONFIG["datasets"])
    (dataset,) = datasets.values()
    dataset["split"] = {"UserSplit": {"val": 0.1, "test": 0.3, "seed": 0}}
    split = conduct({**CONFIG, "datasets": datasets}, tmp_path, methods=["student alone"])
    assert {r.method for r in split.finalists()} == {"teacher", "student alone"}
    assert len({r.recipe["split"] for r in split.finalists()}) == 1
    conduct(CONFIG, tmp_path)
    methods = {name: of for name, of in CONFIG["methods"].items() if name != "soft"}
    fewer = conduct({**CONFIG, "methods": methods, "seeds": [0]}, tmp_path)
    assert "soft" not in {r.method for r in fewer.finalists()}
    assert {r.seed for r in fewer.finalists()} == {0}


def test_rows_that_share_a_recipe_share_their_training(tmp_path: Path) -> None:
    worlds = CONFIG["worlds"]
    config = tiny(
        worlds={"one": worlds["mf"], "two": worlds["mf"]}, seeds=[0], budget={"extensions": 0}
    )
    executor = Counting()
    results = conduct(config, tmp_path, executor)
    trained = [job for job in executor.done if job[0] == "train"]
    assert len(trained) == 5 and len(results) == 10
    one, two = (results.record("made", world, "soft", 0) for world in ("one", "two"))
    assert one.key != two.key and one.recipe == two.recipe and one.test == two.test
    assert (one.world, two.world) == ("one", "two") and two.command.endswith(two.key)


def test_parts_scales_likes_and_controls(tmp_path: Path) -> None:
    search = {"weight": [0.01, 0.1]}
    alone = CONFIG["methods"]["student alone"]
    methods = {
        "student alone": alone,
        "DE": {"method": "DistillationExperts", "search": search},
        "soft": CONFIG["methods"]["soft"],
        "both": {"parts": ["DE", "soft"], "search": {"scale": [0.5, 2.0]}},
        "DE, self": {"method": "DistillationExperts", "knowledge": "self", "search": search},
        "DE, shuffled": {"method": "DistillationExperts", "knowledge": "shuffled", "like": "DE"},
        "soft, ease": {**CONFIG["methods"]["soft"], "teacher": "ease"},
    }
    config = tiny(methods=methods, seeds=[0], budget={"extensions": 0})
    results = conduct(config, tmp_path)
    assert results.about["failed"] == {}
    rows = {m: results.record("made", "mf", m, 0) for m in methods}
    weights = [rows["DE"].setting["weight"], rows["soft"].setting["weight"]]
    scale = rows["both"].setting["scale"]
    assert [c["weight"] for c in rows["both"].recipe["components"]] == [w * scale for w in weights]
    assert rows["DE, shuffled"].setting == rows["DE"].setting
    assert rows["DE, shuffled"].search == {"like": "DE"}
    assert len({r.validation for m, r in rows.items() if m.startswith("DE")}) == 3
    known = rows["DE, self"].recipe["knowledge"]
    assert known["self"] == rows["student alone"].recipe_key and known["control"] == "self"
    ease = results.record("made", "mf", "teacher: ease", 0)
    assert rows["soft, ease"].recipe["knowledge"]["teacher"] == ease.recipe_key
    assert ease.role == "teacher" and results.methods[:2] == ["teacher", "teacher: ease"]


def test_an_ensemble_a_file_and_trajectories_teach(tmp_path: Path) -> None:
    graphs = read_graphs(Dataset(**CONFIG["datasets"]["made"]))
    file = tmp_path / "ease.safetensors"
    save_knowledge(extract_knowledge(EASE(graphs.train), graphs.train, num_items=20), file)
    trained = {"max_epochs": 4, "batch_size": 512}
    teachers = {
        "several": {"ensemble": ["ease", "als"]},
        "file": {"knowledge": str(file)},
        "mf": {"model": "MF", "dim": 6, "trainer": trained},
        "ease": {"model": "EASE"},
        "paths": {"trajectories": ["mf", "ease"], "num_states": 3, "num_items": 20},
    }
    soft = CONFIG["methods"]["soft"]
    methods = {
        "student alone": {},
        "soft": {**soft, "search": {}},
        "soft, file": {**soft, "search": {}, "teacher": "file"},
        "compressed": {
            "compress": True,
            "options": {"num_listed": 10},
            "trainer": {"max_epochs": 2},
        },
        "HetComp": {"method": "HetComp", "weight": 1.0, "teacher": "paths"},
    }
    world = {**CONFIG["worlds"]["mf"], "teacher": "several"}
    config = tiny(teachers=teachers, methods=methods, worlds={"mf": world}, seeds=[3, 5], budget={})
    results = conduct(config, tmp_path / "out")
    assert results.about["failed"] == {} and results.about["missing"] == 0
    assert [r.seed for r in results.finalists(method="teacher: file")] == [3]
    assert [r.seed for r in results.finalists(method="teacher: paths")] == [3, 5]
    by_hand = evaluate(EASE(graphs.train), graphs.train, graphs.test, 5, ["ndcg"])
    assert results.record("made", "mf", "teacher: file", 3).test["ndcg@5"] == by_hand["ndcg@5"]  # type: ignore[index]
    compressed = results.record("made", "mf", "compressed", 3).recipe
    (component,) = compressed["components"]
    assert component["options"]["target"] == "score" and component["options"]["num_listed"] == 10
    assert compressed["trainer"]["batch_by"] == "user" and compressed["trainer"]["max_epochs"] == 2
    assert compressed["model"] == {"init_std": 0.1}


def test_optuna_gives_every_row_as_many_trials(tmp_path: Path) -> None:
    space = {"low": 1e-3, "high": 1.0, "log": True}
    methods = {
        "student alone": {"search": {"trainer.lr": space}},
        "soft": {**CONFIG["methods"]["soft"], "search": {"weight": space, "trainer.lr": space}},
    }
    config = tiny(methods=methods, seeds=[0], budget={"trials": 3, "search": "optuna"})
    stopped = Counting(fail_after=3)
    with pytest.raises(KeyboardInterrupt):
        conduct(config, tmp_path / "a", stopped)
    found = [conduct(config, tmp_path / name) for name in "ab"]
    for results in found:
        counts = {m: len(results.select(method=m)) for m in methods}
        assert counts == {"student alone": 3, "soft": 3}
    keys = [{r.key for r in results} for results in found]
    assert keys[0] == keys[1]


def test_what_fails_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    methods = {
        "student alone": CONFIG["methods"]["student alone"],
        # Teachers without embeddings cannot be imitated, which only the graph tells.
        "DE": {"method": "DistillationExperts", "search": {"weight": [0.1, 1.0]}},
    }
    world = {**CONFIG["worlds"]["mf"], "teacher": "ease"}
    results = conduct(tiny(methods=methods, worlds={"mf": world}), tmp_path)
    assert results.methods == ["teacher", "student alone"]
    assert any("made/mf/DE" in name for name in results.about["failed"])
    assert any("teacher_x" in text for text in results.about["failed"].values())


def test_a_damaged_record_stops_a_study(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy"
    conduct(CONFIG, out, methods=["student alone"], seeds=[0])
    path = next(out.glob(f"runs/*/{RECORD}"))
    path.write_text(path.read_text()[:100])
    with pytest.raises(ValueError, match=r"record.json' is damaged"):
        conduct(CONFIG, out)


def test_a_state_of_another_kind_is_a_failure_not_a_number(tmp_path: Path) -> None:
    conduct(CONFIG, tmp_path, methods=["student alone"], seeds=[0])
    for path in tmp_path.glob("knowledge/*"):
        path.unlink()
    for path in tmp_path.glob("runs/*/state.safetensors"):
        path.write_bytes(b"no state")
    results = conduct(CONFIG, tmp_path, methods=["soft"], seeds=[0])
    assert any("is no state of this MF" in text for text in results.about["failed"].values())
    assert "soft" not in [r.method for r in results.finalists()]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": "ndcg@51"}, "'metric' asks for lists of 51 items, but datasets.made has 50"),
        ({"test": {"k": [5, 99]}}, "'test.k' asks for lists of 99 items, but datasets.made has 50"),
    ],
)
def test_lists_longer_than_the_catalogue_are_told_before_anything_runs(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    executor = Counting()
    with pytest.raises(ValueError, match=message):
        conduct(tiny(**change), tmp_path, executor)
    assert executor.done == []


def test_other_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="'out' must be an empty folder or that of the study"):
        conduct(CONFIG, tmp_path)
    (tmp_path / "notes.txt").unlink()
    conduct(CONFIG, tmp_path, minutes=1e-9)
    with pytest.raises(ValueError, match="holds another study"):
        conduct(tiny(name="other"), tmp_path)


def test_rows_run_again_give_the_same(folder: Path, results: Results) -> None:
    executor = Counting()
    rows = verify_study(CONFIG, folder, 2, draw=1, executor=executor, progress=False)
    assert len(rows) == 2 and all(row["same"] and row["difference"] == 0.0 for row in rows)
    assert any(kind == "train" for kind, _, _ in executor.done)
    (teacher,) = [r.key for r in results.finalists(method="teacher") if r.seed == 1]
    (row,) = verify_study(CONFIG, folder, [teacher], executor=Counting(), progress=False)
    assert row["same"] and row["row"] == ["made", "mf", "teacher", 1]
    with pytest.raises(ValueError, match="there is no tested run 'ffff'"):
        verify_study(CONFIG, folder, ["ffff"], executor=Counting(), progress=False)


def test_stored_results_are_enough_to_verify(tmp_path: Path, results: Results) -> None:
    config: dict[str, Any] = tiny(results=str(tmp_path / "stored.json"))
    runs = {record.key: run_summary(record) for record in results.finalists()}
    key = results.record("made", "mf", "soft", 0).key
    runs[key]["test"] = {**runs[key]["test"], "ndcg@5": runs[key]["test"]["ndcg@5"] + 0.01}
    (tmp_path / "stored.json").write_text(json.dumps({"runs": runs}))
    other = results.record("made", "mf", "soft", 1).key
    rows = verify_study(config, tmp_path / "none", [key, other], executor=Counting())
    assert [row["same"] for row in rows] == [False, True]
    assert rows[0]["difference"] == pytest.approx(0.01)
    with pytest.raises(ValueError, match="neither a study in"):
        verify_study(CONFIG, tmp_path / "none", 1, executor=Counting())
