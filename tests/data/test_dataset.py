"""Opening a prepared directory: what it gives, and what a damaged one says."""

import json

import numpy as np
import polars as pl
import pytest
from made import made_dataset

from mfgan.data.dataset import PreparedDataset
from mfgan.data.layout import write_array
from mfgan.errors import MfganError


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return made_dataset(tmp_path_factory.mktemp("made"), min_len=1)


def test_histories_targets_and_counts(dataset):
    counts = np.zeros(dataset.num_items + 1, int)
    tests = []
    for user in range(dataset.num_users):
        whole = dataset.history(user, "all").tolist()
        assert whole == dataset.items[dataset.offsets[user] : dataset.offsets[user + 1]].tolist()
        train = dataset.train_history(user).tolist()
        for item in train:
            counts[item] += 1
        if len(whole) < 3:
            assert train == whole
            assert dataset.validation[user] == dataset.test[user] == -1
            continue
        tests.append((user, whole[-1]))
        assert train == whole[:-2]
        assert dataset.history(user, "validation").tolist() == whole[:-2]
        assert dataset.history(user, "test").tolist() == whole[:-1]
    found = zip(dataset.target_users("test").tolist(), dataset.targets("test"), strict=True)
    assert list(found) == tests
    assert len(dataset.targets("validation")) == len(tests) < dataset.num_users
    assert dataset.train_counts().tolist() == counts.tolist()


def test_ids_go_both_ways(dataset):
    assert dataset.item_ids[0] == ""
    assert dataset.item_ids[1] == "i0001"
    assert dataset.item_ids[-1] == "i0030" == list(dataset.item_ids)[-1]
    assert len(dataset.item_ids) == dataset.num_items + 1
    assert dataset.item_ids[:3] == ["", "i0001", "i0002"]
    assert dataset.item_ids.take(np.array([2, 0, 30])).to_list() == ["i0002", "", "i0030"]
    assert dataset.item_idx("i0007") == 7
    assert dataset.user_idx("u0000") == 0
    assert dataset.user_ids[3] == "u0003"
    assert dataset.item_titles[4] == "Item i0004"
    for unknown in ("", "zzz", "i0007 "):
        assert dataset.item_idx(unknown) is None
    with pytest.raises(IndexError):
        dataset.item_ids[31]
    with pytest.raises(IndexError):
        dataset.item_ids.take(np.array([-1]))


def test_integer_ids_and_lacking_titles(dataset, tmp_path):
    copy = copy_of(dataset, tmp_path)
    table = pl.read_parquet(copy / "items.parquet")
    ids = pl.Series("item_id", np.arange(10, 310, 10))
    titles = pl.Series("title", [None, "Two"] + [None] * 28)
    table.with_columns(ids, titles).write_parquet(copy / "items.parquet")
    changed = PreparedDataset.open(copy)
    assert changed.item_ids[2] == "20"
    assert changed.item_idx("20") == 2
    assert changed.item_idx("21") is None
    assert changed.item_idx("x") is None
    assert changed.item_idx("9" * 30) is None
    assert changed.item_titles[1:3] == ["10", "Two"]
    assert changed.fingerprint != dataset.fingerprint


def test_factors_come_back_as_written(dataset):
    assert dataset.factor_names == ["id", "popularity", "genre", "tags", "vector"]
    assert dataset.factor("id").labels[1] == "i0001"
    tags = dataset.factor("tags")
    assert tags.num_items == 30
    assert tags.offsets[-1] == len(tags.values)
    assert dataset.factor("vector").values.shape == (31, 4)
    with pytest.raises(MfganError, match=r"has no factor 'gener'.*did you mean 'genre'"):
        dataset.factor("gener")


def copy_of(dataset, tmp_path):
    import shutil

    return shutil.copytree(dataset.path, tmp_path / "copy")


def change_manifest(**changes):
    def damage(copy):
        manifest = json.loads((copy / "manifest.json").read_text())
        (copy / "manifest.json").write_text(json.dumps(manifest | changes))

    return damage


def change_array(name, change):
    def damage(copy):
        array = np.load(copy / name).copy()
        write_array(copy / name, change(array))

    return damage


def cut(name, size):
    def damage(copy):
        (copy / name).write_bytes((copy / name).read_bytes()[:size])

    return damage


