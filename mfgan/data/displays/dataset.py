"""A prepared set of displays, mapped from disk."""

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import polars as pl

from mfgan.data.columns import ITEM_ID, USER_ID
from mfgan.data.factors import Factor, read_factor
from mfgan.data.labels import ExternalIds
from mfgan.data.layout import ITEM_TABLE, MANIFEST, USER_TABLE, read_array, read_manifest, size_of
from mfgan.errors import MfganError, nearest

KIND = "displays"
FOLDER = "displays"
Part = Literal["train", "validation", "test"]
PARTS: tuple[str, ...] = get_args(Part)

# Name, dtype, which size it has, and whether every data set has it.
ARRAYS: dict[str, tuple[type, str, bool]] = {
    "items": (np.int32, "rows", True),
    "clicked": (np.bool_, "rows", True),
    "positions": (np.int16, "rows", False),
    "propensities": (np.float32, "rows", False),
    "offsets": (np.int64, "events+1", True),
    "clicks": (np.int32, "events", True),
    "timestamps": (np.int64, "events", False),
    "user_offsets": (np.int64, "users+1", True),
    "parts": (np.int8, "users", True),
}


class DisplayDataset:
    """A directory made by ``mfgan prepare --format displays-…``.

    An event is one display and what was clicked in it. Users lie end to end, their events in
    chronological order; the rows of an event ascend by item, whatever their order in the source.

    Attributes:
        path: The directory.
        manifest: The parsed ``manifest.json``.
        num_users: Users, numbered from 0.
        num_items: Items, numbered from 1; item 0 is reserved.
        num_events: Displays.
        items: ``(num_rows,)`` int32 item_idx of each displayed row.
        offsets: ``(num_events + 1,)`` int64 bounds of each event's rows.
        clicks: ``(num_events,)`` int32 place of the clicked row in its event, -1 for no click.
        user_offsets: ``(num_users + 1,)`` int64 bounds of each user's events.
        parts: ``(num_users,)`` int8: 0 train, 1 validation, 2 test.
        clicked: ``(num_rows,)`` bool, every clicked row of the display; where an impression with
            several clicks became several events, each of them knows all.
        positions: ``(num_rows,)`` int16 place on the page from 1, or None. Never a model's input.
        propensities: ``(num_rows,)`` float32, or None.
        timestamps: ``(num_events,)`` int64 milliseconds since 1970 UTC, or None.
    """

    items: np.ndarray
    clicked: np.ndarray
    offsets: np.ndarray
    clicks: np.ndarray
    user_offsets: np.ndarray
    parts: np.ndarray
    positions: np.ndarray | None
    propensities: np.ndarray | None
    timestamps: np.ndarray | None

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path, self.manifest = path, manifest
        self.num_users = size_of(path, manifest, "num_users")
        self.num_items = size_of(path, manifest, "num_items")
        self.num_events = size_of(path, manifest, "num_events")
        sizes = {
            "rows": size_of(path, manifest, "num_rows"),
            "events": self.num_events,
            "events+1": self.num_events + 1,
            "users": self.num_users,
            "users+1": self.num_users + 1,
        }
        for name, (dtype, size, always) in ARRAYS.items():
            file = path / FOLDER / f"{name}.npy"
            there = always or file.exists()
            array = read_array(file, np.dtype(dtype), (sizes[size],)) if there else None
            setattr(self, name, array)
        self._check()

    @classmethod
    def open(cls, path: str | Path) -> "DisplayDataset":
        """Open a prepared directory of displays.

        Raises:
            MfganError: It is none, a newer version wrote it, or it is damaged.
        """
        path = Path(path)
        manifest = read_manifest(path)
        if manifest.get("kind") != KIND:
            raise MfganError(
                f"{path}: must hold displays; prepare it with --format displays-…, got sequences"
            )
        return cls(path, manifest)

    def _check(self) -> None:
        sizes = np.diff(self.offsets)
        if self.offsets[0] != 0 or self.offsets[-1] != len(self.items) or sizes.min() < 1:
            raise MfganError(f"{self.path}: offsets must rise from 0 to {len(self.items)}")
        bounds = self.user_offsets
        if bounds[0] != 0 or bounds[-1] != self.num_events or np.diff(bounds).min() < 1:
            raise MfganError(f"{self.path}: user_offsets must rise from 0 to {self.num_events}")
        if self.items.min() < 1 or self.items.max() > self.num_items:
            raise MfganError(f"{self.path}: items must be within 1..{self.num_items}")
        if np.any(self.clicks < -1) or np.any(self.clicks >= sizes):
            raise MfganError(f"{self.path}: clicks must lie within their displays")
        if self.parts.min() < 0 or self.parts.max() > 2:
            raise MfganError(f"{self.path}: parts must be 0, 1 or 2")

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over what a model is trained on; checkpoints remember it."""
        digest = hashlib.sha256()
        for name in ARRAYS:
            if (array := getattr(self, name)) is not None:
                digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
                digest.update(np.ascontiguousarray(array).data)
        digest.update("\n".join(self.item_ids).encode())
        return digest.hexdigest()

    @cached_property
    def item_ids(self) -> ExternalIds:
        """External item ids by item_idx; index 0 gives an empty string."""
        return ExternalIds(_ids(self.path / ITEM_TABLE, ITEM_ID, self.num_items), 1)

    @cached_property
    def user_ids(self) -> ExternalIds:
        """External user ids by user_idx."""
        return ExternalIds(_ids(self.path / USER_TABLE, USER_ID, self.num_users), 0)

    @property
    def factor_names(self) -> list[str]:
        """Names of the items' factors."""
        return [entry["name"] for entry in self.manifest["factors"]]

    def factor(self, name: str) -> Factor:
        """One factor of the items.

        Raises:
            MfganError: There is none of that name, or its files are damaged.
        """
        for entry in self.manifest["factors"]:
            if entry["name"] == name:
                return read_factor(self.path, entry, self.num_items)
        there = ", ".join(self.factor_names) or "none"
        raise MfganError(
            f"{self.path}: has no factor {name!r}, only {there}{nearest(name, self.factor_names)}"
        )

    def users(self, part: str) -> np.ndarray:
        """``(n,)`` int64 users of a part, ascending.

        Raises:
            MfganError: No such part.
        """
        if part not in PARTS:
            raise MfganError(f"part: must be one of {', '.join(PARTS)}, got {part!r}")
        return np.flatnonzero(self.parts == PARTS.index(part))

    @cached_property
    def event_users(self) -> np.ndarray:
        """``(num_events,)`` int64 user of each event."""
        return np.repeat(np.arange(self.num_users), np.diff(self.user_offsets))

    @cached_property
    def row_events(self) -> np.ndarray:
        """``(num_rows,)`` int64 event of each row."""
        return np.repeat(np.arange(self.num_events), np.diff(self.offsets))

    def counts(self, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``(num_items + 1,)`` int64 displays and clicks of each item among some users."""
        among = np.isin(self.event_users, users)
        rows = among[self.row_events]
        shown = np.bincount(self.items[rows], minlength=self.num_items + 1)
        events = np.flatnonzero(among & (self.clicks >= 0))
        chosen = self.items[self.offsets[events] + self.clicks[events]]
        return shown, np.bincount(chosen, minlength=self.num_items + 1)


def _ids(path: Path, column: str, rows: int) -> pl.Series:
    try:
        table = pl.read_parquet(path)
    except FileNotFoundError:
        raise MfganError(f"{path}: must exist, found nothing") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        raise MfganError(f"{path}: must be a Parquet table, got {error}") from None
    if table.height != rows:
        raise MfganError(f"{path}: must have {rows:,} rows, got {table.height:,}")
    return table[column]


def is_displays(path: str | Path) -> bool:
    """Whether a directory holds prepared displays."""
    path = Path(path)
    return (path / MANIFEST).is_file() and read_manifest(path).get("kind") == KIND
