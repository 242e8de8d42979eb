"""A prepared data set: sequences, splits, ids and factors, mapped from disk."""

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from mfgan.data.columns import ITEM_ID, TITLE, USER_ID
from mfgan.data.factors import Factor, read_factor
from mfgan.data.labels import ExternalIds, Labels
from mfgan.data.layout import (
    ITEM_TABLE,
    SEQUENCE_ARRAYS,
    SEQUENCES,
    USER_TABLE,
    read_array,
    read_manifest,
    size_of,
)
from mfgan.data.packing import count_heads
from mfgan.errors import MfganError, nearest

Split = Literal["validation", "test"]
HistorySplit = Literal["validation", "test", "all"]


class PreparedDataset:
    """A directory made by ``mfgan prepare``. Open one with `PreparedDataset.open`.

    Attributes:
        path: The directory.
        manifest: The parsed ``manifest.json``.
        num_users: Users, numbered from 0.
        num_items: Items, numbered from 1; item 0 is reserved.
        items: ``(num_interactions,)`` int32 item_idx, users laid end to end, chronological.
        offsets: ``(num_users + 1,)`` int64 bounds of each user's history.
        timestamps: ``(num_interactions,)`` int64 milliseconds since 1970 UTC, or None.
        train_end: ``(num_users,)`` int64: the first so many interactions may be trained on.
        validation: ``(num_users,)`` int64 place of the target in the user's history, -1 for none.
        test: ``(num_users,)`` int64, the same for the test target.

    Example:
        >>> dataset = PreparedDataset.open("data/ml-1m")
        >>> dataset.history(dataset.user_idx("42"), "test")
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path, self.manifest = path, manifest
        self.num_users = size_of(path, manifest, "num_users")
        self.num_items = size_of(path, manifest, "num_items")
        rows = size_of(path, manifest, "num_interactions")
        sizes = {"items": rows, "timestamps": rows, "offsets": self.num_users + 1}
        arrays = {
            name: read_array(
                path / SEQUENCES / f"{name}.npy", dtype, (sizes.get(name, self.num_users),)
            )
            for name, dtype in SEQUENCE_ARRAYS.items()
            if name != "timestamps" or (path / SEQUENCES / "timestamps.npy").exists()
        }
        self.items, self.offsets = arrays["items"], arrays["offsets"]
        self.timestamps: np.ndarray | None = arrays.get("timestamps")
        self.train_end = arrays["train_end"]
        self.validation, self.test = arrays["validation"], arrays["test"]
        self._check()

    @classmethod
    def open(cls, path: str | Path) -> "PreparedDataset":
        """Open a prepared directory and check that its arrays fit each other.

        Args:
            path: The directory.

        Returns:
            The data set; its arrays are mapped, not read.

        Raises:
            MfganError: It is no prepared data set, a newer version wrote it, or it is damaged.
        """
        path = Path(path)
        return cls(path, read_manifest(path))

    def _check(self) -> None:
        lengths = np.diff(self.offsets)
        if self.offsets[0] != 0 or self.offsets[-1] != len(self.items) or lengths.min() < 1:
            raise MfganError(f"{self.path}: offsets must rise from 0 to {len(self.items)}")
        if self.items.min() < 1 or self.items.max() > self.num_items:
            raise MfganError(f"{self.path}: items must be within 1..{self.num_items}")
        # What lies before a target may be trained on; the target itself never.
        last = self.train_end
        if last.min() < 0 or np.any(last > lengths):
            raise MfganError(f"{self.path}: train_end must lie within each history")
        for name, places in (("validation", self.validation), ("test", self.test)):
            has = places >= 0
            if np.any(places < -1) or np.any(places >= lengths) or np.any((places < last)[has]):
                raise MfganError(
                    f"{self.path}: a {name} target must lie in its history after all that comes"
                    " before it in the split"
                )
            last = np.where(has, places + 1, last)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over sequences, splits, item ids and factors; checkpoints remember it."""
        digest = hashlib.sha256()

        def add(name: str, array: np.ndarray) -> None:
            digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).data)

        for name in SEQUENCE_ARRAYS:
            if (array := getattr(self, name)) is not None:
                add(name, array)
        digest.update("\n".join(self.item_ids).encode())
        for name in self.factor_names:
            factor = self.factor(name)
            add(name, factor.values)
            if factor.offsets is not None:
                add(name, factor.offsets)
        return digest.hexdigest()

    @property
    def factor_names(self) -> list[str]:
        """Names of the factors, in the order of the manifest."""
        return [entry["name"] for entry in self.manifest["factors"]]

    def factor(self, name: str) -> Factor:
        """One factor of the items.

        Raises:
            MfganError: There is none of that name, or its files are damaged.
        """
        for entry in self.manifest["factors"]:
            if entry["name"] == name:
                return read_factor(self.path, entry, self.num_items)
        raise MfganError(
            f"{self.path}: has no factor {name!r}, only {', '.join(self.factor_names)}"
            f"{nearest(name, self.factor_names)}"
        )

    @cached_property
    def item_table(self) -> pl.DataFrame:
        """``item_idx``, ``item_id`` and the raw attributes, item 1 first."""
        return _read_table(self.path / ITEM_TABLE, self.num_items)

    @cached_property
    def item_ids(self) -> ExternalIds:
        """External item ids by item_idx; index 0 gives an empty string."""
        return ExternalIds(self.item_table[ITEM_ID], 1)

    @cached_property
    def user_ids(self) -> ExternalIds:
        """External user ids by user_idx."""
        return ExternalIds(_read_table(self.path / USER_TABLE, self.num_users)[USER_ID], 0)

    @cached_property
    def item_titles(self) -> Labels:
        """Titles by item_idx; an item without one has its id."""
        table = self.item_table
        ids = table[ITEM_ID].cast(pl.String)
        titles = table[TITLE].cast(pl.String) if TITLE in table.columns else ids
        return Labels(titles.zip_with(titles.is_not_null(), ids), 1)

    def item_idx(self, external: str) -> int | None:
        """The item_idx of an external id, or None where the catalogue lacks it."""
        return self.item_ids.find(external)

    def user_idx(self, external: str) -> int | None:
        """The user_idx of an external id, or None where the data set lacks it."""
        return self.user_ids.find(external)

    def train_history(self, user: int) -> np.ndarray:
        """``(n,)`` int32 item_idx of what may be trained on, chronological."""
        start = int(self.offsets[user])
        return self.items[start : start + int(self.train_end[user])]

    def history(self, user: int, split: HistorySplit) -> np.ndarray:
        """What lies before the user's target of a split; with ``"all"`` everything.

        Returns:
            ``(n,)`` int32 item_idx, chronological.

        Raises:
            MfganError: The user has no target in the split.
        """
        end = int(self.history_ends(np.array([user]), split)[0])
        return self.items[int(self.offsets[user]) : end]

    def history_ends(self, users: np.ndarray, split: HistorySplit) -> np.ndarray:
        """``(n,)`` int64: where in ``items`` the history before each user's target ends.

        Raises:
            MfganError: A user has no target in the split.
        """
        users = np.asarray(users, np.int64)
        if split == "all":
            return np.take(self.offsets, users + 1)
        places = np.take(self._places(split), users)
        if len(places) and places.min() < 0:
            user = users[places < 0][0]
            raise MfganError(f"history: user {self.user_ids[int(user)]!r} has no {split} target")
        ends: np.ndarray = np.take(self.offsets, users) + places
        return ends

    def target_users(self, split: Split) -> np.ndarray:
        """``(n,)`` int64 user_idx of the users who have a target in the split, ascending."""
        return np.flatnonzero(self._places(split) >= 0)

    def targets(self, split: Split) -> np.ndarray:
        """``(n,)`` int32 item_idx of the targets, aligned with ``target_users(split)``."""
        users = self.target_users(split)
        return np.take(self.items, self.history_ends(users, split))

    def train_counts(self) -> np.ndarray:
        """``(num_items + 1,)`` int64: interactions of each item in the training part."""
        return count_training(self.items, self.offsets, self.train_end, self.num_items)

    def _places(self, split: str) -> np.ndarray:
        if split not in ("validation", "test"):
            raise MfganError(f"split: must be 'validation' or 'test', got {split!r}")
        return self.validation if split == "validation" else self.test


def count_training(
    items: np.ndarray, offsets: np.ndarray, train_end: np.ndarray, num_items: int
) -> np.ndarray:
    """Interactions of each item in the training part; arrays as in `PreparedDataset`."""
    counts = np.zeros(num_items + 1, np.int64)
    count_heads(items, offsets, train_end, counts)
    return counts


def _read_table(path: Path, rows: int) -> pl.DataFrame:
    try:
        table = pl.read_parquet(path)
    except FileNotFoundError:
        raise MfganError(f"{path}: must exist, found nothing") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        raise MfganError(f"{path}: must be a Parquet table, got {error}") from None
    if table.height != rows:
        raise MfganError(f"{path}: must have {rows:,} rows, got {table.height:,}")
    return table
