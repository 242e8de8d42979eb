"""The table that ``--items`` names: its columns, and which kind of factor each is."""

import json
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mfgan.data.columns import ITEM_ID, ITEM_IDX
from mfgan.data.readers.cells import MILLISECOND, iso_times
from mfgan.data.readers.items import CATEGORICAL, MULTI, TITLE, Items, split_labels
from mfgan.data.readers.raw_log import AttributeRule, Request, SourceFile, edge_texts
from mfgan.data.readers.sources import account, existing_file, is_remote, plain_suffix, read_bytes
from mfgan.errors import MfganError, nearest

ATTRIBUTES = "attributes"
_FOR_PEOPLE = {TITLE, "name", "url", "description"}
_BINS = 10
_FEW = 200  # whole numbers of fewer values are names, those of more are sizes


def read_items(request: Request, source: str) -> Items:
    """Read a table of attributes.

    Args:
        request: Its ``columns`` may name the column of item ids.
        source: CSV, TSV, Parquet, NDJSON, an address of one, or S3-Rec's JSON object of lists.

    Raises:
        MfganError: It cannot be read, is empty, or has no column of item ids.
    """
    if request.format == "steam" and plain_suffix(source) == ".json":
        from mfgan.data.readers.steam import games

        return games(existing_file(source), request)
    if not is_remote(source) and plain_suffix(source) == ".json":
        found = attribute_lists(existing_file(source), request)
        if found is not None:
            return found
    frame, sources = _frame(request, source)
    frame = frame.select([column for column in frame.columns if column])
    name = Path(source).name
    column = _id_column(name, frame.columns, request)
    if column != ITEM_ID and ITEM_ID in frame.columns:
        frame = frame.drop(ITEM_ID)  # the column that the log's ids are in was named
    # Items are numbered anew: a table that another data set was written with has other numbers.
    frame = frame.rename({column: ITEM_ID}).drop(ITEM_IDX, strict=False)
    if frame.height == 0:
        raise MfganError(f"prepare: {name} must hold items, found none")
    return _ruled(frame, name, sources)


def _id_column(name: str, available: list[str], request: Request) -> str:
    wished = [request.columns.get(ITEM_ID, ITEM_ID), ITEM_ID]
    for column in wished:
        if column in available:
            return column
    raise MfganError(
        f"prepare: {name} must have a column {wished[0]!r} of item ids, got {', '.join(available)}"
        f"{nearest(wished[0], available)}"
    )


def attribute_lists(path: Path, request: Request) -> Items | None:
    """Read S3-Rec's attributes: one JSON object, item id to a list of attribute ids.

    Returns:
        The lists as one ``multi`` attribute; ``None`` where the file is no such object.

    Raises:
        MfganError: The file is missing or truncated, or an attribute is no number and no text.
    """
    try:
        found: Any = json.loads(read_bytes(path))
    except ValueError as error:
        if isinstance(error, MfganError):
            raise
        return None
    if not isinstance(found, dict) or not all(isinstance(value, list) for value in found.values()):
        return None
    frame = _of_lists(path.name, found)
    note = "attribute ids; the file does not say which are brands and which categories"
    rules = {ATTRIBUTES: AttributeRule("multi", note=note)}
    return Items(frame, rules, [account(path, frame.height)])


def _of_lists(name: str, found: dict[str, list[Any]]) -> pl.DataFrame:
    nested = [value for values in found.values() for value in values if _is_nested(value)]
    if nested:
        raise MfganError(
            f"prepare: {name} must hold lists of numbers or text, got {str(nested[0])[:60]} in one"
        )
    try:
        "".join(map(str, chain(found, *found.values()))).encode()
    except UnicodeEncodeError as error:
        raise MfganError(f"prepare: {name} must be Unicode text, got {error.reason}") from None
    return pl.DataFrame({ITEM_ID: list(found), ATTRIBUTES: list(found.values())}, strict=False)


def _is_nested(value: object) -> bool:
    return isinstance(value, list | dict)


def _frame(request: Request, source: str) -> tuple[pl.DataFrame, list[SourceFile]]:
    from mfgan.data.readers.table import table_kind, whole_table

    frame, sources = whole_table(request, source)
    kind = table_kind(source)
    if kind == "parquet":
        return frame, sources
    return _typed(frame, has_numbers=kind == "ndjson"), sources


