"""Generated logs for scale: Zipf popularity, string ids as long as Amazon's, random order.

``python -m bench.generate parquet 10_000_000 OUT`` writes one.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

CHUNK = 2_000_000
ROWS_A_USER = 20
ROWS_AN_ITEM = 100
YEAR_MS = 365 * 86_400_000


def zipf_codes(rows: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """``(rows,)`` int32 user and item codes; both follow a Zipf law, so that k-core bites."""
    parts = list(_codes(rows, seed))
    return np.concatenate([u for u, _, _ in parts]), np.concatenate([i for _, i, _ in parts])


def _codes(rows: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    num_users, num_items = max(rows // ROWS_A_USER, 2), max(rows // ROWS_AN_ITEM, 2)
    for first in range(0, rows, CHUNK):
        rng = np.random.default_rng([seed, first])
        size = min(CHUNK, rows - first)
        # Inverse transform: rank**(1 - a) is uniform; a = 0.7 for users, 1 for items.
        users = num_users * rng.random(size) ** (1 / 0.3)
        items = np.exp(rng.random(size) * np.log(num_items + 1)) - 1
        # A fixed shuffle of the ranks, so that codes tell nothing of popularity.
        users = _scatter(users.astype(np.int64), num_users)
        items = _scatter(items.astype(np.int64), num_items)
        yield users, items, rng.integers(YEAR_MS, 5 * YEAR_MS, size)


def _scatter(ranks: np.ndarray, size: int) -> np.ndarray:
    step = 2_654_435_761 % size
    while np.gcd(step, size) != 1:
        step += 1
    return (np.minimum(ranks, size - 1) * step % size).astype(np.int32)


def frames(rows: int, *, seed: int = 0) -> Iterator[pl.DataFrame]:
    """The log in chunks: ``user_id`` of 14 characters, ``item_id`` of 10, ``timestamp``."""
    for users, items, timestamps in _codes(rows, seed):
        yield pl.DataFrame({"user": users, "item": items, "timestamp": timestamps}).select(
            pl.format("A{}", pl.col("user").cast(pl.String).str.zfill(13)).alias("user_id"),
            pl.format("B{}", pl.col("item").cast(pl.String).str.zfill(9)).alias("item_id"),
            "timestamp",
        )


def write_log(path: Path, rows: int, *, seed: int = 0) -> Path:
    """Write a generated log as ``.csv`` or ``.parquet``, by the ending of ``path``."""
    if path.suffix == ".csv":
        with open(path, "wb") as handle:
            for place, frame in enumerate(frames(rows, seed=seed)):
                frame.write_csv(handle, include_header=place == 0)
        return path
    schema = pa.schema(
        [("user_id", pa.string()), ("item_id", pa.string()), ("timestamp", pa.int64())]
    )
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for frame in frames(rows, seed=seed):
            writer.write_table(frame.to_arrow().cast(schema))
    return path


if __name__ == "__main__":
    kind, count, out = sys.argv[1:]
    write_log(Path(out).with_suffix(f".{kind}"), int(count))
