"""A column that grows against joining its batches."""

import numpy as np
import pytest

from mfgan.data import growing
from mfgan.data.growing import GrowingColumn


@pytest.mark.parametrize("first_rows", [1, 7, 100])
def test_batches_stand_end_to_end(first_rows):
    column = GrowingColumn(np.int32, first_rows=first_rows)
    batches = [np.arange(size, dtype=np.int32) + 10 * size for size in (0, 3, 4, 1, 30)]
    for batch in batches:
        column.add(batch)
    np.testing.assert_array_equal(column.whole(), np.concatenate(batches))
    assert column.whole().dtype == np.int32


def test_room_is_asked_for_in_halves_where_memory_is_short(monkeypatch):
    def empty(rows, dtype, plain=np.empty):
        if rows > 10:
            raise MemoryError
        return plain(rows, dtype)

    monkeypatch.setattr(growing.np, "empty", empty)
    column = GrowingColumn(np.int64, first_rows=64)
    column.add(np.arange(8))
    assert column.whole().tolist() == list(range(8))
    with pytest.raises(MemoryError):
        column.add(np.arange(3))
