"""Names of users and items, by their index."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl


class Labels(Sequence[str]):
    """A column as strings, by index.

    Args:
        values: Strings or integers in index order.
        first: Index of the first one; indices below it give an empty string.
    """

    def __init__(self, values: pl.Series, first: int) -> None:
        self._values, self._first = values, first

    def __len__(self) -> int:
        return len(self._values) + self._first

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = int(index) + (len(self) if index < 0 else 0)
        if not 0 <= place < len(self):
            raise IndexError(f"index must be within 0..{len(self) - 1}, got {index}")
        return "" if place < self._first else str(self._values[place - self._first])

    def __iter__(self) -> Iterator[str]:
        yield from [""] * self._first
        yield from self._values.cast(pl.String)

    def take(self, indices: np.ndarray) -> pl.Series:
        """The labels of many indices at once, as a String series of the same length."""
        indices = np.asarray(indices, np.int64)
        if len(indices) and (indices.min() < 0 or indices.max() >= len(self)):
            raise IndexError(f"indices must be within 0..{len(self) - 1}")
        known = pl.Series(np.maximum(indices - self._first, 0)).set(
            pl.Series(indices < self._first), None
        )
        return self._values.gather(known).cast(pl.String).fill_null("")


class ExternalIds(Labels):
    """The ids of the log as strings, by index; they ascend with it."""

    def find(self, external: str) -> int | None:
        """The index of an id, or None; ids are sorted, so this is a binary search."""
        value: Any = str(external)
        if not len(self._values):
            return None
        if self._values.dtype.is_integer():
            try:
                number = int(value)
            except ValueError:
                return None
            # 007 is another id than 7.
            if str(number) != value or not self._values[0] <= number <= self._values[-1]:
                return None
            value = number
        wanted = pl.Series([value], dtype=self._values.dtype)
        place = int(self._values.search_sorted(wanted, side="left")[0])
        found = place < len(self._values) and self._values[place] == value
        return place + self._first if found else None
