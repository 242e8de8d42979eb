"""Ids and times as they stand in logs, made one dtype each; what cannot be read becomes null."""

import polars as pl

# A whole column has one unit, told by its largest absolute value. Seconds below 1e11 reach the year
# 5138; milliseconds at or above it begin in March 1973.
_UNITS = ((1e11, 1000.0), (1e14, 1.0), (1e17, 1e-3), (float("inf"), 1e-6))
DATE = "%Y-%m-%d"
DATE_FORMATS = (
    DATE,
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f%z",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%dT%H:%M%z",
)
MILLISECOND = pl.Datetime("ms")
NO_ID = ["", "nan", "NaN", "null", "None", "NULL"]
TIME_RULE = (
    "numbers are seconds where the largest is below 1e11, milliseconds below 1e14, microseconds "
    "below 1e17, else nanoseconds since 1970-01-01 UTC; text is an ISO date or date and time, UTC "
    "unless it says otherwise"
)


def ids(values: pl.Series) -> pl.Series:
    """Ids as Int64 where every one is a whole number in its plain form, else as String.

    Args:
        values: Integers, whole floats or text. ``007`` stays text, since it is not ``7``; spaces
            around an id are no part of it.

    Returns:
        Int64 or String; null where there is no id (empty, NaN, null, a fraction, a nested value).
    """
    dtype = values.dtype
    if dtype.is_integer():
        return values.cast(pl.Int64, strict=False) if dtype != pl.UInt64 else _unsigned(values)
    if dtype.is_float():
        whole = values.cast(pl.Int64, strict=False)
        return whole.to_frame().select(pl.when((whole - values) == 0).then(whole)).to_series()
    if dtype == pl.Categorical or dtype == pl.Enum:
        values = values.cast(pl.String)
    if values.dtype != pl.String:
        return pl.Series(values.name, [None] * len(values), pl.String)
    return _text_ids(values)


def _unsigned(values: pl.Series) -> pl.Series:
    largest = values.max()
    fits = largest is None or int(str(largest)) < 2**63
    return values.cast(pl.Int64) if fits else values


def _text_ids(values: pl.Series) -> pl.Series:
    name = values.name
    values = values.str.strip_chars()
    values = values.to_frame().select(pl.when(~pl.col(name).is_in(NO_ID)).then(name)).to_series()
    numbers = values.cast(pl.Int64, strict=False)
    if numbers.null_count() > values.null_count():
        return values
    return numbers if (numbers.cast(pl.String) == values).all() else values


def timestamps(values: pl.Series) -> pl.Series:
    """Times as Int64 milliseconds since 1970-01-01 UTC, by ``TIME_RULE``.

    Returns:
        Int64; null where there is no time or none that can be read.
    """
    dtype = values.dtype
    if dtype == pl.String:
        return _text_times(values)
    if dtype == pl.Date:
        return values.cast(MILLISECOND).cast(pl.Int64)
    if isinstance(dtype, pl.Datetime):
        return values.dt.cast_time_unit("ms").to_physical()
    if dtype.is_numeric():
        return _numeric_times(values)
    return pl.Series(values.name, [None] * len(values), pl.Int64)


def _numeric_times(values: pl.Series) -> pl.Series:
    if values.dtype.is_float():
        frame = values.to_frame()
        values = frame.select(pl.when(pl.first().is_finite()).then(pl.first())).to_series()
    _, factor = unit(values)
    column = to_milliseconds(pl.col(values.name), factor, whole=values.dtype.is_integer())
    return values.to_frame().select(column).to_series()


def unit(values: pl.Series) -> tuple[float, float]:
    """The unit of a column of numbers: a bound on their size, and the milliseconds in one."""
    magnitude = values.cast(pl.Float64).abs().max()
    largest = float(str(magnitude)) if magnitude is not None else 0.0
    return next(bounded for bounded in _UNITS if largest < bounded[0])


def to_milliseconds(column: pl.Expr, factor: float, *, whole: bool) -> pl.Expr:
    """Numbers as Int64 milliseconds, ``factor`` of them in one; ``whole`` ones stay integers."""
    if not whole:
        return (column * factor).round(0).cast(pl.Int64, strict=False)
    # A float64 would round nanoseconds of today.
    column = column.cast(pl.Int64)
    return column * int(factor) if factor >= 1 else column // round(1 / factor)


def _text_times(values: pl.Series) -> pl.Series:
    first = values.drop_nulls().head(1).str.strip_chars()
    if len(first) and first.cast(pl.Float64, strict=False).null_count() == 0:
        numbers = values.str.strip_chars().cast(pl.Int64, strict=False)
        if numbers.null_count() == values.null_count():
            return _numeric_times(numbers)
        return _numeric_times(values.str.strip_chars().cast(pl.Float64, strict=False))
    return iso_times(values)


def iso_times(values: pl.Series) -> pl.Series:
    """Text in any of ``DATE_FORMATS`` as Int64 milliseconds since 1970-01-01 UTC, else null."""
    frame, column = values.to_frame(), pl.col(values.name)
    found = frame.select(from_date(column, DATE)).to_series()
    if found.null_count() == values.null_count():
        return found
    return frame.select(pl.coalesce(from_date(column, form) for form in DATE_FORMATS)).to_series()


def from_date(column: pl.Expr, form: str) -> pl.Expr:
    """Text in one of ``DATE_FORMATS`` as Int64 milliseconds; null where it is anything else."""
    column = column.str.strip_chars()
    if form == DATE:
        return column.str.to_date(DATE, strict=False).cast(MILLISECOND).cast(pl.Int64)
    column = column.str.replace(r"^(\d{4}-\d\d-\d\d) +", "${1}T")
    column = column.str.replace(r" *(Z|UTC)$", "+0000")
    moments = column.str.to_datetime(form, strict=False, time_unit="ms")
    return moments.dt.replace_time_zone(None).cast(pl.Int64)
