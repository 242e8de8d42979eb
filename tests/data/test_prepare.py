"""From a log to a prepared directory: real logs, what stays out of training, all or nothing."""

import json
import resource

import numpy as np
import polars as pl
import pytest
from realdata import real_data

from mfgan.data import prepare as module
from mfgan.data.dataset import PreparedDataset
from mfgan.data.prepare import prepare
from mfgan.errors import MfganError

USERS, ITEMS, DAY = 50, 30, 86_400_000


def made_log(seed=0, *, rows=1500):
    """A log whose times all differ, shuffled."""
    rng = np.random.default_rng(seed)
    frame = pl.DataFrame(
        {
            "user_id": [f"u{n:03d}" for n in rng.integers(0, USERS, rows)],
            "item_id": rng.integers(100, 100 + ITEMS, rows),
            "timestamp": 1_600_000_000_000 + rng.permutation(rows) * DAY,
        }
    )
    return frame.sample(fraction=1.0, shuffle=True, seed=seed)


ATTRIBUTES = pl.DataFrame(
    {
        "item_id": np.arange(100, 100 + ITEMS + 5),
        "title": [f"T{n}" for n in range(ITEMS + 5)],
        "genre": ["x|y", "y", "z", "x", ""] * 7,
        "maker": ["p", "q", "p", "q", "r"] * 7,
        "price": np.linspace(0, 50, ITEMS + 5),
    }
)


def prepared(frame, folder, *, items=None, **options):
    folder.mkdir(exist_ok=True)
    path = folder / "log.parquet"
    frame.write_parquet(path)
    if items is not None:
        items.write_csv(folder / "items.csv")
        options["items"] = folder / "items.csv"
    return prepare(path, folder / "out", **options)


@pytest.mark.parametrize(
    ("name", "format", "options", "users", "items", "rows"),
    [
        ("ml-1m/sasrec.txt.gz", "ml-1m", {}, 6040, 3416, 999_611),
        ("ml-1m/ratings.parquet", "ml-1m", {}, 6040, 3416, 999_611),
        ("amazon/s3rec_Beauty.txt.gz", "sequences", {}, 22_363, 12_101, 198_502),
        ("steam/steam_reviews_au.json.gz", "steam", {"duplicates": "once"}, 1667, 420, 10_124),
        ("ml-100k", "ml-100k", {"k_core": 1}, 943, 1682, 100_000),
    ],
)
def test_real_logs(tmp_path, name, format, options, users, items, rows):
    dataset = prepare(real_data(name), tmp_path / "out", format=format, **options)
    assert (dataset.num_users, dataset.num_items, len(dataset.items)) == (users, items, rows)
    assert len(dataset.factor_names) > 2


def test_both_logs_of_ml_1m_are_one(tmp_path):
    one = prepare(real_data("ml-1m/sasrec.txt.gz"), tmp_path / "one", format="ml-1m")
    two = prepare(real_data("ml-1m/ratings.parquet"), tmp_path / "two", format="ml-1m")
    assert one.fingerprint == two.fingerprint


def test_the_log_comes_back(tmp_path):
    log = made_log()
    dataset = prepared(log, tmp_path, items=ATTRIBUTES, k_core=2, name="mine")
    assert dataset.item_ids[1:] == [str(n) for n in sorted(set(log["item_id"]))]
    for user, name in enumerate(dataset.user_ids):
        mine = log.filter(user_id=name).sort("timestamp")
        assert [dataset.item_ids[i] for i in dataset.history(user, "all")] == [
            str(item) for item in mine["item_id"]
        ]
        part = slice(dataset.offsets[user], dataset.offsets[user + 1])
        assert dataset.timestamps[part].tolist() == mine["timestamp"].to_list()
    assert dataset.item_titles[1] == "T0"
    genre = dataset.factor("genre")
    assert genre.labels == ("unknown", "x", "y", "z")
    assert genre.values[genre.offsets[1] : genre.offsets[2]].tolist() == [1, 2]
    assert dataset.factor_names[:2] == ["id", "popularity"]
    assert set(dataset.factor_names[2:]) >= {"genre", "maker", "price"}
    manifest = dataset.manifest
    assert manifest["name"] == "mine"
    assert manifest["sources"][0]["rows"] == 1500
    assert len(manifest["sources"][0]["sha256"]) == 64
    assert str(tmp_path) not in json.dumps(manifest)
    assert manifest["targets"]["training_interactions"] == 1500 - 2 * USERS


