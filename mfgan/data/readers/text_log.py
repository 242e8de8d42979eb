"""Interactions out of one delimited text: columns found, records checked, files accounted."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from mfgan.data.columns import ITEM_ID, USER_ID
from mfgan.data.readers.bad_lines import BadLines
from mfgan.data.readers.delimited import (
    Layout,
    Source,
    header,
    read_sound,
    read_strict,
    scanned,
)
from mfgan.data.readers.interactions import LOG_COLUMNS, clean
from mfgan.data.readers.plan import planned
from mfgan.data.readers.raw_log import Request, SourceFile
from mfgan.data.readers.sources import account, codec, decoded, read_bytes
from mfgan.errors import MfganError, nearest

Log = pl.DataFrame | pl.LazyFrame


def resolve(
    name: str, available: Sequence[str], request: Request, known: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Which column of a source is which of ours.

    Args:
        name: The source's name, for errors.
        available: Its columns.
        request: Its ``columns`` (ours to the source's) come first.
        known: What the format calls our columns.

    Returns:
        Ours to the source's, of the columns that are there.

    Raises:
        MfganError: ``columns`` names a column of ours that there is none of, or one that the source
            lacks, or a column that every log must have is not there.
    """
    for ours in request.columns:
        if ours not in LOG_COLUMNS:
            raise MfganError(
                f"prepare: a column must be mapped to one of {', '.join(LOG_COLUMNS)}, got {ours!r}"
                f"{nearest(ours, list(LOG_COLUMNS))}"
            )
    found = {}
    for ours in LOG_COLUMNS:
        theirs = request.columns.get(ours) or (known or {}).get(ours, ours)
        if theirs in available:
            found[ours] = theirs
        elif ours in request.columns or ours in (USER_ID, ITEM_ID):
            raise MfganError(_absent(name, ours, theirs, available))
    return found


def need(name: str, available: Sequence[str], *columns: str) -> None:
    """See that a file has the columns that its format demands.

    Raises:
        MfganError: One is absent.
    """
    for column in columns:
        if column not in available:
            shown = ", ".join(available[:12])
            raise MfganError(
                f"prepare: {name} must have a column {column!r}, got {shown}"
                f"{nearest(column, list(available))}"
            )


def _absent(name: str, ours: str, theirs: str, available: Sequence[str]) -> str:
    shown = ", ".join(available[:12]) + (", …" if len(available) > 12 else "")
    line = f"prepare: {name} must have a column {theirs!r}, got {shown}"
    close = nearest(theirs, list(available))
    if close:
        return f"{line}{close}"
    return f"{line}; name the right one with --columns {ours}=NAME"


def text_log(
    path: Path,
    layout: Layout,
    request: Request,
    *,
    known: Mapping[str, str] | None = None,
    text: bytes | None = None,
) -> tuple[Log, SourceFile]:
    """Interactions of one delimited file.

    Args:
        path: The file.
        layout: How it is laid out.
        request: Maps columns, and limits how many records may be left out.
        known: What the format calls our columns.
        text: The file's contents where they had to be changed before they are read.

    Returns:
        The columns that ``RawLog.interactions`` describes, maybe no rows, or a plan of them where
        that is wanted and the file is not packed; and the file's account.

    Raises:
        MfganError: A column is absent, too many records are bad, the file is no text or damaged.
    """
    source: Source = path if text is None else text
    bad = BadLines(path.name, request)
    columns = resolve(path.name, header(source, layout, path.name), request, known)
    if isinstance(source, Path) and codec(source) is None:
        plan = planned(scanned(source, layout).select(renaming(columns)), request)
        if plan is not None:
            return plan, account(path, None)
    frame = _interactions(source, layout, columns, bad)
    return frame, account(path, frame.height, bad.settle())


def item_text(
    path: Path, layout: Layout, request: Request, *, separator: bytes = b""
) -> tuple[pl.DataFrame, SourceFile]:
    """Every column, as text, of a delimited file about items, UTF-8 or Latin-1.

    Args:
        path: The file.
        layout: How it is laid out.
        request: Limits how many records may be left out.
        separator: What separates fields in the file where that is more than one character.

    Raises:
        MfganError: Too many records are bad, the file is no text or damaged.
    """
    text, bad = decoded(read_bytes(path)), BadLines(path.name, request)
    if separator:
        text = text.replace(separator, layout.separator.encode())
    # One without a name is what a table's index, or a comma too many, leaves behind.
    named = [name for name in header(text, layout, path.name) if name]
    frame, _ = read_strict(text, layout, named, bad)
    return frame, account(path, frame.height, bad.settle())


def _interactions(
    source: Source, layout: Layout, columns: Mapping[str, str], bad: BadLines
) -> pl.DataFrame:
    wanted = list(dict.fromkeys(columns.values()))
    frame = read_sound(source, layout, wanted)
    if frame is not None:
        trial = BadLines(bad.name, bad.request)
        cleaned = clean(frame.select(renaming(columns)), trial)
        if trial.count == 0:
            return cleaned
    frame, numbers = read_strict(source, layout, wanted, bad)
    return clean(frame.select(renaming(columns)), bad, numbers)


def renaming(columns: Mapping[str, str]) -> list[pl.Expr]:
    """The columns under our names; one of the source's may serve as two of ours."""
    return [pl.col(theirs).alias(ours) for ours, theirs in columns.items()]
