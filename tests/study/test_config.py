from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pyg_kd.study.checking import check_config
from pyg_kd.study.config import as_config, read_config
from pyg_kd.study.data import read_graphs
from tests.study.tiny import CONFIG, tiny

ROOT = Path(__file__).parents[2]


def changed(path: str, value: Any) -> dict[str, Any]:
    """The tiny configuration with one value changed; ``None`` removes it."""
    config = tiny()
    *above, last = path.split("/")
    place = config
    for name in above:
        place = place[name]
    if value is None:
        place.pop(last)
    else:
        place[last] = value
    return config


SOFT = {"method": "SoftLabel", "search": {"weight": [1.0, 2.0]}}

MISTAKES = [
    ("metrics", "ndcg@5", "there is no 'metrics', did you mean 'metric'?"),
    ("name", 3, "name must be text (got 3)"),
    ("metric", None, "'metric' must be given"),
    ("metric", "ndgc@5", "'metric' must look like 'recall@20'"),
    ("seeds", [], "'seeds' must hold one or more"),
    ("seeds", [1, 1], "'seeds' must differ (got [1, 1])"),
    ("seeds", [0, -1], "'seeds' must lie in 0..4294967295 (got [0, -1])"),
    ("seeds", ["0"], "seeds.0 must be an integer (got '0')"),
    ("test", {"k": [0]}, "'k' must hold lengths in"),
    ("test", {"metrics": ["recal"]}, "'metrics' must be some of"),
    ("budget", {"trails": 3}, "budget: there is no 'trails', did you mean 'trials'?"),
    ("budget", {"trials": 3}, "all rows must be tuned alike, with 'budget.trials' settings"),
    ("budget", {"extensions": -1}, "'extensions' must be an integer of 0 or more (got -1)"),
    ("budget", {"search": "random"}, "budget.search must be grid or optuna (got 'random')"),
    ("budget", {"search": "optuna"}, "'trials' must be a positive integer (got 0)"),
    ("baseline", "alone", "worlds.mf has no row 'alone' to compare with"),
    ("datasets/made/data", "MovieLens", "datasets.made: there is no data set 'MovieLens', did you"),
    ("datasets/made/data", "table:a.csv", "'table:a.csv': write 'table: a.csv' instead of 'data'"),
    ("datasets/made/data", "b.parquet", "write 'table: b.parquet' instead of 'data'"),
    ("datasets/made/options", {"users": 3}, "SyntheticInteractions has no option 'users'"),
    ("datasets/made/split", "UserSplits", "there is no transform 'UserSplits', did you mean"),
    ("datasets/made/split", {"UserSplit": {"vall": 0.1}}, "UserSplit has no option 'vall'"),
    ("datasets/made/split", {"UserSplit": {"val": 2.0}}, "'val' must lie in 0..1"),
    ("datasets/made", {"split": "UserSplit"}, "must name 'data' or a 'table', one of them"),
    ("datasets/made", {"table": "no.csv"}, "datasets.made: there is no file 'no.csv'"),
    ("teachers/als/model", "ALS", "teachers.als: there is no model 'ALS'"),
    ("teachers/als/dim", None, "teachers.als: AlternatingLeastSquares needs a width, 'dim'"),
    ("teachers/als/dim", 0, "'dim' must be a positive integer (got 0)"),
    ("teachers/als/options", {"alfa": 1.0}, "has no option 'alfa', did you mean 'alpha'?"),
    ("teachers/als/knowledge", "a.safetensors", "'trajectories' or 'knowledge', one of them"),
    ("teachers/new", {"knowledge": "no.safetensors"}, "there is no file 'no.safetensors'"),
    ("teachers/new", {"ensemble": ["eases"]}, "there is no 'eases', did you mean 'ease'?"),
    ("teachers/new", {"trajectories": ["eas"]}, "there is no 'eas', did you mean 'ease'?"),
    ("teachers/als/search", {"lr": [1.0]}, "teachers.als.search: there is no 'lr'"),
    ("worlds/mf/teacher", "alz", "worlds.mf.teacher: there is no 'alz', did you mean 'als'?"),
    ("worlds/mf/rows", ["sofd"], "there is no row 'sofd' in 'methods', did you mean 'soft'?"),
    ("worlds/mf/student/model", "MFF", "there is no model 'MFF', did you mean 'MF'?"),
    ("worlds/mf/student/model", "Recommender", "there is no model 'Recommender'"),
    ("worlds/mf/student/options", {"std": 1.0}, "MF has no option 'std'"),
    ("worlds/mf/student/start", "random", "start: there is no 'random'"),
    ("worlds/mf/student/trainer", {"epochs": 3}, "Trainer has no option 'epochs'"),
    ("worlds/mf/student/trainer", {"lr": -1.0}, "'lr' must be"),
    ("worlds/mf/student/trainer", {"loss": {"BRP": {}}}, "there is no loss 'BRP'"),
    ("worlds/mf/student/trainer/evaluate_every", 3, "'evaluate_every' must be at most"),
    ("methods/soft/methods", "x", "methods.soft: there is no 'methods', did you mean 'method'?"),
    ("methods/soft/method", "SoftLabels", "there is no method 'SoftLabels', did you mean"),
    ("methods/soft/options", {"num_list": 5}, "SoftLabel has no option 'num_list', did you"),
    ("methods/soft/options", {"num_listed": 0}, "'num_listed' must be"),
    ("methods/soft/weight", "heavy", "methods.soft.weight must be a number or nothing"),
    ("methods/soft/search", {"wait": [1, 2]}, "methods.soft.search: there is no 'wait', did you"),
    ("methods/soft/search", {"weight": [1, "x"]}, "methods.soft: 'weight' must be a number"),
    ("methods/soft/search", {"weight": [1, -1]}, "'weight' must be finite and 0 or more (got -1)"),
    ("methods/soft/search", {"weight": [float("nan"), 1]}, "'weight' must be finite and 0 or more"),
    ("methods/soft/search", {"weight": [1, float("inf")]}, "must be finite and 0 or more (got i"),
    ("methods/soft/scale", -0.5, "'scale' must be finite and 0 or more (got -0.5)"),
    ("methods/soft/search", {"weight": [1.0]}, "all rows must be tuned alike"),
    ("methods/soft/search", {"options.num_listed": [5, -5]}, "'num_listed' must be"),
    ("methods/soft/search", {"trainer.lr": [1.0, -1.0]}, "'lr' must be"),
    ("methods/soft/components", [{"method": "SoftLabel"}], "must name 'method' or 'components'"),
    ("methods/soft/compress", True, "must name 'compress' or a method, one of them"),
    ("methods/soft/knowledge", "random", "methods.soft.knowledge: there is no 'random'"),
    ("methods/soft/teacher", "eas", "methods.soft.teacher: there is no 'eas', did you mean 'ease'"),
    ("methods/soft/like", "student alone", "must have 'like' or 'search', one of them"),
    ("methods/new", {"like": "new"}, "methods.new depends on itself"),
    ("methods/new", {"parts": ["sof"], "like": "soft"}, "there is no 'sof', did you mean 'soft'?"),
    ("methods/teacher", SOFT, "'teacher' is the name of a teacher's own row"),
    ("published", {"soft": [0.1, 0.2]}, "published.soft must hold numbers by metric"),
    ("published", {"mf": {"soft": {"recal@20": 0.1}}}, "recal"),
    ("published", {"soft": {"recall@20": "high"}}, "published.soft must hold numbers by metric"),
    ("published", {"mf": {"soft": {"recall@20": True}}}, "published.mf.soft must hold numbers"),
    ("published", {"soft": {}}, "published.soft must hold numbers by metric"),
    ("published", {"mf": 0.17}, "published.mf must hold figures by row (got 0.17)"),
    ("published", {"recall@20": 0.17}, "published: there is no 'recall@20'"),
    ("published", {"sof": {"recall@20": 0.17}}, "there is no 'sof', did you mean 'soft'?"),
    ("published", {"mf": {"sof": {"recall@20": 0.17}}}, "published.mf: there is no 'sof'"),
    ("methods/new", {**SOFT, "student": "EASE"}, "EASE is not trained, so it can't be distilled"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "message"), MISTAKES)
