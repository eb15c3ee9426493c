"""A run that was interrupted and continued ends with the bits of one that was not."""

from __future__ import annotations

import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from pyg_kd import Distillation, RelaxedRankingDistillation, TopologyDistillation
from pyg_kd.datasets import SyntheticInteractions
from pyg_kd.evaluation import evaluate
from pyg_kd.knowledge import extract_knowledge
from pyg_kd.models import MF, LightGCN
from pyg_kd.training import BPR, Trainer, validate
from pyg_kd.training.checkpoint import save_checkpoint
from pyg_kd.transforms import UserSplit

ROOT = Path(__file__).parents[2]
OPTIONS = {"batch_size": 128, "accelerator": "cpu", "progress": False, "max_epochs": 4}


class Interrupting:
    """The default validation, with an interruption after some epochs."""

    def __init__(self, epochs: int, interruption) -> None:
        self.left, self.interruption = epochs, interruption

    def __call__(self, model, data, val_data):
        self.left -= 1
        if self.left < 0:
            self.interruption()
        return validate(model, data, val_data, "recall@20")


def interrupt():
    raise KeyboardInterrupt


def methods():
    ranking = RelaxedRankingDistillation(
        num_interesting=6, num_uninteresting=6, position="exponential"
    )
    return [(TopologyDistillation(num_groups=4), 1e-3), (ranking, 1e-2)]


def fit(folder, data, val_data, *, kind=LightGCN, seed=0, pairs=None, resume=True, **options):
    torch.manual_seed(seed)
    model = kind(data, dim=6)
    trainer = Trainer(**OPTIONS | {"checkpoint_dir": folder} | options)
    pairs = methods() if pairs is None else pairs
    history = trainer.fit(model, data, val_data=val_data, distillations=pairs, resume=resume)
    return model, history


def losses(history) -> list[dict[str, float]]:
    return [{name: v for name, v in row.items() if name != "seconds"} for row in history]


def assert_same(first, second) -> None:
    (model, history), (again, other) = first, second
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert losses(history) == losses(other)
    assert history.best_epoch == other.best_epoch is not None


@pytest.mark.parametrize("epochs", [0, 1, 3])
@pytest.mark.parametrize("kind", [MF, LightGCN])
def test_interrupted_run_continues_to_the_same_bits(tmp_path, graph, val, kind, epochs):
    whole = fit(tmp_path / "whole", graph, val, kind=kind)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "part", graph, val, kind=kind, evaluator=Interrupting(epochs, interrupt))
    assert (tmp_path / "part" / "last.pt").exists() == (epochs > 0)
    # The weights a continued run starts with do not count once there is a checkpoint.
    seed, evaluator = 0 if epochs == 0 else 9, Interrupting(9, interrupt)
    again = fit(tmp_path / "part", graph, val, kind=kind, seed=seed, evaluator=evaluator)
    assert_same(whole, again)
    assert len(again[1]) == 4


class Fading(Distillation):
    """A method that counts its steps in a buffer, as the page on writing one says."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", None)

    def setup(self, graph, dim):
        self.steps = torch.zeros(())

    def forward(self, x_dict, graph, batch):
        self.ensure_bound(x_dict, graph)
        self.steps += 1
        return x_dict["user"][batch.unique_users].square().sum() / self.steps


def test_what_lasts_over_epochs_is_a_buffer(tmp_path, graph, val):
    method = Fading()
    whole = fit(tmp_path / "whole", graph, val, pairs=[(method, 1.0)])
    with pytest.raises(KeyboardInterrupt):
        stopped = Interrupting(2, interrupt)
        fit(tmp_path / "part", graph, val, pairs=[(Fading(), 1.0)], evaluator=stopped)
    validation = Interrupting(9, interrupt)
    again = fit(tmp_path / "part", graph, val, pairs=[(Fading(), 1.0)], evaluator=validation)
    assert_same(whole, again)
    second = fit(tmp_path / "second", graph, val, pairs=[(method, 1.0)])
    assert_same(whole, second)


def test_interrupted_model_has_its_best_weights(tmp_path, train, val):
    model = LightGCN(train, dim=6)
    values = iter([0.3, 0.2])
    seen = []

    def evaluator(model, data, val_data):
        seen.append(model.user_embedding.detach().clone())
        try:
            return {"recall@20": next(values)}
        except StopIteration:
            raise KeyboardInterrupt from None

    with pytest.raises(KeyboardInterrupt):
        Trainer(**OPTIONS, evaluator=evaluator).fit(model, train, val_data=val)
    assert torch.equal(model.user_embedding, seen[0])
    assert not torch.equal(seen[0], seen[2])


def problem():
    """What both processes of the next test build for themselves."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    data = SyntheticInteractions(num_users=40, num_items=30, num_edges=400)[0]
    data, val_data, _ = UserSplit(val=0.2)(data)
    return extract_knowledge(MF(data, dim=12), data, num_items=15), val_data


