"""External ids become dense int32 codes while the log streams by, batch after batch.

A code is the place of an id's first appearance. The tables hold each distinct id once, so memory
grows with the ids and not with the log, and one batch of the log is in memory at a time.
"""

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numba import njit

from mfgan.errors import MfganError

_MAX_CODES = (1 << 31) - 2
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
        self._hashes = np.empty(0, np.uint64)
        self._is_text = dtype == pl.String
        # The integer of each code, or where its text starts in the arena and the last one ends.
        self._keys = np.zeros(1, np.int64)
        self._arena = np.zeros(1, np.uint8)

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
        hashes = _hashes_of(column)
        self._reserve(rows)
        if not self._is_text:
            keys = column.cast(pl.UInt64 if column.dtype == pl.UInt64 else pl.Int64).to_numpy()
            self.size = _encode_integers(
                keys.view(np.int64), hashes, self._slots, self._hashes, self._keys, self.size, codes
            )
            return codes
        offsets, data = _text_buffers(column)
        self._arena = _grown(self._arena, int(self._keys[self.size]), len(data) + 1)
        table = (self._slots, self._hashes, self._keys, self._arena)
        self.size, _ = _encode_text(offsets, data, hashes, *table, self.size, codes)
        return codes

    def ids(self) -> pl.Series:
        """The distinct ids by code, of the column's dtype."""
        if not self._is_text:
            keys = self._keys[: self.size]
            keys = keys.view(np.uint64) if self.dtype == pl.UInt64 else keys
            return pl.Series(self.name, keys).cast(self.dtype)
        bounds = self._keys[: self.size + 1]
        buffers = [None, pa.py_buffer(bounds), pa.py_buffer(self._arena[: bounds[-1]])]
        text: Any = pa.Array.from_buffers(pa.large_string(), self.size, buffers)
        return pl.Series(self.name, pl.from_arrow(text), dtype=pl.String)

    def _reserve(self, rows: int) -> None:
        self._hashes = _grown(self._hashes, self.size, rows)
        self._keys = _grown(self._keys, self.size + 1, rows)
        want = len(self._slots)
        while want < 4 * (self.size + rows):
            want *= 2
        if want > len(self._slots):
            self._slots = np.zeros(want, np.uint64)
            _fill_slots(self._slots, self._hashes, self.size)


def _hashes_of(column: pl.Series) -> np.ndarray:
    return column.hash().to_numpy()


def _grown(array: np.ndarray, used: int, more: int) -> np.ndarray:
    """The array, or a longer one with the same first ``used``, with room for ``more``."""
    if used + more <= len(array):
        return array
    longer = np.empty(max(used + more, 2 * used), array.dtype)
    longer[:used] = array[:used]
    return longer


def _text_buffers(column: pl.Series) -> tuple[np.ndarray, np.ndarray]:
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
def _fill_slots(slots, hashes, size):  # type: ignore[no-untyped-def]
    mask = slots.shape[0] - 1
    for code in range(size):
        slot = _first_slot(hashes[code], slots)
        while slots[slot] != _EMPTY:
            slot = (slot + 1) & mask
        slots[slot] = ((hashes[code] >> _HIGH) << _HIGH) | np.uint64(code + 1)


@njit(cache=True, nogil=True)
def _encode_integers(column, hashed, slots, hashes, keys, size, codes):  # type: ignore[no-untyped-def]
    mask = slots.shape[0] - 1
    found = np.empty(_BLOCK, np.uint64)
    for first in range(0, column.shape[0], _BLOCK):
        rows = min(_BLOCK, column.shape[0] - first)
        for j in range(rows):
            found[j] = slots[_first_slot(hashed[first + j], slots)]
        for j in range(rows):
            row = first + j
            code = np.int64(found[j] & _LOW) - 1
            if code >= 0 and keys[code] == column[row]:
                codes[row] = code
                continue
            slot = _first_slot(hashed[row], slots)
            tag = (hashed[row] >> _HIGH) << _HIGH
            while True:
                entry = slots[slot]
                if entry == _EMPTY:
                    slots[slot] = tag | np.uint64(size + 1)
                    hashes[size] = hashed[row]
                    keys[size] = column[row]
                    codes[row] = size
                    size += 1
                    break
                code = np.int64(entry & _LOW) - 1
                if keys[code] == column[row]:
                    codes[row] = code
                    break
                slot = (slot + 1) & mask
    return size


