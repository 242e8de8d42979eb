"""Delimited text: by Polars where every record is sound, by the stricter pyarrow where one is not.

Polars is the faster of the two, and reads lazily, but neither says which record has too many fields
nor tells a short record from empty fields. So a file is read again to name what is wrong with it.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv as pacsv

from mfgan.data.readers.bad_lines import BadLines
from mfgan.data.readers.sources import open_stream, unpack_error
from mfgan.errors import MfganError

Source = Path | bytes


@dataclass(frozen=True)
class Layout:
    """How a delimited text is laid out.

    Args:
        separator: One character.
        names: The columns where the text has no header line; ``None`` where it has one.
        quoted: Whether ``"`` encloses fields.
    """

    separator: str = ","
    names: tuple[str, ...] | None = None
    quoted: bool = True

    @property
    def first_line(self) -> int:
        """The number of the line that holds the first record."""
        return 2 if self.names is None else 1


def header(source: Source, layout: Layout, name: str) -> list[str]:
    """The column names of a text.

    Raises:
        MfganError: It is empty or no text.
    """
    if layout.names is not None:
        _opened(source).close()  # sees to it that there is a file, packed as its name says
        return list(layout.names)
    try:
        with _opened(source) as stream:
            head = b""
            while b"\n" not in head and (block := stream.read(1 << 16)):
                head += bytes(block)
    except OSError as error:
        raise unpack_error(Path(name), error) from None
    line = head.split(b"\n", 1)[0].rstrip(b"\r").removeprefix(b"\xef\xbb\xbf")
    if not line.strip():
        raise MfganError(f"prepare: {name} must begin with column names, found nothing")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        raise MfganError(f"prepare: {name} must be UTF-8 text, got other bytes") from None
    quote = '"' if layout.quoted else None
    frame = pl.read_csv(
        (text + "\n").encode(),
        separator=layout.separator,
        quote_char=quote,
        has_header=False,
        infer_schema_length=0,
    )
    names = [str(value or "").strip() for value in frame.row(0)]
    if len(set(names)) < len(names):
        twice = next(value for value in names if names.count(value) > 1)
        raise MfganError(
            f"prepare: {name} must have columns of different names, got {twice!r} twice"
        )
    return names


def read_sound(source: Source, layout: Layout, wanted: Sequence[str]) -> pl.DataFrame | None:
    """Columns as text, by Polars.

    Returns:
        ``wanted`` columns as String without the blank lines; ``None`` where Polars finds a record
        that it cannot read.
    """
    try:
        return scanned(source, layout).select(wanted).collect()
    except (pl.exceptions.PolarsError, OSError):
        return None


def scanned(source: Source, layout: Layout) -> pl.LazyFrame:
    """Every column as String, without the blank lines; nothing is read yet."""
    options: dict[str, Any] = {"separator": layout.separator}
    options["quote_char"] = '"' if layout.quoted else None
    if layout.names is None:
        options["infer_schema_length"] = 0
    else:
        options |= {"has_header": False, "schema": dict.fromkeys(layout.names, pl.String)}
    scan = pl.scan_csv(
        io.BytesIO(source) if isinstance(source, bytes) else source, glob=False, **options
    )
    # Only a reader of every column notices a record with too many fields, and a blank line.
    return scan.filter(pl.any_horizontal(pl.all().is_not_null()))


def read_strict(
    source: Source, layout: Layout, wanted: Sequence[str], bad: BadLines
) -> tuple[pl.DataFrame, np.ndarray]:
    """Columns as text, by pyarrow; records with a wrong number of fields go to ``bad``.

    Returns:
        ``wanted`` columns as String, blank lines left out, and the number of each record's line,
        ``(rows,)`` int64. A line within a quoted field counts as none.

    Raises:
        MfganError: The text is no text, truncated or damaged.
    """
    skipped: list[int] = []
    wrong: list[tuple[int, str]] = []
    names = header(source, layout, bad.name)

    def handler(row: Any) -> str:
        # Without a header line pyarrow counts from 1 as well, and with one the header is number 1.
        skipped.append(row.number)
        if row.text.strip():
            fields = f"{row.actual_columns} field{'' if row.actual_columns == 1 else 's'}"
            wrong.append((row.number, f"must have {row.expected_columns} fields, got {fields}"))
        return "skip"

    try:
        with _opened(source) as stream:
            table = pacsv.read_csv(stream, **_strict_options(layout, names, handler))
    except (pa.ArrowInvalid, OSError) as error:
        if "Empty CSV" in str(error):
            return pl.DataFrame(schema=dict.fromkeys(wanted, pl.String)), np.zeros(0, np.int64)
        raise _not_text(bad.name, error) from None
    bad.add(wrong)
    frame = pl.DataFrame(pl.from_arrow(table))
    numbers = np.arange(layout.first_line, layout.first_line + frame.height + len(skipped))
    numbers = np.delete(numbers, np.array(skipped, dtype=np.int64) - layout.first_line)
    some = frame.select(pl.any_horizontal(pl.all().is_not_null())).to_series()
    return frame.select(wanted).filter(some), numbers[some.to_numpy()]


def _strict_options(
    layout: Layout, names: list[str], handler: Callable[[Any], str]
) -> dict[str, Any]:
    return {
        "read_options": pacsv.ReadOptions(
            use_threads=False, column_names=names, skip_rows=layout.first_line - 1
        ),
        "parse_options": pacsv.ParseOptions(
            delimiter=layout.separator,
            quote_char='"' if layout.quoted else False,
            newlines_in_values=layout.quoted,
            ignore_empty_lines=False,
            invalid_row_handler=handler,
        ),
        "convert_options": pacsv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.large_string()),
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
        ),
    }


def _opened(source: Source) -> pa.NativeFile:
    return pa.BufferReader(source) if isinstance(source, bytes) else open_stream(source)


def _not_text(name: str, error: Exception) -> MfganError:
    if "UTF8" in str(error) or "UTF-8" in str(error):
        return MfganError(f"prepare: {name} must be UTF-8 text, got other bytes")
    if isinstance(error, OSError) and not isinstance(error, pa.ArrowInvalid):
        return unpack_error(Path(name), error)
    return MfganError(f"prepare: {name} must be delimited text, got: {error}")