def _typed(frame: pl.DataFrame, *, has_numbers: bool) -> pl.DataFrame:
    """Text columns that hold nothing but numbers or ISO dates, as such; ids stay as they are.

    Args:
        frame: From a format that knows no dates.
        has_numbers: The format knows numbers, so that those within quotes are text.
    """
    changed = []
    for values in frame:
        if values.name == ITEM_ID or values.dtype != pl.String:
            continue
        for read in (_date,) if has_numbers else (_whole, _decimal, _date):
            found = read(values)
            if found.null_count() == values.null_count() < len(values):
                changed.append(found)
                break
    return frame.with_columns(changed)


def _whole(values: pl.Series) -> pl.Series:
    return values.cast(pl.Int64, strict=False)


def _decimal(values: pl.Series) -> pl.Series:
    return values.cast(pl.Float64, strict=False)


def _date(values: pl.Series) -> pl.Series:
    return iso_times(values).cast(MILLISECOND)


def _ruled(frame: pl.DataFrame, name: str, sources: list[SourceFile]) -> Items:
    columns, rules = [pl.col(ITEM_ID)], {}
    for values in frame:
        if values.name == ITEM_ID:
            continue
        column, rule = _rule(values, name)
        columns.append(column.alias(values.name))
        if rule is not None:
            rules[values.name] = rule
    return Items(frame.select(columns), rules, sources)


def _rule(values: pl.Series, name: str) -> tuple[pl.Expr, AttributeRule | None]:
    column, dtype = pl.col(values.name), values.dtype
    if values.name == TITLE and (dtype.is_nested() or dtype == pl.Binary):
        raise MfganError(f"prepare: {name} must have text in column {TITLE!r}, got {dtype}")
    if values.name.lower() in _FOR_PEOPLE:
        return column, None
    if dtype == pl.Boolean:
        return column.cast(pl.String), CATEGORICAL
    if isinstance(dtype, pl.Date | pl.Datetime):
        return column.dt.year(), AttributeRule("categorical", note="year of the date")
    if dtype.is_numeric():
        return column, _numeric_rule(values)
    if isinstance(dtype, pl.List | pl.Array):
        return _list_rule(values, name)
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return _text_rule(values.cast(pl.String))
    return column, None


def _numeric_rule(values: pl.Series) -> AttributeRule:
    if values.dtype.is_integer() and values.n_unique() <= _FEW:
        return CATEGORICAL
    known = np.sort(values.cast(pl.Float64).fill_nan(None).drop_nulls().to_numpy())
    found = {float(known[len(known) * place // _BINS]) for place in range(1, _BINS) if len(known)}
    edges = sorted(edge for edge in found if edge > known[0])
    texts = edge_texts(edges)
    labels = [f"under {texts[0]}" if texts else "any"]
    labels += [f"{low} to {high}" for low, high in pairwise(texts)]
    labels += [f"{texts[-1]} and over"] if texts else []
    return AttributeRule("binned", tuple(edges), tuple(labels), "tenths of the values")


def _list_rule(values: pl.Series, name: str) -> tuple[pl.Expr, AttributeRule | None]:
    column = pl.col(values.name)
    inner = values.dtype.inner  # type: ignore[attr-defined]
    if inner in (pl.String, pl.Categorical, pl.Enum):
        lists = column.arr.to_list() if isinstance(values.dtype, pl.Array) else column
        return lists.cast(pl.List(pl.String)), MULTI
    if not inner.is_float():
        return column, MULTI if inner.is_integer() else None
    if isinstance(values.dtype, pl.Array):
        return column.cast(pl.Array(pl.Float32, values.dtype.size)), AttributeRule("dense")
    widths = values.list.len().drop_nulls().unique().sort().to_list()
    if len(widths) != 1 or widths[0] == 0:
        raise MfganError(
            f"prepare: {name} must have vectors of one width in column {values.name!r}, "
            f"got widths {', '.join(map(str, widths[:5]))}"
        )
    if not values.list.eval(pl.element().is_finite().fill_null(False)).list.all().all():
        raise MfganError(
            f"prepare: {name} must have finite numbers in column {values.name!r}, got NaN or null"
        )
    return column.cast(pl.List(pl.Float32)).list.to_array(widths[0]), AttributeRule("dense")


def _text_rule(values: pl.Series) -> tuple[pl.Expr, AttributeRule | None]:
    column = pl.col(values.name).cast(pl.String)
    known = values.filter(values.is_not_null() & (values != ""))
    if known.str.contains("|", literal=True).any():
        return split_labels(values.name, "|"), MULTI
    if len(known) > 1 and known.n_unique() == len(known):
        return column, None  # a name of its own for each item tells nothing that the id does not
    return pl.when(column != "").then(column), CATEGORICAL
