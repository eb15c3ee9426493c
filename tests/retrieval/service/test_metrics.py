from __future__ import annotations

import re
import tempfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyg_kd.retrieval.service.board import SECONDS, Board, board_bytes
from pyg_kd.retrieval.service.metrics import Metrics
from tests.retrieval.service.conftest import make_index

LINE = re.compile(r'(pyg_kd_\w+)(?:\{((?:\w+="[^"\\\n]*",?)*)\})? (\S+)')


def _parsed(text: str) -> dict[tuple[str, str], float]:
    """The samples by name and labels; everything else must be a comment of the format."""
    assert text.endswith("\n")
    found, typed = {}, set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert kind in ("counter", "gauge", "histogram") and name not in typed
            typed.add(name)
        elif not line.startswith("# HELP "):
            name, labels, value = LINE.fullmatch(line).groups()
            assert re.sub("_(bucket|sum|count)$", "", name) in typed or name in typed
            assert (name, labels or "") not in found
            found[name, labels or ""] = float(value)
    return found


@given(st.lists(st.tuples(st.sampled_from(["/recommend", "/events", "/absent"]), st.floats(0, 20))))
def test_latencies_are_counted_in_all_classes_that_hold_them(told):
    metrics = Metrics(Board())
    for path, seconds in told:
        metrics.request(path, 200, seconds)
    found = _parsed(metrics.text())
    for name, mine in (
        ("/recommend", [s for path, s in told if path == "/recommend"]),
        ("other", [s for path, s in told if path != "/recommend"]),
    ):
        for bound in SECONDS:
            counted = found["pyg_kd_request_seconds_bucket", f'path="{name}",le="{bound}"']
            assert counted == sum(seconds <= bound for seconds in mine)
        for key in (("bucket", f'path="{name}",le="+Inf"'), ("count", f'path="{name}"')):
            assert found[f"pyg_kd_request_seconds_{key[0]}", key[1]] == len(mine)
        total = found["pyg_kd_request_seconds_sum", f'path="{name}"']
        assert total == pytest.approx(sum(mine), abs=1e-6)


def test_workers_add_up_and_a_new_one_counts_on():
    with tempfile.TemporaryFile() as file:
        file.truncate(board_bytes(3))
        boards = [Board(3, worker, file.fileno()) for worker in range(3)]
        for worker, board in enumerate(boards):
            Metrics(board).request("/recommend", 200, 0.001)
            Metrics(board).batch(2 + worker, 0.5)
            board.serve(("ab" if worker else "cd") * 32)
            board.own("ready")[:] = 1
        boards[0].forget_states(1)
        again = Board(3, 1, file.fileno())
        Metrics(again).request("/recommend", 503, 0.001)
        Metrics(again).request("/recommend", 418, 0.001)
        found = _parsed(Metrics(boards[2]).text())
    key = "pyg_kd_requests_total"
    assert found[key, 'path="/recommend",status="200"'] == 3
    assert found[key, 'path="/recommend",status="503"'] == 1
    assert found[key, 'path="/recommend",status="0"'] == 1
    assert found["pyg_kd_batch_size_sum", ""] == 9 and found["pyg_kd_batch_size_count", ""] == 3
    assert found["pyg_kd_ranking_seconds_total", ""] == 1.5
    assert found["pyg_kd_ready", ""] == 2
    digests = {labels: n for (name, labels), n in found.items() if name == "pyg_kd_bundle"}
    assert digests == {f'digest="{"cd" * 32}"': 1, f'digest="{"ab" * 32}"': 1}


def test_the_service_counts(client, tmp_path):
    connection = client(make_index(), events=tmp_path / "log")
    for user in range(5):
        connection.post("/recommend", json={"user": user})
    connection.post("/recommend", json={"user": None})
    connection.post("/events", json={"user": 1, "item": 3})
    connection.get("/kilimanjaro")
    connection.post("/recommend", json={"user": 1})
    answer = connection.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "kilimanjaro" not in answer.text
    found = _parsed(answer.text)
    key = "pyg_kd_requests_total"
    assert found[key, 'path="/recommend",status="200"'] == 6
    assert found[key, 'path="/recommend",status="422"'] == 1
    assert found[key, 'path="/events",status="200"'] == 1
    assert found[key, 'path="other",status="404"'] == 1
    assert found["pyg_kd_batch_size_sum", ""] == 6
    assert found["pyg_kd_ranking_seconds_total", ""] > 0
    assert found["pyg_kd_followed_total", ""] == 1
    assert found["pyg_kd_open", ""] == 1  # this one
    assert found["pyg_kd_ready", ""] == 1
    digest = connection.get("/ready").json()["bundle"]
    assert found["pyg_kd_bundle", f'digest="{digest}"'] == 1


def test_a_board_is_integers_of_eight_bytes():
    board = Board(2, 1)
    board.own("swaps")[:] += 2**40
    assert board.rows.dtype == np.int64 and board.rows.nbytes == board_bytes(2)
    assert board.total("swaps").tolist() == [2**40] and board.rows[0].sum() == 0
