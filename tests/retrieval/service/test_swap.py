from __future__ import annotations

import json
import time

import numpy as np
import pytest

from pyg_kd.retrieval import load_student
from pyg_kd.retrieval.bundle import save_index
from pyg_kd.retrieval.bundle.manifest import MANIFEST
from tests.retrieval.service.conftest import make_index


@pytest.fixture
def bundle(tmp_path):
    save_index(make_index(), tmp_path / "bundle")
    return tmp_path / "bundle"


def _until(found, seconds: float = 20.0):
    """What is true in the end."""
    late = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < late
        time.sleep(0.02)
    return result


def _list(connection, **ask) -> dict:
    answer = connection.post("/recommend", json=ask)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_bundle_is_served_and_its_log_lies_beside_it(client, bundle):
    connection = client(bundle)
    digest = load_student(bundle).info["sha256"]
    assert connection.get("/ready").json() == {
        "ready": True,
        "bundle": digest,
        "num_users": 9,
        "num_items": 14,
        "refused": None,
    }
    assert _list(connection, user=1)["bundle"] == digest
    connection.post("/events", json={"user": 1, "item": 4})
    assert bundle.with_name("bundle.events").exists()
    assert 4 not in [item["id"] for item in _list(client(bundle), user=1, k=14)["items"]]


def test_reload_takes_the_new_bundle_with_all_events(client, bundle):
    connection = client(bundle)
    connection.post("/events", json={"user": 1, "items": [4, 7]})
    before = _list(connection, user=0)
    same = connection.post("/reload")
    assert same.json() == {"bundle": before["bundle"], "changed": False, "workers": 1}
    save_index(make_index(seed=2), bundle)
    new = load_student(bundle)
    answer = connection.post("/reload")
    assert answer.json() == {"bundle": new.info["sha256"], "changed": True, "workers": 1}
    found = _list(connection, user=0, k=5)
    assert found["bundle"] == new.info["sha256"] != before["bundle"]
    assert [item["id"] for item in found["items"]] == new.search([0], k=5)[0][0].tolist()
    new.add_interactions(1, [4, 7])
    found = _list(connection, user=1, k=5)
    assert [item["id"] for item in found["items"]] == new.search([1], k=5)[0][0].tolist()
    assert found["source"] == "folded"


def test_a_replaced_manifest_is_noticed(client, bundle):
    connection = client(bundle)
    save_index(make_index(seed=2), bundle)
    digest = load_student(bundle).info["sha256"]
    _until(lambda: connection.get("/ready").json()["bundle"] == digest)
    assert "pyg_kd_swaps_total 1\n" in connection.get("/metrics").text


def test_a_refused_bundle_leaves_the_old_one_serving(client, bundle, caplog):
    connection = client(bundle)
    before = _list(connection, user=0)
    sound = (bundle / MANIFEST).read_bytes()
    save_index(make_index(seed=2), bundle)
    better = (bundle / MANIFEST).read_bytes()
    (bundle / MANIFEST).write_bytes(better.replace(b'"rows"', b'"rowz"'))
    answer = connection.post("/reload")
    assert answer.status_code == 409 and "changed after it was written" in answer.json()["error"]
    ready = connection.get("/ready")
    assert ready.status_code == 200 and ready.json()["bundle"] == before["bundle"]
    assert "changed after it was written" in ready.json()["refused"]["reason"]
    assert _list(connection, user=0) == before
    assert "bundle refused" in caplog.text
    (bundle / MANIFEST).write_bytes(sound)  # whose files are gone
    assert connection.post("/reload").json()["changed"] is False
    (bundle / MANIFEST).write_bytes(better)  # found without being told
    digest = json.loads(better)["sha256"]
    _until(lambda: connection.get("/ready").json()["bundle"] == digest)
    assert connection.get("/ready").json()["refused"] is None


