from __future__ import annotations

import numpy as np
import pytest
import torch

from pyg_kd.datasets import SyntheticInteractions, from_interactions
from pyg_kd.models import CML, EASE, MF, LightGCN, MultVAE
from pyg_kd.retrieval import TopKIndex


@pytest.mark.parametrize("make", [MF, LightGCN, MultVAE])
def test_lists_are_those_of_recommend(make) -> None:
    data = SyntheticInteractions(None, num_users=60, num_items=40, num_edges=500)[0]
    model = make(data, dim=6)
    model.train()
    expected, values = model.recommend(data, k=35)
    index = TopKIndex.from_model(model, data)
    items, scores = index.search(np.arange(60), 35)
    assert model.training
    assert np.allclose(scores, values.numpy(), atol=1e-5)
    assert (items == expected.numpy()).mean() > 0.99  # last digits of a product may differ


def test_original_ids_come_along() -> None:
    table = {"who": ["eve", "bob", "eve"], "what": [30, 10, 10]}
    data = from_interactions(table, user="who", item="what")
    index = TopKIndex.from_model(MF(data, dim=4), data, dtype="int8")
    assert index.search("bob", 2)[0].tolist() == [[30, -1]]
    assert index.dtype == "int8" and index.users.kind == "text"


@pytest.mark.parametrize("make", [lambda data: CML(data, dim=4), EASE])
def test_models_without_inner_products_are_refused(make) -> None:
    data = SyntheticInteractions(None, num_users=30, num_items=20, num_edges=200)[0]
    with pytest.raises(ValueError, match="ranks by inner products, which scores of"):
        TopKIndex.from_model(make(data), data)


def test_tables_are_the_models_at_that_time() -> None:
    data = SyntheticInteractions(None, num_users=30, num_items=20, num_edges=200)[0]
    model = MF(data, dim=4)
    index = TopKIndex.from_model(model, data)
    before = index.vectors([3]).copy()
    with torch.no_grad():
        model.user_embedding.zero_()
    assert np.array_equal(index.vectors([3]), before)
