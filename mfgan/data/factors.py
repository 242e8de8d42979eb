"""Factors: the attributes of items that discriminators judge by, and how they lie on disk."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import polars as pl

from mfgan.data.layout import FACTORS, read_array, write_array
from mfgan.errors import MfganError
from mfgan.names import ID

Kind = Literal["categorical", "multi", "dense"]

POPULARITY = "popularity"
CO_OCCURRENCE = "co_occurrence"
UNKNOWN = "unknown"

_LABEL = "label"


@dataclass(frozen=True)
class Factor:
    """One attribute of every item. Item 0 is reserved: it has value 0, or the zero vector.

    Args:
        name: What it is called.
        kind: One value an item, a bag of values, or a vector.
        num_values: Rows of its embedding table, value 0 meaning unknown; of dense ones the width.
        values: categorical ``(num_items + 1,)`` int32; multi ``(total,)`` int32; dense
            ``(num_items + 1, num_values)`` float32.
        offsets: multi: ``(num_items + 2,)`` int64 bounds of each item's bag; an item without
            values has the bag ``[0]``.
        labels: What each value means, unknown first; empty for dense.

    Raises:
        MfganError: The parts do not fit each other.
    """

    name: str
    kind: Kind
    num_values: int
    values: np.ndarray
    offsets: np.ndarray | None
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise MfganError(f"factor {self.name}: kind must be {get_args(Kind)}, got {self.kind}")
        if (self.offsets is not None) != (self.kind == "multi"):
            raise MfganError(f"factor {self.name}: offsets go with kind multi, got {self.kind}")
        dtype, dim = (np.float32, 2) if self.kind == "dense" else (np.int32, 1)
        if self.values.dtype != dtype or self.values.ndim != dim:
            raise MfganError(
                f"factor {self.name}: values must be {dim}-d {np.dtype(dtype)}, got"
                f" {self.values.ndim}-d {self.values.dtype}"
            )
        if self.kind == "dense":
            if self.values.shape[1] != self.num_values:
                raise MfganError(
                    f"factor {self.name}: vectors must be {self.num_values} wide, got"
                    f" {self.values.shape[1]}"
                )
            return
        if len(self.labels) != self.num_values:
            raise MfganError(
                f"factor {self.name}: must have {self.num_values} labels, got {len(self.labels)}"
            )
        low, high = self.values.min(initial=0), self.values.max(initial=0)
        if low < 0 or high >= self.num_values:
            raise MfganError(
                f"factor {self.name}: values must be within 0..{self.num_values - 1}, got"
                f" {low if low < 0 else high}"
            )

    @property
    def num_items(self) -> int:
        """Items it describes, without the reserved one."""
        return len(self.values) - 1 if self.offsets is None else len(self.offsets) - 2

    @property
    def is_attribute(self) -> bool:
        """Whether it has values of the item table: no vector, not the id, not the popularity."""
        return self.kind != "dense" and self.name not in (ID, POPULARITY)

    @property
    def coverage(self) -> float:
        """Share of the items whose value is known."""
        if self.kind == "dense":
            known = np.any(self.values[1:] != 0, axis=1)
        elif self.offsets is None:
            known = self.values[1:] > 0
        else:
            known = self.values[self.offsets[1:-1]] > 0
        return float(known.mean())


def array_names(factor: Factor) -> list[str]:
    """What a factor's ``.npy`` files are called, without the suffix: its values, then bounds."""
    return [factor.name] if factor.offsets is None else [factor.name, f"{factor.name}.offsets"]


def write_factor(directory: Path, factor: Factor, rule: str) -> dict[str, Any]:
    """Write a factor's files into a prepared directory.

    Args:
        directory: The prepared directory.
        factor: What to write.
        rule: In words, how its values were made.

    Returns:
        Its entry of the manifest.
    """
    folder = directory / FACTORS
    write_array(folder / f"{factor.name}.npy", factor.values)
    if factor.offsets is not None:
        write_array(folder / f"{factor.name}.offsets.npy", factor.offsets)
    if factor.kind != "dense":
        labels = pl.DataFrame({_LABEL: pl.Series(list(factor.labels), dtype=pl.String)})
        labels.write_parquet(folder / f"{factor.name}.labels.parquet")
    is_dense = factor.kind == "dense"
    return {
        "name": factor.name,
        "kind": factor.kind,
        "num_values": factor.num_values,
        "dim": factor.num_values if is_dense else None,
        "rule": rule,
        "coverage": round(factor.coverage, 6),
    }


def read_factor(directory: Path, entry: dict[str, Any], num_items: int) -> Factor:
    """Read a factor of a prepared directory.

    Args:
        directory: The prepared directory.
        entry: Its entry of the manifest.
        num_items: Items of the catalogue.

    Returns:
        The factor, its arrays mapped into memory.

    Raises:
        MfganError: A file is missing, truncated or does not fit the manifest.
    """
    name, kind, num_values = entry["name"], entry["kind"], entry["num_values"]
    folder = directory / FACTORS
    int32 = np.dtype(np.int32)
    offsets = None
    if kind == "dense":
        values = read_array(
            folder / f"{name}.npy", np.dtype(np.float32), (num_items + 1, num_values)
        )
        return Factor(name, kind, num_values, values, None, ())
    if kind == "multi":
        path = folder / f"{name}.offsets.npy"
        offsets = read_array(path, np.dtype(np.int64), (num_items + 2,))
        if offsets[0] != 0 or np.any(np.diff(offsets) < 1):
            raise MfganError(f"{path}: every item must have a bag of one value or more")
        values = read_array(folder / f"{name}.npy", int32, (int(offsets[-1]),))
    else:
        values = read_array(folder / f"{name}.npy", int32, (num_items + 1,))
    labels = _read_labels(folder / f"{name}.labels.parquet")
    return Factor(name, kind, num_values, values, offsets, labels)


def _read_labels(path: Path) -> tuple[str, ...]:
    try:
        return tuple(pl.read_parquet(path)[_LABEL].to_list())
    except FileNotFoundError:
        raise MfganError(f"{path}: must exist, found nothing") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        raise MfganError(f"{path}: must be a table of labels, got {error}") from None


def id_factor(item_ids: list[str]) -> Factor:
    """The item itself as a factor.

    Args:
        item_ids: External ids of items 1 and on.
    """
    num_values = len(item_ids) + 1
    values = np.arange(num_values, dtype=np.int32)
    return Factor(ID, "categorical", num_values, values, None, (UNKNOWN, *item_ids))


def popularity_factor(train_counts: np.ndarray) -> Factor:
    """How often an item was interacted with in the training part, in bins of doubling width.

    Args:
        train_counts: ``(num_items + 1,)`` int64, interactions in the training part.

    Returns:
        A categorical factor: value 0 for no training interaction, then 1, 2-3, 4-7, …
    """
    counts = train_counts.copy()
    counts[0] = 0
    # frexp's exponent is floor(log2(n)) + 1, exactly; 0 has exponent 0.
    values = np.frexp(counts.astype(np.float64))[1].astype(np.int32)
    top = int(values.max(initial=0))
    bounds = [(1 << (b - 1), (1 << b) - 1) for b in range(1, top + 1)]
    labels = [f"{low}-{high}" if high > low else f"{low}" for low, high in bounds]
    return Factor(POPULARITY, "categorical", top + 1, values, None, (UNKNOWN, *labels))
