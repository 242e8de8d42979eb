"""A small made data set for everybody's tests: valid, structured, the same for the same seed."""

from pathlib import Path

import numpy as np
import polars as pl

from mfgan.data.columns import ITEM_ID, TITLE, USER_ID
from mfgan.data.dataset import PreparedDataset, count_training
from mfgan.data.factors import Factor, id_factor, popularity_factor
from mfgan.data.split import leave_one_out
from mfgan.data.writer import write_prepared
from mfgan.files import atomic_directory

GENRES = ("action", "comedy", "drama")
TAGS = ("new", "old", "long", "short", "loud")
DAY = 86_400_000


def made_dataset(
    tmp_path: Path,
    *,
    num_users: int = 40,
    num_items: int = 30,
    seed: int = 0,
    min_len: int = 3,
    max_len: int = 16,
    name: str = "made",
) -> PreparedDataset:
    """Write a prepared data set under ``tmp_path`` and open it.

    Users step through the catalogue by a stride of their own (1, 2 or 3) and now and then jump, so
    that the next item can be learned. Factors: id, popularity, ``genre`` (categorical, some
    unknown), ``tags`` (multi, some empty) and ``vector`` (dense, width 4, some unknown). Users are
    called ``u0000`` and on, items ``i0001`` and on.
    """
    rng = np.random.default_rng([seed, 1])
    lengths = rng.integers(min_len, max_len + 1, num_users)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    items = np.concatenate([_walk(rng, int(n), num_items) for n in lengths]).astype(np.int32)
    timestamps = np.concatenate([np.sort(rng.integers(0, 1000, n)) for n in lengths]) * DAY
    split = leave_one_out(offsets)
    ids = [f"i{item:04d}" for item in range(1, num_items + 1)]
    counts = count_training(items, offsets, split.train_end, num_items)
    table = pl.DataFrame({ITEM_ID: ids, TITLE: [f"Item {item}" for item in ids]})
    factors = [id_factor(ids), popularity_factor(counts), *_attributes(rng, num_items)]
    users = pl.Series(USER_ID, [f"u{user:04d}" for user in range(num_users)])
    header = {
        "name": name,
        "format": "made",
        "sources": [],
        "rules": {"k_core": 1, "split": "leave-one-out"},
        "steps": [],
    }
    with atomic_directory(tmp_path / name) as directory:
        write_prepared(
            directory,
            header=header,
            items=items,
            offsets=offsets,
            timestamps=timestamps,
            split=split,
            user_ids=users,
            item_table=table,
            factors=[(factor, "made") for factor in factors],
        )
    return PreparedDataset.open(tmp_path / name)


def _walk(rng: np.random.Generator, length: int, num_items: int) -> np.ndarray:
    stride = rng.integers(1, 4)
    item = rng.integers(num_items)
    steps = []
    for _ in range(length):
        steps.append(item + 1)
        item = rng.integers(num_items) if rng.random() < 0.1 else (item + stride) % num_items
    return np.array(steps)


def _attributes(rng: np.random.Generator, num_items: int) -> list[Factor]:
    known = rng.random(num_items + 1) < 0.9
    known[0] = False
    genre = np.where(known, np.arange(num_items + 1) % len(GENRES) + 1, 0).astype(np.int32)
    bags = [[0]]
    for item in range(1, num_items + 1):
        size = 1 + item % 2
        bag = sorted(rng.choice(len(TAGS), size, replace=False) + 1)
        bags.append(bag if known[item] else [0])
    bounds = np.cumsum([0, *map(len, bags)])
    tags = np.concatenate(bags).astype(np.int32)
    vector = rng.standard_normal((num_items + 1, 4)).astype(np.float32) * known[:, None]
    return [
        Factor("genre", "categorical", len(GENRES) + 1, genre, None, ("unknown", *GENRES)),
        Factor("tags", "multi", len(TAGS) + 1, tags, bounds, ("unknown", *TAGS)),
        Factor("vector", "dense", 4, vector.astype(np.float32), None, ()),
    ]
