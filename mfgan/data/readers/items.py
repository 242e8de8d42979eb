"""Item tables: those of a format, the one that ``--items`` names, their union."""

from dataclasses import dataclass, field

import polars as pl

from mfgan.data.columns import ITEM_ID
from mfgan.data.readers.cells import ids
from mfgan.data.readers.interactions import not_empty
from mfgan.data.readers.plan import SAMPLE_ROWS
from mfgan.data.readers.raw_log import AttributeRule, RawLog, Request, SourceFile
from mfgan.errors import MfganError

TITLE = "title"
CATEGORICAL = AttributeRule("categorical")
MULTI = AttributeRule("multi")
# MovieLens writes the year behind the title.
YEAR_IN_TITLE = r"\((\d{4})(?:[-–]\d{0,4})?\)\s*$"


@dataclass(frozen=True)
class Items:
    """An item table with the rules of its attributes.

    Args:
        frame: ``item_id`` and the attributes; ids may be null or repeated, the first one counts.
        rules: The rule of each attribute; columns without one are for people to read.
        sources: The files it came from.
    """

    frame: pl.DataFrame
    rules: dict[str, AttributeRule]
    sources: list[SourceFile] = field(default_factory=list)


def split_labels(column: str, separator: str, *, drop: str = "") -> pl.Expr:
    """Lists of the trimmed labels in a text column without ``drop``; null where there are none."""
    labels = pl.col(column).str.split(separator).list.eval(pl.element().str.strip_chars())
    labels = labels.list.eval(pl.element().filter(~pl.element().is_in(["", drop])))
    return pl.when(labels.list.len() > 0).then(labels)


def assemble(
    interactions: pl.DataFrame | pl.LazyFrame,
    built_in: Items | None,
    request: Request,
    sources: list[SourceFile],
) -> RawLog:
    """Join the item tables to each other and fit their ids to the log's.

    Args:
        interactions: As ``clean`` returns them, or ``planned``.
        built_in: What the format itself knows of items.
        request: Its ``items`` names a further table.
        sources: The files of the log.

    Raises:
        MfganError: No interactions, or the table of ``--items`` knows no item of the log.
    """
    again = request.again
    if isinstance(interactions, pl.DataFrame):
        interactions, again = not_empty(interactions, request.source).lazy(), None
    items = built_in
    if request.items is not None:
        from mfgan.data.readers.item_table import read_items

        items = _union(built_in, read_items(request, request.items))
    if items is None:
        return RawLog(interactions, None, {}, sources, again)
    frame = _with_ids(items.frame)
    if frame.schema[ITEM_ID] != interactions.collect_schema()[ITEM_ID]:
        frame = frame.with_columns(pl.col(ITEM_ID).cast(pl.String))
        interactions = interactions.with_columns(pl.col(ITEM_ID).cast(pl.String))
    _check_overlap(interactions, frame)
    return RawLog(interactions, frame.lazy(), items.rules, [*sources, *items.sources], again)


def _union(first: Items | None, second: Items) -> Items:
    if first is None:
        return second
    # What the user named wins over what lay beside the log.
    kept = [
        name for name in first.frame.columns if name == ITEM_ID or name not in second.frame.columns
    ]
    left = _with_ids(first.frame.select(kept))
    right = _with_ids(second.frame)
    if left.schema[ITEM_ID] != right.schema[ITEM_ID]:
        left, right = (f.with_columns(pl.col(ITEM_ID).cast(pl.String)) for f in (left, right))
    rules = {name: rule for name, rule in first.rules.items() if name in kept} | second.rules
    joined = left.join(right, on=ITEM_ID, how="full", coalesce=True)
    return Items(joined, rules, [*first.sources, *second.sources])


def _with_ids(frame: pl.DataFrame) -> pl.DataFrame:
    frame = frame.with_columns(ids(frame[ITEM_ID])).filter(pl.col(ITEM_ID).is_not_null())
    return frame.unique(ITEM_ID, keep="first", maintain_order=True)


def _check_overlap(interactions: pl.LazyFrame, items: pl.DataFrame) -> None:
    # The first rows nearly always tell; only where they do not is the whole log gone through.
    for rows in (interactions.head(SAMPLE_ROWS), interactions):
        met = rows.select(pl.col(ITEM_ID).is_in(items[ITEM_ID].implode()).any())
        if met.collect().item():
            return
    log_ids = interactions.select(ITEM_ID).head(3).collect()
    raise MfganError(
        f"prepare: the item table must know items of the log, got none in common; ids of the log "
        f"are like {_examples(log_ids)}, of the table like {_examples(items)}"
    )


def _examples(frame: pl.DataFrame) -> str:
    return ", ".join(str(value) for value in frame[ITEM_ID].head(3))
