"""Lists in shards, against the index itself."""

from __future__ import annotations

import sys
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pyg_kd.retrieval import TopKIndex, UnknownId, load_student, save_index
from pyg_kd.retrieval.shards import read_list_shards, write_list_shards
from pyg_kd.shards import ShardError

parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")

NAMES = [f"é {u}" for u in range(25)]


@pytest.fixture(scope="module", params=["words", "numbers"])
def bundle(request, tmp_path_factory):
    """25 users and 17 items, by words or by numbers, one of them negative."""
    rng = np.random.default_rng(0)
    words = request.param == "words"
    degree = rng.integers(0, 8, 25)
    degree[3] = 15  # a list that ends early
    col = [np.sort(rng.permutation(17)[:n]) for n in degree]
    index = TopKIndex(
        rng.normal(size=(25, 4)),
        rng.normal(size=(17, 4)),
        seen=(np.append(0, np.cumsum(degree)), np.concatenate(col)),
        user_ids=NAMES if words else rng.permutation(25) * 3 - 1,
        item_ids=[f"i{i}" for i in range(17)] if words else rng.permutation(17) - 1,
    )
    path = tmp_path_factory.mktemp("bundles") / "bundle"
    save_index(index, path)
    return path


def rows_of(index):
    return index.users.take(np.arange(25)).tolist()


def joined(folder):
    shards = list(read_list_shards(folder))
    return [np.concatenate(parts) for parts in zip(*shards, strict=True)]


@pytest.mark.parametrize(("rows", "workers"), [(4, 1), (4, 2), (25, 1), (100, 3)])
def test_all_users(bundle, tmp_path, rows, workers) -> None:
    assert write_list_shards(bundle, tmp_path, 6, rows=rows, workers=workers)
    index = load_student(bundle)
    users, items, scores = joined(tmp_path)
    assert users.tolist() == rows_of(index)
    wanted, values = index.search(users, 6)
    assert items.tolist() == wanted.tolist()
    assert scores.dtype == np.float32 and np.allclose(scores, values, rtol=1e-6)
    assert bool((scores[3] == -np.inf).any())
    table = parquet.read_table(tmp_path / "lists-00000.parquet").to_pylist()
    assert table[3]["items"] == [
        i for i, s in zip(wanted[3], values[3], strict=True) if s > -np.inf
    ]


def test_the_bytes_do_not_depend_on_who_makes_them(bundle, tmp_path) -> None:
    write_list_shards(bundle, tmp_path / "1", 6, rows=4)
    write_list_shards(bundle, tmp_path / "2", 6, rows=4, workers=2)
    for rank in (0, 1, 2):
        done = write_list_shards(bundle, tmp_path / "3", 6, rows=4, rank=rank, world_size=3)
        assert done is (rank == 2)
    first, *others = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in "123"
    )
    assert all(other == first for other in others)


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.integers(0, 24), max_size=30), st.integers(1, 30))
@example([], 3)
@example([24], 1)
def test_some_users(bundle, places, rows) -> None:
    index = load_student(bundle)
    users = [rows_of(index)[place] for place in places]
    with TemporaryDirectory() as folder:
        write_list_shards(bundle, folder, 5, users=users, rows=rows)
        shards = list(read_list_shards(folder))
        assert [user for shard in shards for user in shard.users.tolist()] == users
        if users:
            items = [row for shard in shards for row in shard.items.tolist()]
            assert items == index.search(users, 5)[0].tolist()


def test_options_of_the_search(bundle, tmp_path) -> None:
    index = load_student(bundle)
    items = index.items.take(np.arange(17)).tolist()
    for number, options in enumerate(
        [
            {"exclude_seen": False},
            {"exclude": items[:5]},
            {"candidates": np.array(items[3:9])},
        ]
    ):
        write_list_shards(bundle, tmp_path / str(number), 6, rows=10, **options)
        assert joined(tmp_path / str(number))[1].tolist() == (
            index.search(rows_of(index), 6, **options)[0].tolist()
        )


def test_unknown_users(bundle, tmp_path) -> None:
    index = load_student(bundle)
    nobody = "nobody" if index.users.kind == "text" else 999
    users = [rows_of(index)[2], nobody]
    with pytest.raises(UnknownId, match=str(nobody)):
        write_list_shards(bundle, tmp_path / "a", users=users)
    assert not (tmp_path / "a").exists()
    write_list_shards(bundle, tmp_path / "a", 4, users=users, unknown="popular")
    items = index.search(users, 4, unknown="popular")[0]
    assert joined(tmp_path / "a")[1].tolist() == items.tolist()


def test_new_users(bundle, tmp_path) -> None:
    index = load_student(bundle)
    items = index.items.take(np.arange(17)).tolist()
    histories = [items[:2], items[4:9], items[1:2]]
    options = {"users": ["x", "y", "z"], "histories": histories, "rows": 2}
    write_list_shards(bundle, tmp_path, 4, **options, workers=2)
    users, found, _ = joined(tmp_path)
    assert users.tolist() == ["x", "y", "z"]
    assert found.tolist() == index.search_history(histories, 4)[0].tolist()
    other = options | {"histories": [items[:2], items[4:9], items[2:3]]}
    with pytest.raises(ShardError, match="another request, with histories="):
        write_list_shards(bundle, tmp_path, 4, **other)


def test_every_bit_counts(bundle, tmp_path) -> None:
    write_list_shards(bundle, tmp_path, 4, rows=9)
    path = tmp_path / "lists-00001.parquet"
    wrong = bytearray(path.read_bytes())
    wrong[len(wrong) // 2] ^= 4
    path.write_bytes(wrong)
    shards = read_list_shards(tmp_path)
    assert len(next(shards).users) == 9
    with pytest.raises(ShardError, match=r"lists-00001\.parquet' is damaged"):
        next(shards)
    path.unlink()
    with pytest.raises(ShardError, match="is missing"):
        read_list_shards(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "'k' must be a positive integer"),
        ({"rows": 0}, "'rows' must be a positive integer"),
        ({"unknown": "x"}, "'unknown' must be one of"),
        ({"histories": [[1]]}, r"'histories' must be of 'users' \(got 1 of None users\)"),
        ({"backend": "x"}, "'backend' must be one of"),
    ],
)
def test_wrong_options(bundle, tmp_path, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        write_list_shards(bundle, tmp_path / "lists", **options)


def test_knowledge_is_no_list(bundle, tmp_path) -> None:
    with pytest.raises(ShardError, match=r"no manifest\.json"):
        read_list_shards(tmp_path)


def test_ray_leaves_the_bytes_of_one_process(bundle, tmp_path) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'pyg_kd[ray]'")
    write_list_shards(bundle, tmp_path / "1", 6, rows=4)
    write_list_shards(bundle, tmp_path / "2", 6, rows=4, workers=2, engine="ray")
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / n).iterdir()} for n in "12")
    assert one == two


def test_pytorch_is_not_needed(bundle, tmp_path) -> None:
    import subprocess

    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from pyg_kd.retrieval.shards import read_list_shards, write_list_shards\n"
        "write_list_shards(sys.argv[1], sys.argv[2], 3, rows=9, workers=2)\n"
        "print(sum(len(shard.users) for shard in read_list_shards(sys.argv[2])))\n"
    )
    words = [sys.executable, "-c", code, str(bundle), str(tmp_path / "lists")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.stdout == "25\n", done.stderr
