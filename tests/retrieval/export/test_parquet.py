from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from pyg_kd.retrieval import TopKIndex, save_index
from pyg_kd.retrieval.bundle import load_student
from pyg_kd.retrieval.export import write_parquet
from tests.retrieval.bundles import USERS, small_index


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "int4"])
@pytest.mark.parametrize("rows_per_group", [1, 3, 7, 100])
def test_rows_are_ids_and_vectors(tmp_path, dtype, rows_per_group):
    index = small_index(dtype)
    write_parquet(index, tmp_path, rows_per_group=rows_per_group)
    for name, ids, table in (
        ("users", USERS, index.x_user),
        ("items", [*range(-5, 58, 7)], index.x_item),
    ):
        found = parquet.read_table(tmp_path / f"{name}.parquet")
        assert found["id"].to_pylist() == ids
        vectors = np.array(found["vector"].to_pylist(), np.float32)
        assert np.array_equal(vectors, table.block(0, len(table)))


def test_schema_and_groups(tmp_path):
    write_parquet(small_index(), tmp_path, rows_per_group=3)
    schema = parquet.read_schema(tmp_path / "users.parquet")
    assert schema.field("id").type == pa.string()
    assert schema.field("vector").type == pa.list_(pa.float32(), 5)
    assert parquet.read_schema(tmp_path / "items.parquet").field("id").type == pa.int64()
    told = parquet.read_metadata(tmp_path / "users.parquet")
    assert [told.row_group(i).num_rows for i in range(told.num_row_groups)] == [3, 3, 1]


def test_rows_without_ids(tmp_path):
    index = small_index(user_ids=None)
    write_parquet(index, tmp_path)
    assert parquet.read_table(tmp_path / "users.parquet")["id"].to_pylist() == [*range(7)]


def test_more_strings_than_are_decoded_one_by_one(tmp_path):
    ids = [f"{'é' * (row % 5)}{row}" for row in range(3000)]
    index = TopKIndex(np.ones((2, 1)), np.arange(3000.0)[:, None], item_ids=ids)
    write_parquet(index, tmp_path, rows_per_group=1100)
    found = parquet.read_table(tmp_path / "items.parquet")
    assert found["id"].to_pylist() == ids
    assert [v[0] for v in found["vector"].to_pylist()] == [*range(3000)]
    found.validate(full=True)


def test_the_bundle_is_named(tmp_path):
    save_index(small_index(), tmp_path / "bundle")
    index = load_student(tmp_path / "bundle")
    write_parquet(index, tmp_path / "out")
    told = parquet.read_schema(tmp_path / "out" / "items.parquet").metadata
    assert told[b"pyg_kd.sha256"].decode() == index.info["sha256"]


def test_no_users(tmp_path):
    write_parquet(TopKIndex(np.empty((0, 2)), np.eye(2), user_ids=[]), tmp_path)
    assert parquet.read_table(tmp_path / "users.parquet").num_rows == 0


def test_wrong_group(tmp_path):
    with pytest.raises(ValueError, match=r"'rows_per_group' must be a positive integer \(got 0\)"):
        write_parquet(small_index(), tmp_path, rows_per_group=0)