@njit(cache=True, nogil=True, inline="always")
def _word(data, place):  # type: ignore[no-untyped-def]
    # Eight shifted bytes, which LLVM makes one load; unsigned indices, since a negative one counts
    # from the end and the test for it would keep the loads apart.
    at = np.uint64(place)
    word = np.uint64(data[at])
    for byte in range(1, 8):
        word |= np.uint64(data[at + np.uint64(byte)]) << np.uint64(8 * byte)
    return word


@njit(cache=True, nogil=True, inline="always")
def _same_text(data, start, end, arena, place, stop):  # type: ignore[no-untyped-def]
    length = end - start
    if length != stop - place:
        return False
    whole = length // 8 * 8 if length >= 8 else 0
    for step in range(0, whole, 8):
        if _word(data, start + step) != _word(arena, place + step):
            return False
    if whole == 0:
        same = True
        for step in range(length):
            same &= data[start + step] == arena[place + step]
        return same
    # The last word overlaps the one before it.
    return _word(data, end - 8) == _word(arena, stop - 8)


@njit(cache=True, nogil=True)
def _encode_text(offsets, data, hashed, slots, hashes, keys, arena, size, codes):  # type: ignore[no-untyped-def]
    mask = slots.shape[0] - 1
    found = np.empty(_BLOCK, np.uint64)
    starts = np.empty(_BLOCK, np.int64)
    stops = np.empty(_BLOCK, np.int64)
    touched = np.uint8(0)
    for first in range(0, codes.shape[0], _BLOCK):
        rows = min(_BLOCK, codes.shape[0] - first)
        # Three loops of loads that do not wait for each other, then the work on what they fetched:
        # one loop over rows would wait for main memory three times a row.
        for j in range(rows):
            found[j] = slots[_first_slot(hashed[first + j], slots)]
        for j in range(rows):
            tag = hashed[first + j] >> _HIGH
            slot = _first_slot(hashed[first + j], slots)
            while found[j] != _EMPTY and found[j] >> _HIGH != tag:
                slot = (slot + 1) & mask
                found[j] = slots[slot]
            code = np.int64(found[j] & _LOW) - 1 if found[j] != _EMPTY else 0
            starts[j] = keys[code]
            stops[j] = keys[code + 1]
        for j in range(rows):
            touched ^= arena[starts[j]]
        for j in range(rows):
            row = first + j
            start, end = offsets[row], offsets[row + 1]
            if found[j] != _EMPTY and _same_text(data, start, end, arena, starts[j], stops[j]):
                codes[row] = np.int64(found[j] & _LOW) - 1
                continue
            tag = (hashed[row] >> _HIGH) << _HIGH
            slot = _first_slot(hashed[row], slots)
            while True:
                entry = slots[slot]
                if entry == _EMPTY:
                    slots[slot] = tag | np.uint64(size + 1)
                    hashes[size] = hashed[row]
                    for step in range(end - start):
                        arena[keys[size] + step] = data[start + step]
                    keys[size + 1] = keys[size] + end - start
                    codes[row] = size
                    size += 1
                    break
                code = np.int64(entry & _LOW) - 1
                if (entry >> _HIGH) << _HIGH == tag and _same_text(
                    data, start, end, arena, keys[code], keys[code + 1]
                ):
                    codes[row] = code
                    break
                slot = (slot + 1) & mask
    return size, touched
