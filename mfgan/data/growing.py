"""A column whose length nobody knows before its last row has come."""

import numpy as np
import numpy.typing as npt

# Rows there is room for at first. Memory that is never written to is never fetched from the
# system: a short log does not pay for this, and a long one never moves.
_FIRST_ROWS = 1 << 27


class GrowingColumn:
    """Batches end to end in one array.

    Kept as batches and joined at the end, a long log would stand twice in memory, and fetching
    that memory from the system takes longer than filling it.

    Args:
        dtype: Of the rows.
        first_rows: Rows there is room for before the array moves.
    """

    def __init__(self, dtype: npt.DTypeLike, *, first_rows: int = _FIRST_ROWS) -> None:
        self.size = 0
        self._array = _reserved(first_rows, np.dtype(dtype))

    def add(self, rows: np.ndarray) -> None:
        """Put a batch of ``(n,)`` rows behind what is there."""
        size = self.size + len(rows)
        if size > len(self._array):
            longer = np.empty(max(size, 2 * len(self._array)), self._array.dtype)
            longer[: self.size] = self._array[: self.size]
            self._array = longer
        self._array[self.size : size] = rows
        self.size = size

    def whole(self) -> np.ndarray:
        """All rows, ``(size,)``, for as long as no more are added."""
        return self._array[: self.size]


def _reserved(rows: int, dtype: "np.dtype[np.generic]") -> np.ndarray:
    while True:
        try:
            return np.empty(rows, dtype)
        except MemoryError:  # where a process may not ask for more than it fills
            if rows <= 1:
                raise
            rows //= 2
