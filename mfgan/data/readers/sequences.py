"""Sequences of items as text, whitespace between ids, in one of three layouts.

``pairs``: ``user item`` a line, chronological (SASRec); ``users``: ``user item item …`` a line
(S3-Rec); ``sessions``: ``item item …`` a line, each line a user of its own. Without a choice, the
layout is ``pairs`` where nine lines in ten have two fields and a first field comes twice, else
``users`` where no first field comes twice, else ``sessions``.
"""

from pathlib import Path

import numpy as np
import polars as pl

from mfgan.data.columns import ITEM_ID, USER_ID
from mfgan.data.readers.bad_lines import BadLines
from mfgan.data.readers.cells import ids
from mfgan.data.readers.item_table import attribute_lists
from mfgan.data.readers.items import Items, assemble
from mfgan.data.readers.raw_log import RawLog, Request
from mfgan.data.readers.sources import account, find, find_log, read_bytes
from mfgan.errors import MfganError

_FIELDS = "fields"
_NUMBER = "number"
_MOSTLY = 0.9
_SHAPES = {"pairs": "user item", "users": "user item item …", "sessions": "item item …"}


def read(request: Request) -> RawLog:
    """Read a file of sequences, and S3-Rec's attributes where they lie beside it.

    Raises:
        MfganError: See :func:`mfgan.data.readers.read_log`.
    """
    path = find_log(request.format, request.source, "sequences.txt")
    lines = _lines(path)
    layout = request.format.partition(":")[2] or _layout(lines, request)
    bad = BadLines(path.name, request)
    log = _interactions(lines, layout, bad)
    source = account(path, log.height, bad.settle())
    built_in = _attributes(path, request) if request.items is None else None
    return assemble(log, built_in, request, [source])


def _lines(path: Path) -> pl.DataFrame:
    """The fields of each line that is not blank, and its number."""
    try:
        lines = pl.read_csv(
            read_bytes(path),
            has_header=False,
            separator="\x01",
            quote_char=None,
            schema={_FIELDS: pl.String},
        )
    except pl.exceptions.NoDataError:
        lines = pl.DataFrame(schema={_FIELDS: pl.String})
    except pl.exceptions.PolarsError as error:
        reason = str(error).split("\n", 1)[0]
        raise MfganError(f"prepare: {path.name} must be lines of ids, got: {reason}") from None
    numbers = np.arange(1, lines.height + 1)
    lines = lines.with_columns(
        pl.col(_FIELDS).str.extract_all(r"\S+"), pl.Series(_NUMBER, numbers)
    ).filter(pl.col(_FIELDS).list.len() > 0)
    if lines.height == 0:
        raise MfganError(f"prepare: {path.name} must hold interactions, found none")
    return lines


def _layout(lines: pl.DataFrame, request: Request) -> str:
    first = lines[_FIELDS].list.first()
    two = float((lines[_FIELDS].list.len() == 2).sum()) / lines.height
    distinct = first.n_unique() == lines.height
    layout = "users" if distinct else "sessions"
    if two >= _MOSTLY and not distinct:
        layout = "pairs"
    request.reporter.note(
        f"each line is read as '{_SHAPES[layout]}'; --format sequences:LAYOUT says otherwise"
    )
    return layout


def _interactions(lines: pl.DataFrame, layout: str, bad: BadLines) -> pl.DataFrame:
    count = pl.col(_FIELDS).list.len()
    sound = {"pairs": count == 2, "users": count >= 2, "sessions": count >= 1}[layout]
    wrong = lines.filter(~sound)
    if wrong.height:
        fields = wrong[_FIELDS].list.len()
        named = zip(wrong[_NUMBER].head(3), fields.head(3), strict=True)
        rule = f"must be '{_SHAPES[layout]}'"
        bad.add(
            [(number, f"{rule}, got {of} field{'s' if of > 1 else ''}") for number, of in named],
            wrong.height,
        )
    lines = lines.filter(sound)
    items = pl.col(_FIELDS) if layout == "sessions" else pl.col(_FIELDS).list.slice(1)
    user = pl.col(_NUMBER) if layout == "sessions" else pl.col(_FIELDS).list.first()
    log = lines.select(user.alias(USER_ID), items.alias(ITEM_ID)).explode(ITEM_ID)
    return log.with_columns(ids(log[USER_ID]), ids(log[ITEM_ID]))


def _attributes(path: Path, request: Request) -> Items | None:
    stem = path.name.split(".")[0]
    found = find(path.parent, f"{stem}_item2attributes.json")
    return attribute_lists(found, request) if found is not None else None
