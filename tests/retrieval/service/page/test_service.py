"""The page as part of the service: its limits, its token, clicks, and swaps of the bundle."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.testclient import TestClient

from pyg_kd.retrieval.bundle import save_index
from pyg_kd.retrieval.service.app import create_app
from pyg_kd.retrieval.service.page import Models, routes
from pyg_kd.retrieval.service.page.answers import QUESTIONS
from pyg_kd.retrieval.service.page.assets import Assets
from pyg_kd.retrieval.service.page.handlers import AT_ONCE
from pyg_kd.retrieval.service.refused import Refused
from tests.retrieval.service.page.page_models import HOSTILE, ask, make_index


def test_the_page_takes_few_threads() -> None:
    index = make_index(np.random.default_rng(8))
    begun, go = threading.Semaphore(0), threading.Event()

    def slow() -> Models:
        begun.release()
        assert go.wait(30)
        return Models(index)

    handlers: Any = {Refused: lambda request, error: error.response()}
    app = Starlette(routes=routes(slow), exception_handlers=handlers)
    with TestClient(app) as client, ThreadPoolExecutor(AT_ONCE) as threads:
        answers = [threads.submit(client.get, "/compare/about") for _ in range(AT_ONCE)]
        for _ in answers:
            assert begun.acquire(timeout=30)
        refused = client.get("/compare/about")
        assert (refused.status_code, refused.json()["error"]) == (503, "the service is busy")
        go.set()
        assert [answer.result().status_code for answer in answers] == [200] * AT_ONCE
        assert client.get("/compare/about").status_code == 200


def test_clicks_and_swaps_show_on_the_page(tmp_path: Path) -> None:
    bundle, rng = tmp_path / "bundle", np.random.default_rng(9)
    save_index(make_index(rng, info={"metrics": {"recall@20": 0.5}}), bundle)
    app = create_app(bundle, teacher=make_index(rng, dim=16), titles={3: HOSTILE})
    with TestClient(app, base_url="http://localhost") as client:
        assert "default-src 'self'" in client.get("/").headers["content-security-policy"]
        about = client.get("/compare/about").json()
        assert (about["teacher"]["dim"], about["student"]["items"]) == (16, 40)
        assert about["student"]["metrics"] == {"recall@20": 0.5}
        assert client.post("/events", json={"user": 500, "item": 3}).status_code == 200
        known = ask(client, "lists", user="500")["known"]["items"]
        assert [(item["id"], item["title"]) for item in known] == [("3", HOSTILE)]
        save_index(make_index(rng, items=50), bundle)
        assert client.post("/reload").json()["changed"]
        assert client.get("/compare/about").json()["student"]["items"] == 50
        known = ask(client, "lists", user="500")["known"]["items"]
        assert [item["id"] for item in known] == ["3"]


def test_networkx_is_imported_for_a_drawing_alone() -> None:
    script = (
        "import sys, pyg_kd.retrieval.service.page; print({'networkx', 'torch'} & {*sys.modules})"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert found.stdout.decode().strip() == "set()"


def test_the_page_of_another_name_is_refused() -> None:
    with TestClient(create_app(make_index(np.random.default_rng(9)))) as client:
        for path in ("/", "/compare/about"):
            assert client.get(path, headers={"host": "elsewhere.example"}).status_code == 400


def test_the_page_is_open_and_its_questions_are_not() -> None:
    app = create_app(make_index(np.random.default_rng(9)), token="secret")
    with TestClient(app, base_url="http://localhost") as client:
        for path in ("/", *(f"/page/{name}" for name in Assets().names)):
            assert client.get(path).status_code == 200
        assert client.get("/compare/about").status_code == 401
        for name in QUESTIONS:
            assert client.post(f"/compare/{name}", json={}).status_code == 401
        allowed = {"authorization": "Bearer secret"}
        assert client.get("/compare/about", headers=allowed).status_code == 200