def test_the_same_log_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        prepared(made_log(), tmp_path / name, items=ATTRIBUTES)
    one, two = (
        {p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*.*")}
        for n in ("one", "two")
    )
    assert one == two
    assert len(one) > 10


def test_the_item_table_of_another_data_set_may_be_given(tmp_path):
    log = made_log()
    first = prepared(log, tmp_path / "first", items=ATTRIBUTES)
    again = prepare(
        tmp_path / "first" / "log.parquet",
        tmp_path / "again",
        items=first.path / "items.parquet",
        k_core=2,
    )
    assert again.item_table.equals(first.item_table)
    assert "item_idx" not in again.factor_names


def swapped(log, places):
    """The log with the items at the given places of the histories moved among each other."""
    log = log.sort("user_id", "timestamp").with_row_index()
    rank = pl.col("timestamp").rank("ordinal", descending=True).over("user_id")
    chosen = log.filter(rank.is_in(places))
    rng = np.random.default_rng(1)
    moved = chosen.with_columns(item_id=chosen["item_id"].gather(rng.permutation(len(chosen))))
    return log.update(moved.select("index", "item_id"), on="index").drop("index")


@pytest.mark.parametrize("split", ["leave-one-out", "temporal"])
def test_later_items_leave_no_trace_in_training(tmp_path, split):
    log = made_log()
    one = prepared(log, tmp_path / "one", items=ATTRIBUTES, k_core=2, split=split)
    if split == "temporal":
        cut = one.manifest["rules"]["cut_times"][0]
        late = log.filter(pl.col("timestamp") >= cut)
        rng = np.random.default_rng(1)
        late = late.with_columns(item_id=late["item_id"].gather(rng.permutation(len(late))))
        other = pl.concat([log.filter(pl.col("timestamp") < cut), late])
    else:
        other = swapped(log, [1, 2])
    two = prepared(other, tmp_path / "two", items=ATTRIBUTES, k_core=2, split=split)
    assert (one.targets("test") != two.targets("test")).mean() > 0.5
    assert (one.targets("validation") != two.targets("validation")).mean() > 0.5
    for name in ("offsets", "train_end", "validation", "test", "timestamps"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    for user in range(one.num_users):
        np.testing.assert_array_equal(one.train_history(user), two.train_history(user))
    np.testing.assert_array_equal(one.train_counts(), two.train_counts())
    for path in (one.path / "factors").iterdir():
        assert path.read_bytes() == (two.path / "factors" / path.name).read_bytes()


def test_popularity_counts_training_alone(tmp_path):
    dataset = prepared(made_log(), tmp_path, k_core=2)
    counts = np.zeros(dataset.num_items + 1, int)
    for user in range(dataset.num_users):
        counts += np.bincount(dataset.history(user, "all")[:-2], minlength=len(counts))
    expected = np.where(counts > 0, np.floor(np.log2(np.maximum(counts, 1))) + 1, 0)
    np.testing.assert_array_equal(dataset.factor("popularity").values, expected)


def test_a_directory_is_replaced_only_if_asked(tmp_path):
    prepared(made_log(), tmp_path)
    with pytest.raises(MfganError, match="out: must not exist yet, found one; pass --overwrite"):
        prepared(made_log(1), tmp_path)
    dataset = prepared(made_log(1), tmp_path, overwrite=True, k_core=1)
    assert dataset.manifest["rules"]["k_core"] == 1


def only_the_log(folder):
    return sorted(path.name for path in folder.iterdir()) == ["log.parquet"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_nothing_half_written_stays(tmp_path, monkeypatch, error):
    def write(directory, **parts):
        (directory / "begun").write_text("x")
        raise error

    monkeypatch.setattr(module, "write_prepared", write)
    expected = MfganError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as caught:
        prepared(made_log(), tmp_path)
    assert only_the_log(tmp_path)
    if expected is MfganError:
        assert "could not be written: [Errno 28] No space left on device" in str(caught.value)


@pytest.mark.parametrize("limit", [2_000, 8_000, 20_000])
def test_a_disk_that_takes_no_more(tmp_path, limit):
    log = made_log(rows=6000)
    prepared(log, tmp_path / "warm", items=ATTRIBUTES)
    (tmp_path / "full").mkdir()
    log.write_parquet(tmp_path / "full" / "log.parquet")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(MfganError, match="out: could not be written: .*") as caught:
            prepare(tmp_path / "full" / "log.parquet", tmp_path / "full" / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert only_the_log(tmp_path / "full")


def test_the_whole_thing_without_polars_batches(tmp_path, monkeypatch):
    one = prepared(made_log(), tmp_path / "one")
    monkeypatch.delattr(pl.LazyFrame, "collect_batches")
    assert prepared(made_log(), tmp_path / "two").fingerprint == one.fingerprint


def test_opened_again_it_is_the_same(tmp_path):
    dataset = prepared(made_log(), tmp_path, k_core=2)
    assert PreparedDataset.open(tmp_path / "out").fingerprint == dataset.fingerprint
