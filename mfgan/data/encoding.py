"""External ids become dense int32 codes while the log streams by, batch after batch.

A code is the place of an id's first appearance. The tables hold each distinct id once, so memory
grows with the ids and not with the log, and one batch of the log is in memory at a time.
"""

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numba import njit

from mfgan.data.id_keys import (
    LONG,
    MOST_BYTES,
    hash_of,
    is_text,
    keys_of,
    mixed,
    store_text,
    text_bounds,
    write_texts,
)
from mfgan.errors import MfganError

_MAX_CODES = (1 << 31) - 2
_ALL_BITS = np.uint64(0xFFFFFFFFFFFFFFFF)  # of a hash; a test leaves some out
_EMPTY = np.uint64(0)
_LOW = np.uint64(0xFFFFFFFF)
_HIGH = np.uint64(32)
_BLOCK = 256


class Encoder:
    """Codes for one column of ids, integers or strings.

    Args:
        dtype: The column's dtype.

    Raises:
        MfganError: Ids of this dtype cannot be encoded.
    """

    def __init__(self, name: str, dtype: pl.DataType) -> None:
        if not (dtype.is_integer() or dtype == pl.String):
            raise MfganError(f"prepare: {name} must be integers or strings, got {dtype}")
        self.name, self.dtype = name, dtype
        self.size = 0
        self._slots = np.zeros(1 << 12, np.uint64)  # high half: of the hash, low half: code + 1
        self._is_text = dtype == pl.String
        # By code: two words of a text, see `id_keys`, or one that is the integer.
        self._keys = np.empty((0, 2 if self._is_text else 1), np.uint64)
        self._arena, self._arena_used = np.empty(0, np.uint8), 0

    def encode(self, column: pl.Series) -> np.ndarray:
        """The codes of one batch; ids not met before get new ones.

        Args:
            column: Ids without nulls.

        Returns:
            ``(len(column),)`` int32.

        Raises:
            MfganError: There are more distinct ids than int32 can count.
        """
        rows = len(column)
        codes = np.empty(rows, np.int32)
        if not rows:
            return codes
        if self.size + rows > _MAX_CODES:
            raise MfganError(f"prepare: {self.name} must have at most {_MAX_CODES:,} distinct ids")
        self._reserve(rows)
        if not self._is_text:
            keys = column.cast(pl.UInt64 if column.dtype == pl.UInt64 else pl.Int64).to_numpy()
            self.size = _encode_integers(
                keys.view(np.uint64), self._slots, _ALL_BITS, self._keys, self.size, codes
            )
            return codes
        offsets, data = text_buffers(column)
        # A long text takes its bytes and eight of length; none has fewer than sixteen.
        room = int(offsets[-1] - offsets[0]) * 3 // 2
        self._arena = _grown(self._arena, self._arena_used, room)
        table: tuple[Any, ...] = (self._slots, _ALL_BITS, self._keys, self._arena)
        table = (offsets, data, *table, self._arena_used, self.size, codes)
        self._arena_used, self.size, _ = _encode_text(*table)
        return codes

    def ids(self) -> pl.Series:
        """The distinct ids by code, of the column's dtype."""
        keys = self._keys[: self.size]
        if not self._is_text:
            numbers = keys[:, 0] if self.dtype == pl.UInt64 else keys[:, 0].view(np.int64)
            return pl.Series(self.name, numbers).cast(self.dtype)
        bounds = np.empty(self.size + 1, np.int64)
        text_bounds(keys, self._arena, bounds)
        data = np.empty(bounds[-1], np.uint8)
        write_texts(keys, self._arena, bounds, data)
        buffers = [None, pa.py_buffer(bounds), pa.py_buffer(data)]
        text: Any = pa.Array.from_buffers(pa.large_string(), self.size, buffers)
        return pl.Series(self.name, pl.from_arrow(text), dtype=pl.String)

    def _reserve(self, rows: int) -> None:
        self._keys = _grown(self._keys, self.size, rows)
        want = len(self._slots)
        while want < 2 * (self.size + rows):
            want *= 2
        if want > len(self._slots):
            self._slots = np.zeros(want, np.uint64)
            _fill_slots(self._slots, _ALL_BITS, self._keys, self.size)


def id_order(ids: pl.Series) -> np.ndarray:
    """``(n,)`` int64 places of distinct ids in ascending order, integers or strings."""
    if ids.dtype == pl.String:
        offsets, data = text_buffers(ids)
        keys = np.empty((len(ids), 2), np.uint64)
        if keys_of(offsets, data, keys) <= MOST_BYTES:
            first, second = np.ascontiguousarray(keys.T)
            # Of numbers that are filled up with zeros the first eight bytes are often the same.
            if len(first) and first.min() == first.max():
                return np.argsort(second)
            return np.lexsort((second, first))
    return ids.arg_sort().to_numpy().astype(np.int64)


def _grown(array: np.ndarray, used: int, more: int) -> np.ndarray:
    """The array, or a longer one with the same first ``used``, with room for ``more``."""
    if used + more <= len(array):
        return array
    longer = np.empty((max(used + more, 2 * used), *array.shape[1:]), array.dtype)
    longer[:used] = array[:used]
    return longer


def text_buffers(column: pl.Series) -> tuple[np.ndarray, np.ndarray]:
    """``(rows + 1,)`` int64 bounds and the UTF-8 bytes of a String column without nulls."""
    text = column.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    _, bounds, data = text.buffers()
    first = text.offset
    offsets = np.frombuffer(bounds, np.int64)[first : first + len(text) + 1]
    return offsets, np.frombuffer(data or b"", np.uint8)


