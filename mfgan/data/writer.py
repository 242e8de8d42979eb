"""Writing a prepared directory; reading one is `mfgan.data.dataset`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mfgan._version import __version__
from mfgan.data.columns import ITEM_ID, ITEM_IDX, USER_ID, USER_IDX
from mfgan.data.factors import Factor, write_factor
from mfgan.data.layout import (
    ITEM_TABLE,
    MANIFEST,
    SCHEMA_VERSION,
    SEQUENCE_ARRAYS,
    SEQUENCES,
    USER_TABLE,
    write_array,
)
from mfgan.data.split import SplitArrays
from mfgan.files import write_json


def write_prepared(
    directory: Path,
    *,
    header: dict[str, Any],
    items: np.ndarray,
    offsets: np.ndarray,
    timestamps: np.ndarray | None,
    split: SplitArrays,
    user_ids: pl.Series,
    item_table: pl.DataFrame,
    factors: Sequence[tuple[Factor, str]],
) -> None:
    """Fill a directory with a prepared data set, the manifest last.

    Args:
        directory: An empty directory; see `mfgan.files.atomic_directory`.
        header: What the manifest says besides sizes and factors.
        items: ``(num_interactions,)`` int32 item_idx, users laid end to end, chronological.
        offsets: ``(num_users + 1,)`` int64.
        timestamps: ``(num_interactions,)`` int64 milliseconds, or None.
        split: Which interactions train, validate and test.
        user_ids: External ids, ascending, by user_idx.
        item_table: ``item_id``, ascending, and raw attributes; item_idx 1 first.
        factors: Each factor with the rule by which its values were made.

    Raises:
        OSError: The disk is full or not writable.
    """
    arrays = {
        "items": items,
        "offsets": offsets,
        "timestamps": timestamps,
        "train_end": split.train_end,
        "validation": split.validation,
        "test": split.test,
    }
    for name, dtype in SEQUENCE_ARRAYS.items():
        if (array := arrays[name]) is not None:
            write_array(directory / SEQUENCES / f"{name}.npy", np.ascontiguousarray(array, dtype))
    item_idx = pl.int_range(1, item_table.height + 1, dtype=pl.Int32, eager=True).alias(ITEM_IDX)
    item_table.select(item_idx, pl.col(ITEM_ID), pl.exclude(ITEM_ID)).write_parquet(
        directory / ITEM_TABLE
    )
    user_idx = pl.int_range(len(user_ids), dtype=pl.Int64, eager=True)
    pl.DataFrame({USER_IDX: user_idx, USER_ID: user_ids}).write_parquet(directory / USER_TABLE)
    entries = [write_factor(directory, factor, rule) for factor, rule in factors]
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "created_by": f"mfgan {__version__}",
        **header,
        "num_users": len(user_ids),
        "num_items": item_table.height,
        "num_interactions": len(items),
        "factors": entries,
    }
    write_json(directory / MANIFEST, manifest)
