"""Steam: reviews and games, each line a Python dictionary.

A user is her ``username``; ``--columns user_id=user_id`` takes another key. A review has no rating;
its date is a day, and reviews of one day keep the order of the file.
"""

from pathlib import Path

import polars as pl

from mfgan.data.columns import ITEM_ID, TIMESTAMP, USER_ID
from mfgan.data.readers.bad_lines import BadLines
from mfgan.data.readers.interactions import clean
from mfgan.data.readers.items import CATEGORICAL, MULTI, TITLE, Items, assemble
from mfgan.data.readers.literals import Fields, read_literals
from mfgan.data.readers.raw_log import AttributeRule, RawLog, Request
from mfgan.data.readers.sources import account, find, find_log
from mfgan.errors import MfganError

_KEYS = {USER_ID: "username", ITEM_ID: "product_id", TIMESTAMP: "date"}
_PRICE = AttributeRule(
    "binned",
    # Half a cent parts what is free from what is not: nothing is sold for less than a cent.
    edges=(0.005, 1.0, 10.0, 100.0),
    labels=("free", "under 1", "1 to 10", "10 to 100", "100 and over"),
    note="dollars; a price in words is 0 where it says 'free', else the figure it names",
)
_GAMES: Fields = {
    ITEM_ID: ("id", "text"),
    TITLE: ("title", "text"),
    "app_name": ("app_name", "text"),
    "price": ("price", "number"),
    "price_text": ("price", "text"),
    "developer": ("developer", "text"),
    "publisher": ("publisher", "text"),
    "sentiment": ("sentiment", "text"),
    "genre": ("genres", "texts"),
    "tags": ("tags", "texts"),
    "specs": ("specs", "texts"),
    "release_date": ("release_date", "text"),
}
_RULES = {
    "price": _PRICE,
    "developer": CATEGORICAL,
    "publisher": CATEGORICAL,
    "sentiment": AttributeRule(
        "categorical",
        note="Steam's summary of a game's reviews, or their count where there are under ten",
    ),
    "genre": MULTI,
    "tags": MULTI,
    "specs": MULTI,
    "year": AttributeRule("categorical", note="of the release date"),
}


def read(request: Request) -> RawLog:
    """Read reviews, and the games where ``steam_games.json`` lies beside them.

    Raises:
        MfganError: See :func:`mfgan.data.readers.read_log`.
    """
    path = _reviews(request)
    if unknown := set(request.columns) - set(_KEYS):
        raise MfganError(
            f"prepare: --columns of --format steam must name {', '.join(_KEYS)}, got {min(unknown)}"
        )
    keys = _KEYS | dict(request.columns)
    fields: Fields = {name: (key, "text") for name, key in keys.items()}
    bad = BadLines(path.name, request)
    frame, lines = read_literals(path, fields, bad, request.reporter)
    for name, key in keys.items():
        if frame.height and frame[name].null_count() == frame.height:
            raise MfganError(
                f"prepare: {path.name} must have a text {key!r} in its records, found none; "
                f"name the right key with --columns {name}=KEY"
            )
    log = clean(frame, bad, lines)
    source = account(path, log.height, bad.settle())
    beside = find(path.parent, "steam_games.json") if request.items is None else None
    return assemble(log, games(beside, request) if beside else None, request, [source])


def _reviews(request: Request) -> Path:
    folder = Path(request.source)
    names = ["steam_reviews.json"]
    if folder.is_dir():
        # The public copies differ in what follows the name.
        found = sorted({path.name for path in folder.glob("steam_reviews*.json*")})
        plain = [name for name in found if name.split(".")[0] == "steam_reviews"]
        if not plain and len(found) > 1:
            raise MfganError(
                f"prepare: {folder} must hold one file of reviews, got {', '.join(found)}; "
                "name the file itself"
            )
        names = [(plain or found or names)[0]]
    return find_log(request.format, request.source, *names)


def games(path: Path, request: Request) -> Items:
    """Read ``steam_games.json``.

    Raises:
        MfganError: Too many lines are no record, or the file is missing or damaged.
    """
    bad = BadLines(path.name, request)
    frame, _ = read_literals(path, _GAMES, bad, request.reporter)
    words = pl.col("price_text").str.strip_chars().str.to_lowercase()
    figure = words.str.extract(r"(\d+(?:\.\d+)?)").cast(pl.Float64, strict=False)
    frame = frame.select(
        ITEM_ID,
        pl.coalesce(TITLE, "app_name").alias(TITLE),
        pl.coalesce("price", pl.when(words.str.contains("free")).then(0.0).otherwise(figure)),
        *(pl.when(pl.col(name) != "").then(name) for name in ("developer", "publisher")),
        "sentiment",
        "genre",
        "tags",
        "specs",
        pl.col("release_date").str.extract(r"(\d{4})").alias("year"),
    )
    return Items(frame, _RULES, [account(path, frame.height, bad.settle())])
