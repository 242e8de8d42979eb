"""MovieLens-100K: the official files, or the copy of them in RecBole's layout."""

from pathlib import Path

import polars as pl

from mfgan.data.columns import ITEM_ID, RATING, TIMESTAMP, USER_ID
from mfgan.data.readers.delimited import Layout
from mfgan.data.readers.items import CATEGORICAL, MULTI, TITLE, Items, assemble, split_labels
from mfgan.data.readers.raw_log import RawLog, Request
from mfgan.data.readers.sources import find, find_log
from mfgan.data.readers.text_log import item_text, need, text_log

_GENRES = (
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
_OFFICIAL = Layout("\t", (USER_ID, ITEM_ID, RATING, TIMESTAMP), quoted=False)
_ITEM = ("movie id", "movie title", "release date", "video release date", "IMDb URL", *_GENRES)
_RECBOLE = Layout("\t", quoted=False)
_RULES = {"genre": MULTI, "year": CATEGORICAL}


def read(request: Request) -> RawLog:
    """Read ``u.data`` and ``u.item``, or ``ml-100k.inter`` and ``ml-100k.item``.

    Raises:
        MfganError: See :func:`mfgan.data.readers.read_log`.
    """
    path = find_log(request.format, request.source, "u.data", "ml-100k.inter")
    if ".inter" in path.name:
        known = {
            USER_ID: "user_id:token",
            ITEM_ID: "item_id:token",
            TIMESTAMP: "timestamp:float",
            RATING: "rating:float",
        }
        log, source = text_log(path, _RECBOLE, request, known=known)
        return assemble(log, _recbole_items(path.parent, request), request, [source])
    log, source = text_log(path, _OFFICIAL, request)
    # `mfgan datasets fetch` may have u.data from one place and the movies from the other.
    items = _official_items(path.parent, request) or _recbole_items(path.parent, request)
    return assemble(log, items, request, [source])


def _official_items(folder: Path, request: Request) -> Items | None:
    path = find(folder, "u.item")
    if path is None:
        return None
    frame, source = item_text(path, Layout("|", _ITEM, quoted=False), request)
    flags = [pl.when(pl.col(name) == "1").then(pl.lit(name)) for name in _GENRES[1:]]
    genres = pl.concat_list(flags).list.drop_nulls()
    frame = frame.select(
        pl.col("movie id").alias(ITEM_ID),
        pl.col("movie title").alias(TITLE),
        pl.when(genres.list.len() > 0).then(genres).alias("genre"),
        pl.col("release date").str.extract(r"(\d{4})$").alias("year"),
    )
    return Items(frame, _RULES, [source])


def _recbole_items(folder: Path, request: Request) -> Items | None:
    path = find(folder, "ml-100k.item")
    if path is None:
        return None
    frame, source = item_text(path, _RECBOLE, request)
    expected = ["item_id:token", "movie_title:token_seq", "release_year:token", "class:token_seq"]
    need(path.name, frame.columns, *expected)
    frame = frame.select(
        pl.col(expected[0]).alias(ITEM_ID),
        pl.col(expected[1]).alias(TITLE),
        split_labels(expected[3], " ", drop=_GENRES[0]).alias("genre"),
        pl.col(expected[2]).str.extract(r"^(\d{4})$").alias("year"),
    )
    return Items(frame, _RULES, [source])
