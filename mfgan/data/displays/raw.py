"""What every reader of displays returns, and the checks that all of them share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from mfgan.data.columns import (
    CLICK,
    DISPLAY_ID,
    ITEM_ID,
    ORDER,
    ROW,
    SPLIT,
    TIMESTAMP,
    USER_ID,
)
from mfgan.data.readers.cells import timestamps
from mfgan.errors import MfganError

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class RawDisplays:
    """Displays as a source states them, one row an item that was shown.

    Args:
        rows: ``user_id``, ``display_id``, ``item_id`` of any integer or string type, ``click``
            Int64, ``row`` Int64; optional ``order`` or ``timestamp`` Int64, ``split`` Int64 (0
            train, 1 validation, 2 test), ``position`` Int64, ``propensity`` Float64.
        name: The source's name, for messages.
        sources: Each file's name, size and sha256.
        several_clicks: The format allows several clicks in one display.
        rules: What the reader decided, for the manifest.
    """

    rows: pl.DataFrame
    name: str
    sources: list[dict[str, Any]]
    several_clicks: bool = False
    rules: Mapping[str, Any] = field(default_factory=dict)


def source_entry(path: Path) -> dict[str, Any]:
    """A file's entry in the manifest."""
    from mfgan.files import sha256_of

    return {"path": path.name, "sha256": sha256_of(path), "bytes": path.stat().st_size}


def read_delimited(path: Path, *, separator: str, has_header: bool = True) -> pl.DataFrame:
    """Read a delimited file as strings, with the line of each record.

    Raises:
        MfganError: It is missing, empty or no table.
    """
    try:
        frame = pl.read_csv(
            path,
            separator=separator,
            has_header=has_header,
            infer_schema=False,
            quote_char='"' if separator == "," else None,
        )
    except FileNotFoundError:
        raise MfganError(f"{path}: must exist, found nothing") from None
    except pl.exceptions.NoDataError:
        raise MfganError(f"{path}: must have rows, found none") from None
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise MfganError(f"{path}: must be a table of equal rows, got {reason}") from None
    if frame.height == 0:
        raise MfganError(f"{path}: must have rows, found none")
    return frame.with_row_index(ROW, 2 if has_header else 1).with_columns(
        pl.col(ROW).cast(pl.Int64)
    )


def rename(frame: pl.DataFrame, names: Mapping[str, str], where: str) -> pl.DataFrame:
    """Keep and rename columns, ours by theirs.

    Raises:
        MfganError: One is missing; the message names those there are.
    """
    missing = [theirs for theirs in names.values() if theirs not in frame.columns]
    if missing:
        there = ", ".join(name for name in frame.columns if name != ROW)
        raise MfganError(f"{where}: must have the column {missing[0]!r}, got {there}")
    return frame.select(ROW, *(pl.col(theirs).alias(ours) for ours, theirs in names.items()))


def integers(frame: pl.DataFrame, names: list[str], where: str) -> pl.DataFrame:
    """Turn text columns into integers.

    Raises:
        MfganError: A value is no integer; the message names its row.
    """
    for name in names:
        if frame[name].dtype.is_integer():
            continue
        cast = frame[name].cast(pl.Int64, strict=False)
        bad = frame.filter(cast.is_null() & frame[name].is_not_null())
        if bad.height:
            raise MfganError(
                f"{where}: row {bad[ROW][0]:,}: {name} must be an integer, got {bad[name][0]!r}"
            )
        frame = frame.with_columns(cast.alias(name))
    return frame


def times(frame: pl.DataFrame, where: str) -> pl.DataFrame:
    """Turn timestamps, where there are any, into milliseconds.

    Raises:
        MfganError: A value is no time; the message names its row.
    """
    if TIMESTAMP not in frame.columns:
        return frame
    found = timestamps(frame[TIMESTAMP])
    bad = frame.filter(found.is_null() & frame[TIMESTAMP].is_not_null())
    if bad.height:
        got = bad[TIMESTAMP][0]
        raise MfganError(
            f"{where}: row {bad[ROW][0]:,}: {TIMESTAMP} must be a number or an ISO date, "
            f"got {got!r}"
        )
    return frame.with_columns(found)


