"""Readers: any supported source becomes one :class:`RawLog`."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, TypeVar

from mfgan.console import SILENT, Reporter
from mfgan.data.readers.raw_log import AttributeRule, RawLog, Request, SourceFile
from mfgan.errors import MfganError, nearest

if TYPE_CHECKING:
    import polars as pl

__all__ = ["FORMATS", "AttributeRule", "RawLog", "SourceFile", "consume", "read_log"]

Result = TypeVar("Result")

_READERS = {
    "ml-100k": "movielens_100k",
    "ml-1m": "movielens_1m",
    "movielens-csv": "movielens_csv",
    "steam": "steam",
    "retailrocket": "retailrocket",
    "sequences": "sequences",
    "sequences:pairs": "sequences",
    "sequences:users": "sequences",
    "sequences:sessions": "sequences",
    "table": "table",
}
FORMATS: tuple[str, ...] = tuple(_READERS)


def read_log(
    source: str,
    *,
    format: str,
    items: str | None = None,
    columns: Mapping[str, str] | None = None,
    max_bad_lines: int = 0,
    lazy: bool = False,
    reporter: Reporter = SILENT,
) -> RawLog:
    """Read a log and, where there is one, its item table.

    Args:
        source: A file, a folder, or for ``table`` also an ``s3://``, ``gs://``, ``hf://`` or
            ``https://`` address.
        format: One of ``FORMATS``; ``docs/formats.md`` describes each.
        items: A table of attributes to join by item id, or S3-Rec's attribute JSON.
        columns: For formats with column names, ours to the source's: ``{"user_id": "visitor"}``.
        max_bad_lines: How many records that cannot be read are left out before it is an error.
        lazy: Return a plan, to be run by :func:`consume`, where the source allows one.
        reporter: Where progress is shown.

    Returns:
        The log; see :class:`RawLog`.

    Raises:
        MfganError: The source is missing, truncated, empty, of another format or lacks a column, or
            more than ``max_bad_lines`` records are bad.

    Example:
        >>> import tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "log.csv"
        >>> _ = path.write_text("user_id,item_id\\nann,7\\nann,9\\n")
        >>> read_log(str(path), format="table").interactions.collect().height
        2
    """
    if format not in _READERS:
        raise MfganError(
            f"prepare: --format must be one of {', '.join(FORMATS)}, got {format!r}"
            f"{nearest(format, list(FORMATS))}"
        )
    if max_bad_lines < 0:
        raise MfganError(f"prepare: --max-bad-lines must be 0 or more, got {max_bad_lines}")
    request = Request(source, format, items, dict(columns or {}), max_bad_lines, reporter)
    return _read(replace(request, again=partial(_read, request)) if lazy else request)


def consume(log: RawLog, work: Callable[["pl.LazyFrame"], Result]) -> tuple[RawLog, Result]:
    """Run ``work`` over the interactions of a log that may be only a plan.

    Args:
        log: From :func:`read_log`.
        work: Takes the interactions, and raises ``MfganError`` where a null or an error of Polars
            keeps it from using them.

    Returns:
        The log that was read in the end, and what ``work`` made of it.

    Raises:
        MfganError: Too many records are bad, or ``work`` fails on a checked log.
    """
    try:
        return log, work(log.interactions)
    except MfganError:
        if log.reread is None:
            raise
    log = log.reread()
    return log, work(log.interactions)


def _read(request: Request) -> RawLog:
    reader = import_module(f"mfgan.data.readers.{_READERS[request.format]}")
    log: RawLog = reader.read(request)
    return log
