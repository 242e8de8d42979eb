"""RetailRocket: ``events.csv`` with item properties and categories, or the sample with sessions."""

from pathlib import Path

import polars as pl

from mfgan.data.columns import ITEM_ID, USER_ID
from mfgan.data.readers.delimited import header
from mfgan.data.readers.items import CATEGORICAL, Items, assemble
from mfgan.data.readers.raw_log import AttributeRule, RawLog, Request, SourceFile
from mfgan.data.readers.sources import account, find, find_log
from mfgan.data.readers.table import text_layout
from mfgan.data.readers.text_log import item_text, need, text_log
from mfgan.errors import MfganError

_PROPERTIES = ("categoryid", "available")
_FIRST_KNOWN = "the first value on record, so that it tells nothing of later times"
_DEPTH = 32  # levels of categories; a tree that has more holds a circle


def read(request: Request) -> RawLog:
    """Read the events and, where they lie beside them, properties and the category tree.

    Raises:
        MfganError: See :func:`mfgan.data.readers.read_log`.
    """
    path = find_log(request.format, request.source, "events.csv", "sample_retailrocket.csv")
    layout = text_layout(path)
    original = "visitorid" in header(path, layout, path.name)
    known = {USER_ID: "visitorid", ITEM_ID: "itemid"} if original else {}
    log, source = text_log(path, layout, request, known=known)
    return assemble(log, _items(path.parent, request), request, [source])


def _items(folder: Path, request: Request) -> Items | None:
    parts = sorted(
        path
        for pattern in ("item_properties*.csv", "item_properties*.csv.gz")
        for path in folder.glob(pattern)
    )
    if not parts:
        return None
    try:
        rows = pl.concat([_properties(part) for part in parts]).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise MfganError(
            f"prepare: {parts[0].name} must be item properties, got: {reason}"
        ) from None
    first = rows.sort("timestamp", maintain_order=True).unique(
        ["itemid", "property"], keep="first", maintain_order=True
    )
    frame = first.select(pl.col("itemid").unique().sort().alias(ITEM_ID))
    rules, sources = {}, [account(part, None) for part in parts]
    for name, column in zip(_PROPERTIES, ("category", "available"), strict=True):
        values = first.filter(pl.col("property") == name).select(
            pl.col("itemid").alias(ITEM_ID), pl.col("value").alias(column)
        )
        frame = frame.join(values, on=ITEM_ID, how="left")
        rules[column] = AttributeRule("categorical", note=_FIRST_KNOWN)
    tree = find(folder, "category_tree.csv")
    if tree is not None:
        roots, source = _roots(tree, request)
        frame = frame.join(roots, on="category", how="left")
        rules["root_category"] = CATEGORICAL
        sources.append(source)
    return Items(frame, rules, sources)


def _properties(path: Path) -> pl.LazyFrame:
    scan = pl.scan_csv(path, infer_schema_length=0, glob=False)
    need(path.name, scan.collect_schema().names(), "timestamp", "itemid", "property", "value")
    return scan.filter(pl.col("property").is_in(list(_PROPERTIES))).select(
        pl.col("timestamp").cast(pl.Int64), "itemid", "property", "value"
    )


def _roots(path: Path, request: Request) -> tuple[pl.DataFrame, SourceFile]:
    """The topmost category above each one, ``category`` and ``root_category``."""
    frame, source = item_text(path, text_layout(path), request)
    need(path.name, frame.columns, "categoryid", "parentid")
    parents = frame.select("categoryid", pl.col("parentid").alias("above"))
    parents = parents.unique("categoryid", keep="first", maintain_order=True)
    roots = parents.select(
        pl.col("categoryid").alias("category"), pl.col("categoryid").alias("root_category")
    )
    for _ in range(_DEPTH):
        step = roots.join(parents, left_on="root_category", right_on="categoryid", how="left")
        above = step["above"]
        if above.null_count() == len(above):
            return roots, source
        roots = step.select(
            "category", pl.coalesce("above", "root_category").alias("root_category")
        )
    raise MfganError(f"prepare: {path.name} must be a tree, got categories that go in a circle")
