"""Any table: CSV, TSV, Parquet or NDJSON, packed or not, here or at a remote address."""

import glob
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from mfgan.data.readers.bad_lines import BadLines
from mfgan.data.readers.delimited import Layout
from mfgan.data.readers.interactions import EXPECTED, clean
from mfgan.data.readers.items import assemble
from mfgan.data.readers.plan import planned
from mfgan.data.readers.raw_log import RawLog, Request, SourceFile
from mfgan.data.readers.sources import (
    account,
    existing,
    existing_file,
    is_remote,
    line_chunks,
    open_stream,
    plain_suffix,
    read_bytes,
)
from mfgan.data.readers.text_log import Log, item_text, renaming, resolve, text_log
from mfgan.errors import MfganError

_TEXT = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": "\t"}
_PARQUET = (".parquet", ".pq")
_NDJSON = (".ndjson", ".jsonl", ".json")
_SEPARATORS = ",\t;|"


def read(request: Request) -> RawLog:
    """Read one table of interactions.

    Raises:
        MfganError: See :func:`mfgan.data.readers.read_log`.
    """
    log, sources = table_log(request, request.source, {})
    return assemble(log, None, request, sources)


def table_log(
    request: Request, source: str, known: Mapping[str, str]
) -> tuple[Log, list[SourceFile]]:
    """Interactions of a table.

    Args:
        request: Maps columns and limits how many records may be left out.
        source: A file, a folder or pattern of Parquet files, or an address.
        known: What the format calls our columns.

    Returns:
        The columns that ``RawLog.interactions`` describes, maybe no rows, or a plan of them; and
        the files' account.

    Raises:
        MfganError: See :func:`mfgan.data.readers.read_log`.
    """
    kind = table_kind(source)
    if is_remote(source):
        return _scanned(request, _remote(kind, source), source, known, [])
    if kind == "parquet":
        files = _parquet_files(source)
        scan = _frame_of(source, lambda: pl.scan_parquet(files, glob=False))
        return _scanned(request, scan, Path(source).name, known, files)
    path = existing_file(source)
    if kind == "ndjson":
        return _ndjson(request, path, known)
    frame, account_of = text_log(path, text_layout(path), request, known=known)
    return frame, [account_of]


def table_kind(source: str) -> str:
    """``text``, ``parquet`` or ``ndjson``, by the suffix of a name.

    Raises:
        MfganError: The suffix is none of theirs.
    """
    suffix = plain_suffix(source.split("?")[0])
    if suffix in _TEXT:
        return "text"
    if suffix in _PARQUET or (not is_remote(source) and Path(source).is_dir()):
        return "parquet"
    if suffix in _NDJSON:
        return "ndjson"
    if not is_remote(source):
        existing(source)
    raise MfganError(
        f"prepare: a table must end in .csv, .tsv, .txt, .parquet, .ndjson or .jsonl "
        f"(.gz and .zst behind it are fine), got {source}"
    )


def text_layout(path: Path) -> Layout:
    """How a text table is laid out.

    The separator is the commonest of comma, tab, ``;`` and ``|`` in the header line; the suffix
    decides between equals.
    """
    try:
        with open_stream(path) as stream:
            head = bytes(stream.read(1 << 16)).split(b"\n", 1)[0]
    except OSError:
        head = b""  # the reading proper names what is wrong
    own = _TEXT.get(plain_suffix(path), ",")
    best = max(_SEPARATORS, key=lambda mark: (head.count(mark.encode()), mark == own))
    return Layout(best)


def whole_table(request: Request, source: str) -> tuple[pl.DataFrame, list[SourceFile]]:
    """Every column of a table of any kind; those of a text are text.

    Raises:
        MfganError: It is missing or cannot be read.
    """
    if table_kind(source) == "text" and not is_remote(source):
        path = existing_file(source)
        frame, account_of = item_text(path, text_layout(path), request)
        return frame, [account_of]
    return read_frame(source)


def read_frame(source: str) -> tuple[pl.DataFrame, list[SourceFile]]:
    """A whole Parquet or NDJSON table, or a remote one of any kind, with its types.

    Raises:
        MfganError: It is missing or cannot be read.
    """
    kind = table_kind(source)
    if is_remote(source):
        frame = _frame_of(source, lambda: _remote(kind, source).collect())
        return frame, [SourceFile(source, None, None, frame.height)]
    if kind == "parquet":
        files = _parquet_files(source)
        frame = _frame_of(source, lambda: pl.scan_parquet(files, glob=False).collect())
        return frame, _accounts(source, files, frame.height, 0)
    path = existing_file(source)
    data = read_bytes(path)
    frame = _frame_of(path.name, lambda: pl.read_ndjson(data, infer_schema_length=None))
    return frame, [account(path, frame.height)]