@njit(cache=True, nogil=True, inline="always")
def _first_slot(hashed, slots):  # type: ignore[no-untyped-def]
    return np.int64(hashed & np.uint64(slots.shape[0] - 1))


@njit(cache=True, nogil=True)
def _fill_slots(slots, bits, keys, size):  # type: ignore[no-untyped-def]
    mask = slots.shape[0] - 1
    for code in range(size):
        if keys.shape[1] == 2:
            hashed = hash_of(keys[code, 0], keys[code, 1]) & bits
        else:
            hashed = mixed(keys[code, 0]) & bits
        slot = _first_slot(hashed, slots)
        while slots[slot] != _EMPTY:
            slot = (slot + 1) & mask
        slots[slot] = ((hashed >> _HIGH) << _HIGH) | np.uint64(code + 1)


@njit(cache=True, nogil=True)
def _encode_integers(column, slots, bits, keys, size, codes):  # type: ignore[no-untyped-def]
    mask = slots.shape[0] - 1
    hashed = np.empty(_BLOCK, np.uint64)
    found = np.empty(_BLOCK, np.uint64)
    for first in range(0, column.shape[0], _BLOCK):
        rows = min(_BLOCK, column.shape[0] - first)
        for j in range(rows):
            hashed[j] = mixed(column[first + j]) & bits
            found[j] = slots[_first_slot(hashed[j], slots)]
        for j in range(rows):
            row = first + j
            code = np.int64(found[j] & _LOW) - 1
            if code >= 0 and keys[code, 0] == column[row]:
                codes[row] = code
                continue
            slot = _first_slot(hashed[j], slots)
            tag = (hashed[j] >> _HIGH) << _HIGH
            while True:
                entry = slots[slot]
                if entry == _EMPTY:
                    slots[slot] = tag | np.uint64(size + 1)
                    keys[size, 0] = column[row]
                    codes[row] = size
                    size += 1
                    break
                code = np.int64(entry & _LOW) - 1
                if keys[code, 0] == column[row]:
                    codes[row] = code
                    break
                slot = (slot + 1) & mask
    return size


@njit(cache=True, nogil=True)
def _encode_text(offsets, data, slots, bits, keys, arena, used, size, codes):  # type: ignore[no-untyped-def]
    mask = slots.shape[0] - 1
    wanted = np.empty((_BLOCK, 2), np.uint64)
    hashed = np.empty(_BLOCK, np.uint64)
    found = np.empty(_BLOCK, np.uint64)
    met = np.empty((_BLOCK, 2), np.uint64)
    touched = np.uint8(0)
    for first in range(0, codes.shape[0], _BLOCK):
        rows = min(_BLOCK, codes.shape[0] - first)
        # Two loops of loads that do not wait for each other, then the work on what they fetched:
        # one loop over rows would wait for main memory twice a row.
        keys_of(offsets[first : first + rows + 1], data, wanted[:rows])
        for j in range(rows):
            if wanted[j, 1] == LONG:
                wanted[j, 0] &= bits
            hashed[j] = hash_of(wanted[j, 0], wanted[j, 1]) & bits
            found[j] = slots[_first_slot(hashed[j], slots)]
        for j in range(rows):
            tag = hashed[j] >> _HIGH
            slot = _first_slot(hashed[j], slots)
            while found[j] != _EMPTY and found[j] >> _HIGH != tag:
                slot = (slot + 1) & mask
                found[j] = slots[slot]
            code = np.int64(found[j] & _LOW) - 1 if found[j] != _EMPTY else 0
            met[j, 0], met[j, 1] = keys[code, 0], keys[code, 1]
            # Of an empty slot nothing is known: the first key may be what memory held before.
            if found[j] != _EMPTY and met[j, 1] & LONG == LONG:
                touched ^= arena[np.int64(met[j, 1] >> np.uint64(8))]
        for j in range(rows):
            one, two = wanted[j, 0], wanted[j, 1]
            if found[j] != _EMPTY and one == met[j, 0] and two == met[j, 1] and two != LONG:
                codes[first + j] = np.int64(found[j] & _LOW) - 1
                continue
            place = first + j, offsets[first + j], offsets[first + j + 1]
            used, size = _look_up(
                place, data, wanted[j], hashed[j], slots, keys, arena, used, size, codes
            )
    return used, size, touched


@njit(cache=True, nogil=True)
def _look_up(place, data, key, hashed, slots, keys, arena, used, size, codes):  # type: ignore[no-untyped-def]
    """Find or enter one id by its key, a long text by the text itself."""
    row, start, end = place
    mask = slots.shape[0] - 1
    slot = _first_slot(hashed, slots)
    is_long = key[1] == LONG
    while True:
        entry = slots[slot]
        if entry == _EMPTY:
            slots[slot] = ((hashed >> _HIGH) << _HIGH) | np.uint64(size + 1)
            keys[size, 0], keys[size, 1] = key[0], key[1]
            if is_long:
                keys[size, 1] = store_text(data, start, end, arena, used)
                used += 8 + end - start
            codes[row] = size
            return used, size + 1
        code = np.int64(entry & _LOW) - 1
        same = keys[code, 0] == key[0]
        if same and is_long:
            same = is_text(data, start, end, keys[code, 1], arena)
        elif same:
            same = keys[code, 1] == key[1]
        if same:
            codes[row] = code
            return used, size
        slot = (slot + 1) & mask