SCRIPT = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from test_resume import Interrupting, fit, problem
kill = Interrupting(2, lambda: os.kill(os.getpid(), signal.SIGKILL))
fit(sys.argv[2], *problem(), evaluator=kill)
"""


def test_killed_process_continues_to_the_same_bits(tmp_path):
    threads = torch.get_num_threads()
    args = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), str(tmp_path / "killed")]
    killed = subprocess.run(args, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    state = torch.load(tmp_path / "killed" / "last.pt", weights_only=True)
    assert (state["epoch"], len(state["rows"])) == (2, 2)
    try:
        data, val_data = problem()
        evaluator = Interrupting(9, interrupt)
        assert_same(
            fit(tmp_path / "whole", data, val_data),
            fit(tmp_path / "killed", data, val_data, evaluator=evaluator),
        )
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("number", [float, np.float64, np.float32, torch.tensor])
def test_numbers_of_an_evaluator_are_read_back(tmp_path, train, val, number):
    options = {"evaluator": lambda *_: {"recall@20": number(0.25)}, "pairs": []}
    fit(tmp_path, train, val, max_epochs=2, **options)
    assert fit(tmp_path, train, val, **options)[1]["recall@20"] == [0.25] * 4


def test_finished_run_has_nothing_left(tmp_path, graph, val):
    whole = fit(tmp_path, graph, val)
    before = (tmp_path / "last.pt").read_bytes()
    assert_same(whole, fit(tmp_path, graph, val, seed=9))
    assert (tmp_path / "last.pt").read_bytes() == before


def test_stopped_run_stays_stopped(tmp_path, train, val):
    def falling(model, data, val_data):
        return {"recall@20": 0.0}

    options = {"evaluator": falling, "patience": 2, "max_epochs": 9, "pairs": []}
    first = fit(tmp_path, train, val, **options)
    again = fit(tmp_path, train, val, **options)
    assert len(first[1]) == len(again[1]) == 3


def test_without_methods_a_run_can_be_made_longer(tmp_path, train, val):
    fit(tmp_path / "short", train, val, pairs=[], max_epochs=2)
    again = fit(tmp_path / "short", train, val, pairs=[], seed=9)
    assert_same(fit(tmp_path / "whole", train, val, pairs=[]), again)


def test_without_resume_a_run_starts_again(tmp_path, graph, val):
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, graph, val, evaluator=Interrupting(2, interrupt))
    again = fit(tmp_path, graph, val, resume=False, evaluator=Interrupting(9, interrupt))
    assert [row["epoch"] for row in again[1]] == [0, 1, 2, 3]
    before = (tmp_path / "last.pt").read_bytes()
    with pytest.raises(
        ValueError, match=r"from another run: lr was .* use another 'checkpoint_dir'"
    ):
        fit(tmp_path, graph, val, resume=False, lr=0.5)
    assert (tmp_path / "last.pt").read_bytes() == before


class Margin(BPR):
    """A loss that does not print its option."""

    def __init__(self, margin: float) -> None:
        super().__init__()
        self.margin = margin


class Noisy(MF):
    """A model that does not print a part's."""

    def __init__(self, data, dim: int, p: float) -> None:
        super().__init__(data, dim)
        self.drop = torch.nn.Dropout(p)


