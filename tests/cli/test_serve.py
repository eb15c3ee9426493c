from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from dataclasses import asdict, fields

import pytest

from pyg_kd.cli.engine.serve import read_titles
from pyg_kd.cli.options.serve import Allowed, Page

pytest.importorskip("uvicorn")


def test_limits_are_those_of_the_service():
    from pyg_kd.retrieval.service import Limits

    assert asdict(Allowed()) == asdict(Limits())
    assert {f.name for f in fields(Allowed)} == {f.name for f in fields(Limits)}


def test_options_reach_the_service(run, distilled, tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr(
        "pyg_kd.retrieval.service.server.serve", lambda *a, **k: called.append((a, k))
    )
    monkeypatch.setenv("PYG_KD_TOKEN", "secret")
    (tmp_path / "titles.csv").write_text('item,title\n101,"One, two"\n999,Gone\nx,y\n')
    words = ["--port", 8001, "--workers", 2, "--waiting", 3, "--teacher", distilled / "teacher"]
    words += ["--titles", tmp_path / "titles.csv"]
    assert run("serve", distilled / "bundle", *words).code == 0
    ((args, options),) = called
    assert args == (distilled / "bundle", "127.0.0.1", 8001)
    assert options["workers"] == 2 and options["token"] == "secret"
    assert options["limits"].waiting == 3 and options["limits"].batch == 32
    assert options["teacher"] == str(distilled / "teacher")
    assert options["titles"] == {101: "One, two", 999: "Gone"}


def test_titles_of_other_columns(distilled, tmp_path):
    path = tmp_path / "films.tsv"
    path.write_text("id\tname\n101\tA\n")
    page = Page(titles=str(path), item="id", title="name")
    assert read_titles(page, distilled / "bundle") == {101: "A"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "there is no such folder"),
        (["bundle", "--host", "0.0.0.0"], "token"),
        (["bundle", "--workers", 0], "'workers' must be a positive integer (got 0)"),
        (["bundle", "--batch", 0], "'batch' must be a positive integer (got 0)"),
        (["bundle", "--titles", "no.csv"], "No such file or directory: 'no.csv'"),
        (["bundle", "--backend", "magic"], "backend"),
    ],
)
def test_mistakes(run, distilled, monkeypatch, words, message):
    monkeypatch.chdir(distilled)
    monkeypatch.delenv("PYG_KD_TOKEN", raising=False)
    result = run("serve", *words, "--port", 0)
    assert result.code == 2 and message in result.err


def test_a_server_that_is_not_installed_is_named(run, distilled, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    result = run("serve", distilled / "bundle", "--port", 0)
    assert result.code == 2 and "'serve' needs uvicorn: pip install 'pyg_kd[serve]'" in result.err


def test_a_request(distilled):
    command = [sys.executable, "-m", "pyg_kd.cli", "serve", str(distilled / "bundle")]
    process = subprocess.Popen([*command, "--port", "0"], stderr=subprocess.PIPE, text=True)
    try:
        port = re.search(r'"port": ?(\d+)', process.stderr.readline())[1]
        url = f"http://127.0.0.1:{port}/recommend"
        body = json.dumps({"user": "u3", "k": 3}).encode()
        ask = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(ask, timeout=30) as answer:  # its socket listens from the start
            found = json.load(answer)
        assert len(found["items"]) == 3
    finally:
        os.kill(process.pid, signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 0
