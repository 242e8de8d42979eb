"""Logs too large to hold: a plan that Polars runs as the rows stream by.

The first rows tell the types. A later value that is of another becomes null, which is the sign for
whoever runs the plan to have the log read in full instead.
"""

from collections.abc import Callable

import polars as pl

from mfgan.data.columns import EVENT, ITEM_ID, ORDER, RATING, TIMESTAMP, USER_ID
from mfgan.data.readers import cells
from mfgan.data.readers.bad_lines import BadLines
from mfgan.data.readers.interactions import clean
from mfgan.data.readers.raw_log import Request

SAMPLE_ROWS = 10_000


def planned(scan: pl.LazyFrame, request: Request) -> pl.LazyFrame | None:
    """Plan the reading of a log.

    Args:
        scan: Columns of ``LOG_COLUMNS`` as the source has them.
        request: Says whether a plan is wanted.

    Returns:
        The columns that ``RawLog.interactions`` describes, null where ``clean`` would leave a row
        out; ``None`` where only a look at all rows can tell, or the first rows are bad already.
    """
    if request.again is None:
        return None
    try:
        sample = scan.head(SAMPLE_ROWS).collect()
    except (pl.exceptions.PolarsError, OSError):
        return None
    names = sample.columns
    if sample.height == 0 or (ORDER in names and TIMESTAMP in names):
        return None
    columns = [_COLUMNS[name](sample[name]) for name in names]
    plan = [
        column.alias(name)
        for name, column in zip(names, columns, strict=True)
        if column is not None
    ]
    trial = BadLines("sample", request)
    expected = clean(sample, trial)
    if len(plan) < len(names) or trial.count:
        return None
    # By construction it is the same; were it not, slow would still be right.
    return scan.select(plan) if sample.select(plan).equals(expected.select(names)) else None


def _id(sample: pl.Series) -> pl.Expr | None:
    column, dtype = pl.col(sample.name), sample.dtype
    if dtype.is_integer():
        return None if dtype == pl.UInt64 else column.cast(pl.Int64)
    if dtype != pl.String:
        return None
    if cells.ids(sample).dtype == pl.Int64:
        # A number with spaces around it becomes null: looking for them would cost every log time.
        number = column.cast(pl.Int64, strict=False)
        return pl.when(number.cast(pl.String) == column).then(number)
    column = column.str.strip_chars()
    return pl.when(~column.is_in(cells.NO_ID)).then(column)


def _time(sample: pl.Series) -> pl.Expr | None:
    column, dtype = pl.col(sample.name), sample.dtype
    if dtype == pl.Date:
        return column.cast(cells.MILLISECOND).cast(pl.Int64)
    if isinstance(dtype, pl.Datetime):
        return column.dt.cast_time_unit("ms").to_physical()
    if dtype == pl.String:
        numbers = sample.cast(pl.Int64, strict=False)
        if numbers.null_count():
            return _date(sample)
        sample, column = numbers, column.cast(pl.Int64, strict=False)
    elif not dtype.is_integer():
        return None
    bound, factor = cells.unit(sample)
    time = cells.to_milliseconds(column, factor, whole=True)
    # A larger value would give the whole column another unit.
    return pl.when(column.abs() < int(bound)).then(time) if bound < float("inf") else time


def _date(sample: pl.Series) -> pl.Expr | None:
    for form in cells.DATE_FORMATS:
        column = cells.from_date(pl.col(sample.name), form)
        if sample.to_frame().select(column).to_series().null_count() == 0:
            return column
    return None


def _order(sample: pl.Series) -> pl.Expr | None:
    column = pl.col(sample.name)
    if sample.dtype.is_integer():
        return column.cast(pl.Int64)
    return column.cast(pl.Float64).fill_nan(None) if sample.dtype.is_float() else None


def _event(sample: pl.Series) -> pl.Expr | None:
    return None if sample.dtype.is_nested() else pl.col(sample.name).cast(pl.String)


def _rating(sample: pl.Series) -> pl.Expr | None:
    column = pl.col(sample.name)
    if sample.dtype.is_numeric() or sample.dtype == pl.String:
        return column.cast(pl.Float64, strict=False).fill_nan(None)
    return None


_COLUMNS: dict[str, Callable[[pl.Series], pl.Expr | None]] = {
    USER_ID: _id,
    ITEM_ID: _id,
    TIMESTAMP: _time,
    ORDER: _order,
    EVENT: _event,
    RATING: _rating,
}
