"""The commands of docs/how_to/cli.md and of README.md run as they stand there."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pandas
import pytest
import torch

from pyg_kd.cli import app, main

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how_to" / "cli.md").read_text()


@pytest.fixture
def folder(tmp_path, table, monkeypatch):
    """A folder with the files that the page speaks of."""
    monkeypatch.chdir(tmp_path)
    rows = [line.split(",")[:2] for line in table.read_text().splitlines()[1:]]
    Path("interactions.csv").write_text("user,item\n" + "".join(f"{u},{i}\n" for u, i in rows))
    Path("users.txt").write_text("u1\nu2\n")
    Path("sold-out.txt").write_text("101\n")
    Path("newcomers.csv").write_text("user,item\nnew,101\nnew,105\n")
    seen = {int(item) for user, item in rows if user == "u5"}
    Path("theirs.csv").write_text(
        "user,item\n" + "".join(f"u{u},{100 + u % 9}\n" for u in range(60))
    )
    fresh = min(set(range(100, 140)) - seen)
    Path("later.csv").write_text(f"user,item\nu5,{fresh}\n")
    return tmp_path


def commands(text):
    """The commands in the shell blocks of a page."""
    for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("pyg-kd "):
                yield line


FIVE = re.findall(r"```bash\n(pyg-kd distill .*?)```", PAGE, re.DOTALL)[0]


def test_the_page_runs(folder, distilled, capsys):
    shutil.copytree(distilled, "run")  # of the five commands, which another test runs
    threads = torch.get_num_threads()
    found = list(commands(PAGE.replace(FIVE, "")))
    for line in found:
        words, _, target = line.partition(" > ")
        assert main([*shlex.split(words)[1:], "--debug"]) == 0, (line, capsys.readouterr().err)
        out = capsys.readouterr().out
        if target:
            Path(target).write_text(out)
    torch.set_num_threads(threads)
    shown = {line.split()[1] for line in [*found, *FIVE.splitlines()]}
    # Searches and studies take longer, and have pages of their own.
    pages = [(ROOT / "docs" / "how_to" / name).read_text() for name in ("tune.md", "studies.md")]
    shown |= {line.split()[1] for page in pages for line in commands(page)}
    assert shown == set(app.COMMANDS)
    made = {path.name for path in folder.iterdir()}
    assert {"run-16", "run-mf", "run-td", "run-theirs", "lists.csv", "vectors", "pulled"} <= made


@pytest.mark.slow
def test_the_five_commands_in_a_shell(folder):
    *batch, serve = FIVE.strip().splitlines()
    assert len(batch) == 4 and serve.startswith("pyg-kd serve ")
    # Another test may listen at the port that is shown.
    serve, port = serve.replace("--port 8000", "--port 0"), r'"port": ?([0-9]+)'
    script = "\n".join(
        [
            f'pyg-kd() {{ "{sys.executable}" -m pyg_kd.cli "$@"; }}',
            *batch,
            f'exec "{sys.executable}" -m pyg_kd.cli {serve.removeprefix("pyg-kd ")}',
        ]
    )
    with open("log.txt", "w") as log:
        shell = subprocess.Popen(["bash", "-ec", script], stderr=log, text=True)
    try:
        while shell.poll() is None and not (found := re.search(port, Path("log.txt").read_text())):
            time.sleep(0.1)
        body = json.dumps({"user": "u1", "k": 5}).encode()
        url = f"http://127.0.0.1:{found[1]}/recommend"
        ask = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(ask, timeout=30) as answer:
            listed = [item["id"] for item in json.load(answer)["items"]]
    finally:
        shell.terminate()
    assert shell.wait(30) == 0, Path("log.txt").read_text()
    frame = pandas.read_parquet("lists.parquet")
    assert frame["user"].unique().tolist() == ["u1", "u2"]
    assert frame["item"][:5].tolist() == listed and len(listed) == 5
    assert Path("student.onnx").stat().st_size > 0


def test_the_readme_shows_the_same_commands():
    for block in re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL):
        assert "pyg-kd distill" not in block or FIVE in block
