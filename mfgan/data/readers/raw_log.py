"""What every reader returns: the log as one lazy frame, the item table, where both came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from mfgan.console import SILENT, Reporter

if TYPE_CHECKING:
    import polars as pl

AttributeKind = Literal["categorical", "multi", "dense", "binned"]


@dataclass(frozen=True)
class SourceFile:
    """One file (or remote address) that a log was read from.

    Args:
        path: Its name as the user gave it; the file's own name where a folder was given.
        sha256: Hexadecimal digest of the file as stored, ``None`` for remote addresses.
        bytes: Size as stored, ``None`` for remote addresses.
        rows: Records in it, bad ones not counted; ``None`` where nothing counted them.
        bad_lines: Lines that were no record and were left out.
    """

    path: str
    sha256: str | None
    bytes: int | None
    rows: int | None
    bad_lines: int = 0


@dataclass(frozen=True)
class AttributeRule:
    """How one column of the item table becomes a factor.

    Args:
        kind: ``categorical``: each distinct value is a label (numbers by their decimal text);
            ``multi``: the column holds lists, each distinct element is a label; ``dense``: the
            column holds float vectors of one width; ``binned``: the column holds numbers, and
            value ``x`` has the label number ``(edges <= x).sum()``. Null is unknown in all of them,
            an empty list too.
        edges: Lower bounds of the bins from the second one on, ascending; ``binned`` alone.
        labels: Names of the ``len(edges) + 1`` bins; ``binned`` alone.
        note: Where the values come from, a sentence for the manifest.
    """

    kind: AttributeKind
    edges: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        if list(self.edges) != sorted(set(self.edges)):
            raise ValueError(f"AttributeRule: edges must ascend, got {self.edges}")
        if self.kind == "binned" and len(self.labels) != len(self.edges) + 1:
            raise ValueError(
                f"AttributeRule: labels must be one more than edges, got {len(self.labels)} "
                f"for {len(self.edges)}"
            )
        if self.kind != "binned" and (self.edges or self.labels):
            raise ValueError(f"AttributeRule: edges and labels are for binned, got {self.kind}")


def edge_texts(edges: Sequence[float]) -> list[str]:
    """Numbers, all different, as short texts; in full where short ones would be the same."""
    short = [f"{edge:g}" for edge in edges]
    if len(set(short)) == len(short):
        return short
    return [repr(edge).removesuffix(".0") for edge in edges]


@dataclass(frozen=True)
class RawLog:
    """A log as it was found, before any filter but that of bad lines.

    Args:
        interactions: ``user_id`` and ``item_id`` (an integer or string dtype, never null), and
            where the source has them ``timestamp`` (Int64, milliseconds UTC), ``order`` (a number),
            ``event`` (String), ``rating`` (Float64). Rows in input order. Where ``order`` is there
            it alone decides the order of a user's rows (null comes first), ``timestamp`` may then
            hold nulls; else ``timestamp`` does and holds none; with neither, input order does.
            Ties keep input order.
        items: One row an item, ``item_id`` of the dtype that ``interactions`` has, unique, then the
            attributes; ``None`` where the source has no item table. It may list items that nobody
            has met and lack some that somebody has.
        attributes: The rule of each column of ``items`` that is a factor; a column without one
            (``title``) is only for people to read.
        sources: The files, log first; ``rows`` of a log that is only planned may be ``None``.
        reread: Where ``interactions`` is a plan that nobody has checked, so that what cannot be
            used is null in it: reads the log in full, to name that or leave it out. Else ``None``.
    """

    interactions: pl.LazyFrame
    items: pl.LazyFrame | None
    attributes: dict[str, AttributeRule]
    sources: list[SourceFile]
    reread: Callable[[], RawLog] | None = None


@dataclass(frozen=True)
class Request:
    """What ``read_log`` was asked for; every reader takes one.

    Args:
        again: Set where a plan will do: reads the log in full after all.
    """

    source: str
    format: str
    items: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    max_bad_lines: int = 0
    reporter: Reporter = field(default_factory=lambda: SILENT)
    again: Callable[[], RawLog] | None = None