class Scaled(Distillation):
    """A method that does not print its option, and changes what is none."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale, self.epoch = scale, 0

    def on_epoch_start(self, epoch, max_epochs, x_dict=None):
        self.epoch = epoch

    def forward(self, x_dict, graph, batch):
        return self.scale * x_dict["user"][batch.unique_users].square().sum()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("loss", {"loss": Margin(2.0)}),
        ("model", {"kind": lambda data, dim: Noisy(data, dim, 0.5)}),
        ("distillations", {"pairs": [(Scaled(2.0), 1.0)]}),
    ],
)
def test_options_that_are_not_printed(tmp_path, graph, val, name, change):
    pairs = [(Scaled(1.0), 1.0)]
    options = {"loss": Margin(1.0), "kind": lambda data, dim: Noisy(data, dim, 0.1), "pairs": pairs}
    fit(tmp_path, graph, val, **options)
    assert len(fit(tmp_path, graph, val, **options)[1]) == 4
    with pytest.raises(ValueError, match=rf"from another run: {name} was "):
        fit(tmp_path, graph, val, **options | change)


def test_options_of_numpy(tmp_path, graph, val):
    fit(tmp_path, graph, val, max_epochs=np.int64(2), lr=np.float32(0.5))
    assert len(fit(tmp_path, graph, val, max_epochs=2, lr=0.5)[1]) == 2


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("lr", {"lr": 0.02}),
        ("seed", {"options_seed": 1}),
        ("batch_size", {"batch_size": 64}),
        ("weight_decay", {"weight_decay": 0.1}),
        ("base_weight", {"base_weight": 0.5}),
        ("num_negatives", {"num_negatives": 2}),
        ("metric", {"metric": "ndcg@20"}),
        ("evaluate_every", {"evaluate_every": 2}),
        ("restore_best", {"restore_best": False}),
        ("evaluator", {"evaluator": partial(evaluate, k=20)}),
        ("precision", {"precision": "bf16-mixed"}),
        ("max_epochs, over which methods anneal,", {"max_epochs": 5}),
        ("model", {"kind": MF}),
        ("loss", {"loss": BPR()}),
        ("distillations", {"pairs": methods()[:1]}),
        ("weights", {"pairs": [(m, 2 * w) for m, w in methods()]}),
    ],
)
def test_checkpoint_of_other_options(tmp_path, graph, val, name, options):
    fit(tmp_path, graph, val, max_epochs=1, pairs=methods())
    before = (tmp_path / "last.pt").read_bytes()
    options = {"max_epochs": 1} | options
    if "options_seed" in options:  # `seed` of `fit` draws the weights, which does not matter
        with pytest.raises(ValueError, match=r"from another run: seed was 0, is 1"):
            Trainer(**OPTIONS | {"max_epochs": 1}, checkpoint_dir=tmp_path, seed=1).fit(
                LightGCN(graph, dim=6), graph, distillations=methods(), resume=True
            )
    else:
        with pytest.raises(ValueError, match=rf"last.pt' is from another run: {name} was .*, is "):
            fit(tmp_path, graph, val, **options)
    assert (tmp_path / "last.pt").read_bytes() == before


def test_checkpoint_of_another_graph_or_teacher(tmp_path, graph, val):
    fit(tmp_path, graph, val)
    other = extract_knowledge(LightGCN(graph, dim=12), graph, num_items=25)
    with pytest.raises(ValueError, match=r"from another run: knowledge was '\w+', is '\w+'"):
        fit(tmp_path, other, val)
    graph["user", "item"].edge_index = graph["user", "item"].edge_index[:, 1:]
    other = extract_knowledge(LightGCN(graph, dim=12), graph, num_items=25)
    with pytest.raises(ValueError, match=r"from another run: graph was '\w+', is '\w+'"):
        fit(tmp_path, other, val)
    data = SyntheticInteractions(num_users=61, num_items=50, num_edges=700)[0]
    other = extract_knowledge(LightGCN(data, dim=12), data, num_items=25)
    with pytest.raises(
        ValueError, match=r"from another run: model was 'LightGCN\(60, .*'LightGCN\(61"
    ):
        fit(tmp_path, other, None)


def permuted(edges):
    return edges.flip(1)


def doubled(edges):
    return torch.cat([edges, edges[:, :1]], 1)


@pytest.mark.parametrize("change", [permuted, doubled])
def test_checkpoint_of_edges_in_another_order_or_number(tmp_path, graph, val, change):
    fit(tmp_path, graph, val, max_epochs=1)
    graph["user", "item"].edge_index = change(graph["user", "item"].edge_index)
    with pytest.raises(ValueError, match=r"from another run: graph was '\w+', is '\w+'"):
        fit(tmp_path, graph, val, max_epochs=1)


def test_checkpoint_of_other_features(tmp_path, graph, val):
    graph["item"].x = torch.rand(50, 3)
    fit(tmp_path, graph, val, max_epochs=1)
    graph["item"].x = graph["item"].x + 1
    with pytest.raises(ValueError, match=r"from another run: graph was '\w+', is '\w+'"):
        fit(tmp_path, graph, val, max_epochs=1)


@pytest.mark.parametrize(
    "change",
    [
        lambda lists: lists[:, :-1],
        lambda lists: lists.flip(1),
        lambda lists: torch.cat([lists[:, :3], lists[:, 3:].flip(1)], 1),
    ],
)
def test_checkpoint_of_edited_or_shorter_lists(tmp_path, graph, val, change):
    fit(tmp_path, graph, val, max_epochs=1)
    graph["user"].teacher_items = change(graph["user"].teacher_items)
    with pytest.raises(ValueError, match=r"from another run: knowledge was '\w+', is '\w+'"):
        fit(tmp_path, graph, val, max_epochs=1)


@pytest.mark.parametrize("name", ["teacher_scores", "teacher_confidence"])
def test_checkpoint_of_lists_that_carry_something_else(tmp_path, graph, val, name):
    graph["user"][name] = torch.ones(graph["user"].teacher_items.shape)
    fit(tmp_path, graph, val, max_epochs=1)
    graph["user"][name] = graph["user"][name] / 2
    with pytest.raises(ValueError, match=r"from another run: knowledge was '\w+', is '\w+'"):
        fit(tmp_path, graph, val, max_epochs=1)


def test_checkpoint_of_other_validation_targets(tmp_path, graph, val):
    fit(tmp_path, graph, val, max_epochs=1)
    label = val["user", "item"].edge_label_index
    val["user", "item"].edge_label_index = label[:, 1:]
    with pytest.raises(ValueError, match=r"from another run: val_data was '\w+', is '\w+'"):
        fit(tmp_path, graph, val, max_epochs=1)
    with pytest.raises(ValueError, match=r"from another run: val_data was '\w+', is None"):
        fit(tmp_path, graph, None, max_epochs=1)


@pytest.mark.parametrize("later", [{"patience": 1}, {"patience": None}, {"progress": True}])
def test_what_may_change(tmp_path, graph, val, later):
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "part", graph, val, evaluator=Interrupting(2, interrupt))
    again = fit(tmp_path / "part", graph, val, evaluator=Interrupting(9, interrupt), **later)
    assert_same(fit(tmp_path / "whole", graph, val, **later | {"progress": False}), again)


def test_knowledge_that_no_method_needs_may_change(tmp_path, graph, val):
    pairs = methods()[:1]  # reads vectors
    first = fit(tmp_path, graph, val, pairs=pairs)
    graph["user"].teacher_items = graph["user"].teacher_items[:, :3]
    graph["user"].teacher_confidence = torch.rand(graph["user"].teacher_items.shape)
    assert_same(first, fit(tmp_path, graph, val, pairs=pairs))


def test_what_validation_needs_may_change_without_it(tmp_path, train):
    first = fit(tmp_path, train, None, pairs=[])
    options = {"metric": "ndcg@5", "restore_best": False, "evaluate_every": 3}
    again = fit(tmp_path, train, None, pairs=[], **options)
    assert losses(first[1]) == losses(again[1]) and len(again[1]) == 4


def test_damaged_checkpoint(tmp_path, graph, val):
    fit(tmp_path, graph, val)
    path = tmp_path / "last.pt"
    path.write_bytes(path.read_bytes()[:-100])
    model = LightGCN(graph, dim=6)
    before = model.user_embedding.detach().clone()
    trainer = Trainer(**OPTIONS, checkpoint_dir=tmp_path)
    with pytest.raises(ValueError, match=r"last.pt' is truncated, or not a Trainer checkpoint"):
        trainer.fit(model, graph, val_data=val, distillations=methods(), resume=True)
    assert torch.equal(model.user_embedding, before)


def test_checkpoint_of_other_shapes(tmp_path, graph, val):
    """What only a file made by hand can be is refused before the model changes."""
    fit(tmp_path, graph, val)
    path = tmp_path / "last.pt"
    whole = torch.load(path, weights_only=True)
    name = "model.user_embedding"
    for change, message in (
        ({"objective": whole["objective"] | {name: torch.zeros(3)}}, rf"'{name}' is \[3\]"),
        ({"best": {}}, r"'user_embedding' is missing there"),
        ({"optimizer": {"state": {}, "param_groups": []}}, r"it optimises other parameters"),
    ):
        save_checkpoint(whole | change, path)
        model = LightGCN(graph, dim=6)
        before = model.user_embedding.detach().clone()
        trainer = Trainer(**OPTIONS, checkpoint_dir=tmp_path)
        with pytest.raises(ValueError, match=r"last.pt' does not fit this run: " + message):
            trainer.fit(model, graph, val_data=val, distillations=methods(), resume=True)
        assert torch.equal(model.user_embedding, before)