def _parquet_files(source: str) -> list[Path]:
    if any(mark in source for mark in "*?[") and not Path(source).exists():
        parent = Path(source).parent
        files = sorted(existing(parent).glob(Path(source).name))
    elif Path(source).is_dir():
        files = sorted(path for suffix in _PARQUET for path in Path(source).rglob(f"*{suffix}"))
    else:
        files = [existing_file(source)]
    if not files:
        raise MfganError(f"prepare: {source} must name Parquet files, found none")
    for path in files:
        str(path).encode()  # Polars takes no name that is not text
    return files


def _remote(kind: str, source: str) -> pl.LazyFrame:
    if kind == "parquet":
        return pl.scan_parquet(source)
    if kind == "ndjson":
        return _records(source)
    separator = _TEXT[plain_suffix(source.split("?")[0])]
    return pl.scan_csv(source, separator=separator, infer_schema_length=0)


def _records(source: str) -> pl.LazyFrame:
    # All of them tell the columns, since one may begin late.
    return pl.scan_ndjson(source, infer_schema_length=None)


def _scanned(
    request: Request,
    scan: pl.LazyFrame,
    name: str,
    known: Mapping[str, str],
    files: Sequence[Path],
) -> tuple[Log, list[SourceFile]]:
    available = _frame_of(name, lambda: scan.collect_schema().names())
    columns = resolve(name, available, request, known)
    scan = scan.select(renaming(columns))
    plan = planned(scan, request)
    if plan is not None:
        return plan, _accounts(name, files, None, 0)
    bad = BadLines(name, request, "row")
    frame = clean(_frame_of(name, scan.collect), bad)
    return frame, _accounts(name, files, frame.height, bad.settle())


def _accounts(
    name: str, files: Sequence[Path], rows: int | None, bad_lines: int
) -> list[SourceFile]:
    if not files:
        return [SourceFile(name, None, None, rows, bad_lines)]
    if len(files) == 1:
        return [account(files[0], rows, bad_lines)]
    return [account(path, pq.read_metadata(path).num_rows) for path in files]


def _frame_of(name: str, work: Any) -> Any:
    try:
        return work()
    except (pl.exceptions.PolarsError, OSError) as error:
        line = str(error).strip().split("\n", 1)[0][:200]
        raise MfganError(f"prepare: {name} must be a table that can be read, got: {line}") from None


def _ndjson(
    request: Request, path: Path, known: Mapping[str, str]
) -> tuple[pl.DataFrame, list[SourceFile]]:
    bad = BadLines(path.name, request)
    try:
        # Polars takes marks in a name for a pattern.
        scan = _records(glob.escape(str(path)))
        columns = resolve(path.name, scan.collect_schema().names(), request, known)
        raw = scan.select(renaming(columns)).collect()
    except (pl.exceptions.PolarsError, OSError):
        pass
    else:
        trial = BadLines(path.name, request)
        frame = clean(raw, trial)
        if trial.count == 0:
            return frame, [account(path, frame.height)]
    raw, numbers = _ndjson_by_line(request, path, known, bad)
    frame = clean(raw, bad, numbers)
    return frame, [account(path, frame.height, bad.settle())]


def _ndjson_by_line(
    request: Request, path: Path, known: Mapping[str, str], bad: BadLines
) -> tuple[pl.DataFrame, np.ndarray]:
    """Slow, for files that Polars cannot read whole: it can tell which line is to blame."""
    records: list[dict[str, Any]] = []
    numbers: list[int] = []
    number = 0
    for chunk in line_chunks(path):
        for line in chunk.splitlines():
            number += 1
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                bad.add([(number, str(error))])
                continue
            if isinstance(record, dict):
                records.append(record)
                numbers.append(number)
            else:
                bad.add([(number, f"must be an object, got {str(record)[:40]}")])
    if not records:
        bad.settle()
        raise MfganError(f"prepare: {path.name} must hold interactions, found none")
    available = list(dict.fromkeys(name for record in records for name in record))
    columns = resolve(path.name, available, request, known)
    rows = [{ours: record.get(theirs) for ours, theirs in columns.items()} for record in records]
    nested = {
        number: why for number, row in zip(numbers, rows, strict=True) if (why := _nested(row))
    }
    bad.add(nested.items())
    rows = [row for number, row in zip(numbers, rows, strict=True) if number not in nested]
    frame = pl.DataFrame({ours: _series(ours, [row[ours] for row in rows]) for ours in columns})
    return frame, np.array([number for number in numbers if number not in nested])


def _nested(row: Mapping[str, Any]) -> str:
    """Why a record with a list or an object where one value must be is none; else empty."""
    for name, rule in EXPECTED.items():
        if isinstance(value := row.get(name), list | dict):
            return f"{name} {rule}, got {str(value)[:60]}"
    return ""


def _series(name: str, values: list[Any]) -> pl.Series:
    try:
        return pl.Series(name, values, strict=True)
    except (TypeError, pl.exceptions.PolarsError):
        # Numbers and text in one column: text is what can hold both.
        return pl.Series(name, [None if value is None else str(value) for value in values])
