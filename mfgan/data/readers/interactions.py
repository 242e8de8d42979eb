"""From cells as they stand in a log to interactions of one dtype a column."""

import numpy as np
import polars as pl

from mfgan.data.columns import EVENT, ITEM_ID, ORDER, RATING, TIMESTAMP, USER_ID
from mfgan.data.readers.bad_lines import BadLines
from mfgan.data.readers.cells import ids, timestamps
from mfgan.errors import MfganError

LOG_COLUMNS = (USER_ID, ITEM_ID, TIMESTAMP, ORDER, EVENT, RATING)
_NAMED = 3
_MAY_BE_EMPTY = (ORDER, EVENT)
EXPECTED = {
    USER_ID: "must be an integer or text",
    ITEM_ID: "must be an integer or text",
    TIMESTAMP: "must be a number or an ISO date",
    ORDER: "must be a number",
    EVENT: "must be text",
}


def clean(raw: pl.DataFrame, bad: BadLines, numbers: "np.ndarray | None" = None) -> pl.DataFrame:
    """Give every column its dtype and leave out the rows that lack an id or a time.

    Args:
        raw: Columns of ``LOG_COLUMNS``, ``user_id`` and ``item_id`` at least, of any dtype.
        bad: Takes the rows that are left out. Not settled here.
        numbers: ``(rows,)`` line or row number of each row in the source; from 1 on if not given.

    Returns:
        The columns that ``RawLog.interactions`` describes.
    """
    typed = pl.DataFrame({name: _typed(raw[name]) for name in LOG_COLUMNS if name in raw.columns})
    required = [USER_ID, ITEM_ID]
    wrong = pl.repeat(False, typed.height, eager=True)
    for name in _MAY_BE_EMPTY:
        if name in typed.columns:
            wrong |= typed[name].is_null() & raw[name].is_not_null()
    if ORDER not in typed.columns and TIMESTAMP in typed.columns:
        required.append(TIMESTAMP)
    for name in required:
        wrong |= typed[name].is_null()
    if not wrong.any():
        return typed
    at = wrong.arg_true()
    first = at.head(_NAMED).to_list()
    shown = [(_number(numbers, row), _reason(raw, typed, required, row)) for row in first]
    bad.add(shown, len(at))
    return typed.filter(~wrong)


def _typed(values: pl.Series) -> pl.Series:
    if values.name in (USER_ID, ITEM_ID):
        return ids(values)
    if values.name == TIMESTAMP:
        return timestamps(values)
    if values.name == EVENT and not values.dtype.is_nested():
        return values.cast(pl.String)
    if values.name == ORDER and values.dtype.is_integer():
        return values.cast(pl.Int64)
    if values.dtype.is_numeric() or values.dtype == pl.String:
        return values.cast(pl.Float64, strict=False).fill_nan(None)
    return pl.Series(values.name, [None] * len(values), pl.Float64)


def _number(numbers: "np.ndarray | None", row: int) -> int:
    return row + 1 if numbers is None else int(numbers[row])


def _reason(raw: pl.DataFrame, typed: pl.DataFrame, required: list[str], row: int) -> str:
    for name in (*required, *_MAY_BE_EMPTY):
        if name not in typed.columns or typed[name][row] is not None:
            continue
        value = raw[name][row]
        if value is None or (isinstance(value, str) and value == ""):
            if name in required:
                return f"{name} is empty"
            continue
        if isinstance(value, pl.Series):
            value = value.to_list()
        shown = repr(value) if isinstance(value, str) else str(value)
        return f"{name} {EXPECTED[name]}, got {shown[:60]}"
    return "it is empty"


def not_empty(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    """The frame itself.

    Raises:
        MfganError: It has no rows.
    """
    if frame.height == 0:
        raise MfganError(f"prepare: {name} must hold interactions, found none")
    return frame