def check(raw: RawDisplays, *, clicks: str, drop_bad: bool) -> tuple[pl.DataFrame, dict[str, int]]:
    """Hold the rows against the rules of a display.

    Args:
        raw: What a reader returned.
        clicks: ``one`` click a display, or ``split`` one with several into several events.
        drop_bad: Leave out displays that break a rule instead of raising.

    Returns:
        The rows, one an item of a display, and the number of displays left out by rule.

    Raises:
        MfganError: A rule is broken; the message names the row.
    """
    rows, dropped = raw.rows, {}
    display = [USER_ID, DISPLAY_ID]
    for rule, bad in _broken(rows, raw, clicks):
        if not bad.height:
            continue
        if not drop_bad:
            first = bad.sort(ROW).row(0, named=True)
            raise MfganError(f"{raw.name}: row {first[ROW]:,}: {_message(rule, first)}")
        keys = bad.select(display).unique()
        rows = rows.join(keys, on=display, how="anti", nulls_equal=True)
        dropped[rule] = keys.height
    if rows.height == 0:
        raise MfganError(f"{raw.name}: must have displays, found none")
    return rows, dropped


_RULES = {
    "no-display": "a row must name its user and display",
    "no-items": "display {display_id} of user {user_id} must have items, found none",
    "click-value": "click must be 0 or 1, got {click}",
    "split-tag": "the split tag must be 0 (train), 1 (validation) or 2 (test), got {split}",
    "split-mixed": "user {user_id} must be in one part, has another split tag before",
    "not-shown": "the click of display {display_id} must be on an item shown in it, got {clicked}",
    "second-click": (
        "display {display_id} of user {user_id} has a second click, on item {item_id}; one is"
        " allowed unless --clicks split"
    ),
}


def _message(rule: str, row: dict[str, Any]) -> str:
    return _RULES[rule].format(**row)


NOT_SHOWN = "clicked"  # a reader's column: the clicked item where the display lacks it


def _broken(rows: pl.DataFrame, raw: RawDisplays, clicks: str) -> list[tuple[str, pl.DataFrame]]:
    """Each rule with the rows that break it."""
    no_key = pl.col(USER_ID).is_null() | pl.col(DISPLAY_ID).is_null()
    found = [("no-display", rows.filter(no_key))]
    if NOT_SHOWN in rows.columns:
        found.append(("not-shown", rows.filter(pl.col(NOT_SHOWN).is_not_null())))
    found.append(("no-items", rows.filter(pl.col(ITEM_ID).is_null())))
    wrong = ~pl.col(CLICK).is_in([0, 1]) | pl.col(CLICK).is_null()
    found.append(("click-value", rows.filter(wrong)))
    if SPLIT in rows.columns:
        known = pl.col(SPLIT).is_in([0, 1, 2]).fill_null(False)
        found.append(("split-tag", rows.filter(~known)))
        first = pl.col(SPLIT).sort_by(ROW).first().over(USER_ID)
        found.append(("split-mixed", rows.filter(pl.col(SPLIT) != first)))
    if clicks == "one" and not raw.several_clicks:
        clicked = rows.filter(pl.col(CLICK) == 1).sort(ROW)
        clicked = clicked.unique([USER_ID, DISPLAY_ID, ITEM_ID], keep="first", maintain_order=True)
        later = pl.int_range(pl.len()).over(USER_ID, DISPLAY_ID) > 0
        found.append(("second-click", clicked.filter(later)))
    return found


def order_column(rows: pl.DataFrame) -> str | None:
    """The column that a user's displays are sorted by; None leaves the order of the rows."""
    return next((name for name in (ORDER, TIMESTAMP) if name in rows.columns), None)