def test_mistakes_are_told_before_anything_runs(path: str, value: Any, message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        check_config(as_config(changed(path, value)))
    assert message in str(caught.value)


def test_files_are_read_with_numbers_of_every_kind(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(
        """
        metric: ndcg@5
        datasets: {made: {data: SyntheticInteractions}}
        teachers: {ease: {model: EASE}}
        worlds: {mf: {teacher: ease, student: {model: MF, dim: 4, trainer: {lr: 1e-2}}}}
        methods:
          student alone: {search: {trainer.weight_decay: [1e-3, 3E-3, .5, 1.5e+0]}}
        """
    )
    config = read_config(path)
    assert config.name == "small" and config.worlds["mf"].student.trainer == {"lr": 0.01}
    search = config.rows("mf")["student alone"].search
    assert search == {"trainer.weight_decay": [1e-3, 3e-3, 0.5, 1.5]}
    check_config(config)
    path.write_text("- a\n- b\n")
    with pytest.raises(ValueError, match="is no configuration"):
        read_config(path)
    path.write_text("a: [")
    with pytest.raises(ValueError, match="is no YAML"):
        read_config(path)
    with pytest.raises(FileNotFoundError, match="there is no configuration"):
        read_config(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "methods:\n  soft: {a: 1}\n  hard: {}\n  soft: {}\n",
            "line 4: 'soft' is there already, in line 2",
        ),
        ("name: a\nname: a\n", "line 2: 'name' is there already, in line 1"),
        ("seeds: [{a: 1, a: 2}]\n", "line 1: 'a' is there already, in line 1"),
        ("a: {'b': 1, b: 2}\n", "line 1: 'b' is there already"),
        ("a: {1e-3: 1, 1e-3: 2}\n", "line 1: '1e-3' is there already"),
    ],
)
def test_a_key_that_is_there_twice_is_told(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text(text)
    with pytest.raises(ValueError) as caught:
        read_config(path)
    assert message in str(caught.value) and str(path) in str(caught.value)


def test_a_merged_key_may_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "merged.yaml"
    path.write_text(
        """
        metric: ndcg@5
        datasets: {made: {data: SyntheticInteractions}}
        teachers:
          small: &small {model: AlternatingLeastSquares, dim: 8}
          wide: &wide {<<: *small, dim: 64}
          wider: {<<: *wide, dim: 99}
        worlds: {mf: {teacher: wide, student: {model: MF, dim: 4}}}
        """
    )
    teachers = read_config(path).teachers
    assert [teachers[name].dim for name in ("small", "wide", "wider")] == [8, 64, 99]


def test_a_table_lies_in_its_root(tmp_path: Path) -> None:
    config = as_config(changed("datasets/made", {"table": "data/own/table.csv"}))
    with pytest.raises(FileNotFoundError, match=r"there is no file 'data/own/table.csv'"):
        check_config(config)
    pairs = [f"{u},{i}" for u in range(20) for i in range(u % 5, 30, 2)]
    (tmp_path / "table.csv").write_text("user,item\n" + "\n".join(pairs) + "\n")
    check_config(config, {"made": str(tmp_path)})
    graphs = read_graphs(config.datasets["made"], str(tmp_path))
    assert graphs.sizes["interactions"] == len(pairs) and graphs.sizes["users"] == 20
    with pytest.raises(ValueError, match=r"roots: there is no 'mad', did you mean 'made.\?"):
        check_config(config, {"mad": str(tmp_path)})


def test_a_world_changes_rows_and_chooses_among_them() -> None:
    config = tiny()
    config["worlds"]["other"] = {
        **config["worlds"]["mf"],
        "methods": {"soft": {"search": {"weight": [5.0, 6.0]}}},
    }
    config["worlds"]["mf"]["rows"] = ["student alone"]
    made = as_config(config)
    assert list(made.rows("mf")) == ["student alone"]
    assert made.rows("other")["soft"].search == {"weight": [5.0, 6.0]}
    assert made.rows("other")["soft"].options == {"num_listed": 10}


def test_an_ablation_becomes_rows() -> None:
    components = {
        "DE": {"method": "DistillationExperts", "search": {"weight": [0.1, 1.0]}},
        "soft": {"method": "SoftLabel", "search": {"weight": [0.1, 1.0]}},
    }
    ablation = {"components": components, "search": {"scale": [0.5, 1.0]}}
    config = as_config(tiny(ablation=ablation))
    assert list(config.methods) == ["student alone", "DE", "soft", "DE + soft"]
    assert config.methods["student alone"] == CONFIG["methods"]["student alone"]
    assert config.ablation == ablation
    check_config(config)


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks" / "configs").glob("*.yaml")))
def test_every_stored_configuration_can_be_run(path: Path) -> None:
    config = read_config(path)
    missing = [d for d in config.datasets.values() if d.table and not Path(d.table).is_file()]
    if missing:
        pytest.skip(f"there is no {missing[0].table}")
    check_config(config)