def test_a_bundle_that_is_copied_file_by_file_is_tried_again(client, bundle):
    connection = client(bundle)
    save_index(make_index(seed=2), bundle)
    digest = load_student(bundle).info["sha256"]
    part = next(bundle.glob("items-*"))
    data = part.read_bytes()
    part.unlink()
    _until(lambda: connection.get("/ready").json()["refused"])
    part.write_bytes(data)  # the manifest stays as it is
    _until(lambda: connection.get("/ready").json()["bundle"] == digest)


def test_a_bundle_that_is_missing_at_the_start_is_an_error(client, tmp_path):
    with pytest.raises(ValueError, match="no such folder"):
        client(tmp_path / "absent")


def test_an_index_has_nothing_to_reload(client):
    assert client().post("/reload").status_code == 409


def test_a_log_that_is_moved_away_is_forgotten(client, bundle):
    connection = client(bundle)
    connection.post("/events", json={"user": 4, "items": [4]})
    assert _list(connection, user=4)["source"] == "folded"
    bundle.with_name("bundle.events").rename(bundle.with_name("old"))
    connection.post("/events", json={"user": 0, "items": [4]})  # begins a new one
    _until(lambda: _list(connection, user=4)["source"] == "model")
    assert _list(connection, user=0)["source"] == "folded"


def test_a_new_bundle_while_the_log_is_moved_away(client, bundle):
    """Nobody need post an event for it to load."""
    connection, log = client(bundle), bundle.with_name("bundle.events")
    connection.post("/events", json={"user": 4, "items": [4]})
    log.rename(bundle.with_name("old"))
    save_index(make_index(seed=2), bundle)
    assert connection.post("/reload").json()["changed"] is True
    assert connection.get("/ready").json()["refused"] is None and log.exists()
    assert _list(connection, user=4)["source"] == "model"


def test_an_event_stays_in_force_while_the_old_log_is_forgotten(client, bundle):
    connection, log = client(bundle), bundle.with_name("bundle.events")
    connection.post("/events", json={"user": 4, "items": [4]})
    log.rename(bundle.with_name("old"))
    connection.post("/events", json={"user": 0, "items": [4]})
    late = time.monotonic() + 20
    while _list(connection, user=4)["source"] == "folded":
        assert _list(connection, user=0)["source"] == "folded"
        assert time.monotonic() < late
    assert _list(connection, user=0)["source"] == "folded"
    assert connection.get("/ready").json()["refused"] is None


def test_the_folder_of_the_log_is_no_reason_to_refuse_a_bundle(client, bundle, tmp_path, caplog):
    log = tmp_path / "here" / "log"
    log.parent.mkdir()
    connection = client(bundle, events=log)
    log.parent.rename(tmp_path / "away")
    _until(lambda: "log not begun" in caplog.text)
    (tmp_path / "away").rename(log.parent)
    assert connection.post("/events", json={"user": 4, "items": [4]}).status_code == 200
    assert _list(connection, user=4)["source"] == "folded"
    assert "bundle refused" not in caplog.text


def test_many_swaps_lose_no_request_and_mix_nothing(client, bundle):
    """While bundles change, every answer equals what exactly the bundle that it names gives."""
    connection = client(bundle)
    indices = [make_index(seed=seed) for seed in range(4)]
    expected = {load_student(bundle).info["sha256"]: make_index()}
    seen = set()
    for turn in range(40):
        if turn % 4 == 0:
            index = indices[turn // 4 % 4]
            expected[save_index(index, bundle)["sha256"]] = index
            if turn % 8 == 0:
                connection.post("/reload")
        for user in range(9):
            found = _list(connection, user=user, k=14)
            items, scores = expected[found["bundle"]].search([user], k=14, unknown="popular")
            kept = items[0] >= 0
            assert [item["id"] for item in found["items"]] == items[0][kept].tolist()
            np.testing.assert_array_equal([i["score"] for i in found["items"]], scores[0][kept])
            seen.add(found["bundle"])
    assert len(seen) >= 2
