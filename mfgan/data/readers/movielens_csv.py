"""MovieLens from 20M on: ``ratings.csv`` and ``movies.csv``."""

from pathlib import Path

import polars as pl

from mfgan.data.columns import ITEM_ID, USER_ID
from mfgan.data.readers.delimited import Layout
from mfgan.data.readers.items import (
    CATEGORICAL,
    MULTI,
    TITLE,
    YEAR_IN_TITLE,
    Items,
    assemble,
    split_labels,
)
from mfgan.data.readers.raw_log import RawLog, Request
from mfgan.data.readers.sources import find, find_log
from mfgan.data.readers.text_log import item_text, need, text_log


def read(request: Request) -> RawLog:
    """Read ``ratings.csv`` and, where it lies beside it, ``movies.csv``.

    Raises:
        MfganError: See :func:`mfgan.data.readers.read_log`.
    """
    path = find_log(request.format, request.source, "ratings.csv")
    known = {USER_ID: "userId", ITEM_ID: "movieId"}
    log, source = text_log(path, Layout(), request, known=known)
    return assemble(log, _movies(path.parent, request), request, [source])


def _movies(folder: Path, request: Request) -> Items | None:
    path = find(folder, "movies.csv")
    if path is None:
        return None
    frame, source = item_text(path, Layout(), request)
    need(path.name, frame.columns, "movieId", "title", "genres")
    frame = frame.select(
        pl.col("movieId").alias(ITEM_ID),
        pl.col("title").alias(TITLE),
        split_labels("genres", "|", drop="(no genres listed)").alias("genre"),
        pl.col("title").str.extract(YEAR_IN_TITLE).alias("year"),
    )
    return Items(frame, {"genre": MULTI, "year": CATEGORICAL}, [source])
