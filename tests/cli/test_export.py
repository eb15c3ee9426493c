from __future__ import annotations

import json

import numpy as np
import pandas
import pytest

from pyg_kd.retrieval import load_student


def vectors(path):
    frame = pandas.read_parquet(path)
    return frame["id"].tolist(), np.stack(frame["vector"])


def test_parquet(run, distilled, tmp_path):
    result = run("export", distilled / "bundle", tmp_path / "out", "--format", "parquet")
    assert result.code == 0 and result.out == "" and "wrote" in result.err
    index = load_student(distilled / "bundle")
    ids, x = vectors(tmp_path / "out" / "users.parquet")
    assert ids == index.users.take(np.arange(60)).tolist()
    assert np.array_equal(x, index.x_user.block(0, 60))


def test_a_run_stands_for_its_bundle(run, distilled, tmp_path):
    assert run("export", distilled, tmp_path / "a", "--format", "parquet").code == 0
    assert run("export", distilled / "bundle", tmp_path / "b", "--format", "parquet").code == 0
    for name in ("users.parquet", "items.parquet"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("model", ["teacher", "alone", "student"])
def test_any_model_of_a_run_as_a_bundle(run, distilled, tmp_path, model):
    words = ["--format", "bundle", "--model", model]
    assert run("export", distilled, tmp_path / "out", *words).code == 0
    index = load_student(tmp_path / "out")
    assert index.dim == {"teacher": 64, "alone": 8, "student": 8}[model]
    assert len(index.seen.pattern.col) == len(load_student(distilled / "bundle").seen.pattern.col)
    if model != "alone":
        own = load_student(distilled / ("bundle" if model == "student" else model))
        assert np.array_equal(own.x_item.block(0, 40), index.x_item.block(0, 40))


def test_precision_of_a_model(run, distilled, tmp_path):
    words = ["--format", "bundle", "--model", "student", "--dtype", "int8"]
    assert run("export", distilled, tmp_path / "out", *words).code == 0
    assert load_student(tmp_path / "out").dtype == "int8"


@pytest.mark.parametrize("form", ["bundle", "parquet"])
def test_a_bundle_keeps_its_precision(run, distilled, tmp_path, form):
    words = ["--format", form, "--dtype"]
    result = run("export", distilled, tmp_path / "out", *words, "int8")
    assert result.code == 2 and "'dtype' is for a model of a run" in result.err
    assert "float32 (got 'int8')" in result.err and not (tmp_path / "out").exists()
    assert run("export", distilled, tmp_path / "out", *words, "float32").code == 0


def test_onnx(run, distilled, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    assert run("export", distilled / "bundle", tmp_path / "m.onnx").code == 0
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    items, _ = session.run(None, {"users": np.arange(3)})
    index = load_student(distilled / "bundle")
    expected, _ = index.search(index.users.take(np.arange(3)), 20)
    assert np.array_equal(index.items.take(items), expected)


def test_faiss(run, distilled, tmp_path):
    faiss = pytest.importorskip("faiss")
    assert run("export", distilled / "bundle", tmp_path / "i.faiss", "--ids", "rows").code == 0
    index = load_student(distilled / "bundle")
    found = faiss.read_index(str(tmp_path / "i.faiss")).search(index.x_user.block(0, 3), 5)[1]
    expected, _ = index.search(index.users.take(np.arange(3)), 5, exclude_seen=False)
    assert np.array_equal(index.items.take(found), expected)


def test_to_a_hub_and_back(run, distilled, tmp_path):
    # A path stands for a repository.
    pushed = run("export", distilled, f"hub:{tmp_path / 'hub'}")
    pulled = run("export", f"hub:{tmp_path / 'hub'}", tmp_path / "out")
    assert pushed.code == pulled.code == 0 and pushed.out == pulled.out
    manifest = json.loads((distilled / "bundle" / "manifest.json").read_text())
    assert pushed.out.strip() == manifest["sha256"]
    assert load_student(tmp_path / "out").info == load_student(distilled / "bundle").info


def test_what_is_there_is_kept(run, distilled, tmp_path):
    path = tmp_path / "i.onnx"
    path.write_text("mine")
    refused = run("export", distilled / "bundle", path)
    assert refused.code == 2 and "is there already: --overwrite replaces it" in refused.err
    assert path.read_text() == "mine"
    refused = run("export", distilled / "bundle", tmp_path, "--format", "parquet")
    assert refused.code == 2 and "is there already" in refused.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bundle", "out.txt"], "'out' must end in .onnx, .faiss, .index, .parquet, or --format"),
        (["bundle", "out", "--format", "bundle", "--model", "student"], "'model' needs a run"),
        ([".", "out", "--format", "bundle", "--model", "bert"],
         "'model' must be one of teacher, alone, student (got 'bert')"),
        (["nowhere", "out", "--format", "bundle"], "there is no such folder"),
        (["hub:a/b", "out.onnx", "--format", "onnx"], "is pulled as a bundle (got format 'onnx')"),
        (["bundle", "out", "--format", "pickle"], "--format must be auto, parquet, onnx"),
        (["bundle"], "error: OUT must be given"),
    ],
)  # fmt: skip
def test_mistakes(run, distilled, monkeypatch, words, message):
    monkeypatch.chdir(distilled)
    result = run("export", *words)
    assert result.code == 2 and message in result.err
    assert not (distilled / "out").exists()
