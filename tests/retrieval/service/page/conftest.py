"""Two models to compare, and a client of the page that does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from pyg_kd.retrieval.service.page import Models
from tests.retrieval.service.page.page_models import client_of, make_models


@pytest.fixture(scope="module")
def models() -> Models:
    return make_models()


@pytest.fixture
def client(models: Models) -> Iterator[TestClient]:
    with client_of(models) as client:
        yield client