def put(place, value):
    def change(array):
        array[place] = value
        return array

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: (c / "manifest.json").unlink(), "must be a data set made by `mfgan prepare`"),
        (cut("manifest.json", 40), "manifest.json: must be JSON"),
        (change_manifest(schema_version=2), "schema_version must be at most 1, got 2: a newer"),
        (change_manifest(schema_version="1"), "schema_version must be 1 or more, got '1'"),
        (change_manifest(num_users=0), "num_users of the manifest must be 1 or more, got 0"),
        (change_manifest(factors=None), "factors must be a list of objects with name.*got None"),
        (change_manifest(factors=[{"name": "id"}]), r"factors must be .* got \[{'name': 'id'}\]"),
        (cut("sequences/items.npy", 300), "items.npy: must be a whole .npy array"),
        (cut("sequences/offsets.npy", 60), "offsets.npy: must be a whole .npy array"),
        (cut("sequences/test.npy", 0), "test.npy: must be a whole .npy array"),
        (lambda c: (c / "sequences/test.npy").unlink(), "test.npy: must exist, found nothing"),
        (change_array("sequences/items.npy", lambda a: a[:-1]), r"items.npy: must hold int32"),
        (change_array("sequences/items.npy", lambda a: a.astype(float)), "got float64"),
        (change_array("sequences/items.npy", put(3, 0)), "items must be within 1..30"),
        (change_array("sequences/items.npy", put(3, 31)), "items must be within 1..30"),
        (change_array("sequences/offsets.npy", put(1, 0)), "offsets must rise from 0 to"),
        (change_array("sequences/offsets.npy", put(-1, 7)), "offsets must rise from 0 to"),
        (change_array("sequences/train_end.npy", put(0, 99)), "train_end must lie within"),
        (change_array("sequences/test.npy", put(0, 99)), "a test target must lie"),
        (change_array("sequences/test.npy", put(0, -2)), "a test target must lie"),
        (change_array("sequences/validation.npy", put(slice(None), 0)), "a validation target"),
    ],
)
def test_a_damaged_directory_is_refused(dataset, tmp_path, damage, message):
    copy = copy_of(dataset, tmp_path)
    PreparedDataset.open(copy)
    damage(copy)
    with pytest.raises(MfganError, match=message) as caught:
        PreparedDataset.open(copy)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "name", "message"),
    [
        (cut("factors/genre.npy", 150), "genre", "genre.npy: must be a whole .npy array"),
        (change_array("factors/genre.npy", put(1, 44)), "genre", "within 0..3, got 44"),
        (change_array("factors/genre.npy", put(1, -1)), "genre", "within 0..3, got -1"),
        (change_array("factors/tags.npy", lambda a: a[1:]), "tags", "tags.npy: must hold int32"),
        (change_array("factors/tags.offsets.npy", put(2, 0)), "tags", "a bag of one value"),
        (change_array("factors/vector.npy", lambda a: a[:, 1:]), "vector", "must hold float32"),
        (lambda c: (c / "factors/tags.labels.parquet").unlink(), "tags", "must exist, found"),
        (cut("factors/tags.labels.parquet", 30), "tags", "must be a table of labels"),
    ],
)
def test_a_damaged_factor_is_refused(dataset, tmp_path, damage, name, message):
    copy = copy_of(dataset, tmp_path)
    damage(copy)
    with pytest.raises(MfganError, match=message):
        PreparedDataset.open(copy).factor(name)


def test_damaged_id_tables_are_refused(dataset, tmp_path):
    copy = copy_of(dataset, tmp_path)
    pl.read_parquet(copy / "users.parquet").head(3).write_parquet(copy / "users.parquet")
    cut("items.parquet", 100)(copy)
    with pytest.raises(MfganError, match="must have 40 rows, got 3"):
        _ = PreparedDataset.open(copy).user_ids
    with pytest.raises(MfganError, match="must be a Parquet table"):
        _ = PreparedDataset.open(copy).item_ids


def test_the_fingerprint_sees_every_array_but_no_path(dataset, tmp_path):
    copy = copy_of(dataset, tmp_path)
    assert PreparedDataset.open(copy).fingerprint == dataset.fingerprint
    seen = {dataset.fingerprint}
    changes = [
        ("sequences/items.npy", lambda a: np.where(a == 1, 2, a)),
        ("sequences/timestamps.npy", lambda a: a + 1),
        ("sequences/test.npy", lambda a: np.full_like(a, -1)),
        ("factors/vector.npy", lambda a: a + 1),
    ]
    for name, change in changes:
        change_array(name, change)(copy)
        seen.add(PreparedDataset.open(copy).fingerprint)
    assert len(seen) == 5
