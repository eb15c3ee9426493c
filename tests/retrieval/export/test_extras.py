"""Packages that are missing are named, with the extra that installs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pyg_kd.retrieval import save_index
from pyg_kd.retrieval.export import (
    pull_bundle,
    push_bundle,
    write_faiss,
    write_onnx,
    write_parquet,
)
from tests.retrieval.bundles import small_index

CALLS = {
    "pyarrow": (lambda folder: write_parquet(small_index(), folder), "write_parquet", "tables"),
    "onnx": (lambda folder: write_onnx(small_index(), folder / "a"), "write_onnx", "onnx"),
    "faiss": (lambda folder: write_faiss(small_index(), folder / "a"), "write_faiss", "faiss"),
    "huggingface_hub": (lambda folder: pull_bundle("a/b", folder / "a"), "pull_bundle", "hub"),
}


@pytest.mark.parametrize("package", CALLS)
def test_a_missing_package_is_named(tmp_path, monkeypatch, package):
    call, name, extra = CALLS[package]
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    with pytest.raises(ImportError, match=rf"{name} needs {package}: .*'pyg_kd\[{extra}\]'"):
        call(tmp_path)
    assert [*tmp_path.iterdir()] == []


def test_pushing_without_the_hub(tmp_path, monkeypatch):
    save_index(small_index(), tmp_path / "a")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"push_bundle needs huggingface_hub: .*pyg_kd\[hub\]"):
        push_bundle(tmp_path / "a", "ours/student")


def test_importing_exports_loads_none_of_them():
    code = (
        f"import sys, pyg_kd.retrieval.export; print({{*sys.modules}} & {{*{[*CALLS]}, 'torch'}})"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == "set()"
