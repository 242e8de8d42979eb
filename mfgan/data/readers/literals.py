"""Lines of Python dictionaries, as the Steam dumps are made of, read into columns.

``mfgan._native`` reads them; where it is not built, ``ast.literal_eval`` does, some hundred times
slower. Neither evaluates anything.
"""

import ast
import importlib
import warnings
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pyarrow as pa

from mfgan.console import Reporter
from mfgan.data.readers.bad_lines import BadLines
from mfgan.data.readers.sources import line_chunks

Kind = Literal["text", "number", "texts"]
Fields = Mapping[str, tuple[str, Kind]]
_DTYPES: dict[Kind, pl.DataType] = {
    "text": pl.String(),
    "number": pl.Float64(),
    "texts": pl.List(pl.String),
}
_NAMED = 3
_WORKERS = 2  # one unpacks while these parse; unpacking is the slower from two on


@dataclass(frozen=True)
class Parsed:
    """The records of one piece of text.

    Args:
        frame: A column a field: String, Float64 or List(String).
        lines: ``(rows,)`` int64 line number of each record in the piece, from 1.
        line_count: Lines in the piece, blank ones too.
        bad: Line number and reason of the first lines that are no record.
        bad_count: How many of those there are.
    """

    frame: pl.DataFrame
    lines: np.ndarray
    line_count: int
    bad: list[tuple[int, str]]
    bad_count: int


def native() -> Any:
    """The compiled parser's module, or ``None`` where it is not built."""
    try:
        return importlib.import_module("mfgan._native")
    except ImportError:
        return None


def parse(text: bytes, fields: Fields) -> Parsed:
    """Read lines of Python dictionaries.

    Args:
        text: Whole lines, UTF-8.
        fields: For each column the key and what it must be: ``text`` a string; ``number`` an int,
            float or bool; ``texts`` the strings of a list or tuple, or one string. Any other value,
            and an absent key, is null.

    Returns:
        The records; lines that are no dictionary are counted.
    """
    compiled = native()
    if compiled is None:
        return parse_slowly(text, fields)
    found = compiled.parse_literals(text, list(fields.values()))
    columns = zip(fields.items(), found["columns"], strict=True)
    frame = pl.DataFrame(
        {name: _series(column, kind, len(found["lines"])) for (name, (_, kind)), column in columns}
    )
    return Parsed(frame, found["lines"], found["line_count"], found["bad"], found["bad_count"])


def _series(column: dict[str, np.ndarray], kind: Kind, rows: int) -> pl.Series:
    valid = pa.py_buffer(np.packbits(column["valid"], bitorder="little"))
    if kind == "number":
        numbers = [valid, pa.py_buffer(column["numbers"])]
        return pl.Series(pl.from_arrow(pa.Array.from_buffers(pa.float64(), rows, numbers)))
    views, content = pa.py_buffer(column["views"]), pa.py_buffer(column["bytes"])
    if kind == "text":
        buffers = [valid, views, content]
        return pl.Series(pl.from_arrow(pa.Array.from_buffers(pa.string_view(), rows, buffers)))
    count = len(column["views"]) // 4
    texts = pa.Array.from_buffers(pa.string_view(), count, [None, views, content])
    dtype = pa.large_list(pa.string_view())
    lists = [valid, pa.py_buffer(column["list_starts"])]
    return pl.Series(pl.from_arrow(pa.Array.from_buffers(dtype, rows, lists, children=[texts])))


def parse_slowly(text: bytes, fields: Fields) -> Parsed:
    """What ``parse`` does, line by line in Python; for where nothing is compiled, and for tests."""
    cells: dict[str, list[Any]] = {name: [] for name in fields}
    lines: list[int] = []
    bad: list[tuple[int, str]] = []
    all_lines = text.split(b"\n")
    if all_lines[-1] == b"":
        all_lines.pop()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns of escapes that it does not know
        for number, line in enumerate(all_lines, 1):
            if not line.strip(b" \t\f\r"):
                continue
            try:
                record = ast.literal_eval(line.decode("utf-8"))
                if not isinstance(record, dict):
                    raise ValueError("expected a dictionary")
            except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
                bad.append((number, str(error).split("\n", 1)[0]))
                continue
            lines.append(number)
            for name, (key, kind) in fields.items():
                cells[name].append(_cell(record.get(key), kind))
    frame = pl.DataFrame(
        {name: pl.Series(values, dtype=_DTYPES[fields[name][1]]) for name, values in cells.items()}
    )
    return Parsed(frame, np.array(lines, np.int64), len(all_lines), bad[:_NAMED], len(bad))


def _cell(value: Any, kind: Kind) -> Any:
    if kind == "number":
        if not isinstance(value, (int, float)):
            return None
        try:
            return float(value)
        except OverflowError:
            return float("inf") if value > 0 else float("-inf")
    if isinstance(value, str):
        return _unicode(value) if kind == "text" else [_unicode(value)]
    if kind == "texts" and isinstance(value, (list, tuple)):
        return [_unicode(element) for element in value if isinstance(element, str)]
    return None


def _unicode(value: str) -> str:
    """Pairs of surrogates joined, single ones replaced, so that it can be UTF-8."""
    if value.isascii():
        return value
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def read_literals(
    path: Path, fields: Fields, bad: BadLines, reporter: Reporter
) -> tuple[pl.DataFrame, np.ndarray]:
    """Read a file of Python dictionaries, unpacking and parsing at the same time.

    Args:
        path: The file; ``.gz`` and ``.zst`` are unpacked.
        fields: As ``parse`` takes them.
        bad: Takes the lines that are no record; once there are too many, reading stops.
        reporter: Where progress is shown.

    Returns:
        The records, and the line number of each, ``(rows,)`` int64.

    Raises:
        MfganError: Too many lines are no record, or the file is missing or damaged.
    """
    frames, numbers, line = [], [np.zeros(0, np.int64)], 0
    empty = {name: _DTYPES[kind] for name, (_, kind) in fields.items()}
    if native() is None:
        reporter.note(f"mfgan._native is not built: {path.name} is read by Python, slowly")
    for parsed in _in_parallel(path, fields):
        bad.add([(line + at, reason) for at, reason in parsed.bad], parsed.bad_count)
        if bad.count > bad.request.max_bad_lines:
            bad.settle()
        frames.append(parsed.frame)
        numbers.append(parsed.lines + line)
        line += parsed.line_count
    frame = pl.concat(frames) if frames else pl.DataFrame(schema=empty)
    return frame, np.concatenate(numbers)


def _in_parallel(path: Path, fields: Fields) -> Iterator[Parsed]:
    """Parses a few pieces ahead, in order; both zlib and the parser let other threads run."""
    waiting: deque[Future[Parsed]] = deque()
    with ThreadPoolExecutor(_WORKERS) as pool:
        for chunk in line_chunks(path):
            waiting.append(pool.submit(parse, chunk, fields))
            if len(waiting) > _WORKERS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
