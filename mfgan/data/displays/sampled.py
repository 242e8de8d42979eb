"""Displays out of a log that only says what was viewed, by a stated and seeded rule."""

from pathlib import Path

import numba
import numpy as np
import polars as pl

from mfgan.data.columns import CLICK, DISPLAY_ID, EVENT, ITEM_ID, ROW, TIMESTAMP, USER_ID
from mfgan.data.displays.raw import RawDisplays, integers, read_delimited, rename, source_entry
from mfgan.errors import MfganError

_STAGE = 0x52_52  # keeps this draw apart from all others of the same seed

RULE = (
    "each view is a display of the viewed item, which counts as clicked, and {n} others drawn"
    " without return from the items of its category and of its bin of popularity (views in the"
    " log, bins of doubling width); where fewer fit, from its popularity bin whatever the"
    " category, and then from all items; seed {seed}"
)


def read_retailrocket(source: Path, *, alternatives: int, seed: int) -> RawDisplays:
    """Read ``events.csv`` (or a folder with it and ``item_properties_part*.csv``) as displays.

    Args:
        source: The folder, or the table of events; of ``event`` only ``view`` is used.
        alternatives: Items drawn beside each viewed one.
        seed: Of the draw.

    Raises:
        MfganError: A column is missing, or there are too few items to draw from.
    """
    folder = source if source.is_dir() else None
    path = source / "events.csv" if folder else source
    separator = "\t" if _first_line(path).count("\t") else ","
    frame = read_delimited(path, separator=separator)
    theirs = {
        USER_ID: "visitorid" if "visitorid" in frame.columns else "user_id",
        ITEM_ID: "itemid" if "itemid" in frame.columns else "item_id",
        TIMESTAMP: "timestamp",
    }
    if EVENT in frame.columns:
        theirs[EVENT] = EVENT
    frame = rename(frame, theirs, path.name)
    if EVENT in frame.columns:
        frame = frame.filter(pl.col(EVENT) == "view").drop(EVENT)
    frame = integers(frame, [USER_ID, ITEM_ID, TIMESTAMP], path.name)
    if frame.is_empty():
        raise MfganError(f"{path.name}: must hold views, found none")
    for name in (ITEM_ID, TIMESTAMP):
        empty = frame.filter(pl.col(name).is_null())
        if empty.height:
            raise MfganError(f"{path.name}: row {empty[ROW][0]:,}: {theirs[name]} is empty")
    if frame[TIMESTAMP].max() < 10**11:  # type: ignore[operator]
        frame = frame.with_columns(pl.col(TIMESTAMP) * 1000)  # seconds
    items, index = np.unique(frame[ITEM_ID].to_numpy(), return_inverse=True)
    if alternatives < 1 or alternatives >= len(items):
        raise MfganError(
            f"{path.name}: --alternatives must be within 1..{len(items) - 1}, got {alternatives}"
        )
    category = _categories(folder, items)
    others = _draw(index, category, len(items), alternatives, seed)
    shown = np.concatenate([index[:, None], others], axis=1)
    frame = frame.with_columns(
        pl.Series(ITEM_ID, items[shown]), pl.col(ROW).alias(DISPLAY_ID)
    ).explode(ITEM_ID)
    first = (pl.int_range(pl.len()) % (alternatives + 1) == 0).cast(pl.Int64)
    sources = [source_entry(path), *map(source_entry, _property_files(folder))]
    rules = {
        "displays": RULE.format(n=alternatives, seed=seed),
        "items_with_category": int((category >= 0).sum()),
    }
    return RawDisplays(frame.with_columns(first.alias(CLICK)), path.name, sources, rules=rules)


def _first_line(path: Path) -> str:
    try:
        with open(path, encoding="utf-8") as handle:
            return handle.readline()
    except FileNotFoundError:
        raise MfganError(f"{path}: must exist, found nothing") from None


def _property_files(folder: Path | None) -> list[Path]:
    return sorted(folder.glob("item_properties*.csv")) if folder else []


def _categories(folder: Path | None, items: np.ndarray) -> np.ndarray:
    """``(num_items,)`` category of each item, its last one stated; -1 unknown."""
    files = _property_files(folder)
    if not files:
        return np.full(len(items), -1)
    stated = (
        pl.concat([pl.scan_csv(path, glob=False) for path in files])
        .filter(pl.col("property") == "categoryid")
        .sort("timestamp", maintain_order=True)
        .group_by(pl.col("itemid").cast(pl.Int64).alias(ITEM_ID))
        .agg(pl.col("value").last().cast(pl.Int64))
    )
    table = pl.DataFrame({ITEM_ID: items}).lazy().join(stated, on=ITEM_ID, how="left").collect()
    return table["value"].fill_null(-1).to_numpy()


def _draw(
    index: np.ndarray, category: np.ndarray, num_items: int, count: int, seed: int
) -> np.ndarray:
    """``(num_views, count)`` distinct items for each view, none of them the viewed one."""
    views = np.bincount(index, minlength=num_items)
    popularity = np.frexp(views.astype(np.float64))[1]
    _, narrow = np.unique(np.stack([category, popularity]), axis=1, return_inverse=True)
    pools = [narrow.reshape(-1), popularity.astype(np.int64), np.zeros(num_items, np.int64)]
    start = np.random.default_rng([seed, _STAGE]).integers(1 << 63, dtype=np.uint64)
    drawn = np.full((len(index), count), -1, np.int64)
    for pool in pools:
        order, offsets = _members(pool)
        fill_from_pools(index, pool, order, offsets, drawn, start)
    return drawn


@numba.njit(cache=True)
def fill_from_pools(
    index: np.ndarray,
    pool: np.ndarray,
    order: np.ndarray,
    offsets: np.ndarray,
    drawn: np.ndarray,
    start: np.uint64,
) -> np.ndarray:
    """Fill the free places of each row with items of the viewed item's pool, each at most once.

    Args:
        index: ``(num_views,)`` int64 the viewed item.
        pool: ``(num_items,)`` int64 the pool of each item; what ``drawn`` holds lies in it already.
        order: ``(num_items,)`` int64 items by pool.
        offsets: ``(num_pools + 1,)`` int64 bounds of each pool in ``order``.
        drawn: ``(num_views, count)`` int64, -1 where a place is free; filled in place.
        start: Where the random numbers start.

    Returns:
        ``drawn``.
    """
    count = drawn.shape[1]
    for view in range(len(index)):
        item = index[view]
        low = offsets[pool[item]]
        size = offsets[pool[item] + 1] - low
        place = 0
        while place < count and drawn[view, place] >= 0:
            place += 1
        state = start + np.uint64(view * 4 + place) * np.uint64(0xD1342543DE82EF95)
        while place < min(count, size - 1):
            state += np.uint64(0x9E3779B97F4A7C15)
            bits = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            bits = bits ^ (bits >> np.uint64(31))
            one = order[low + np.int64(bits >> np.uint64(1)) % size]
            known = one == item
            for other in range(place):
                known = known or drawn[view, other] == one
            if not known:
                drawn[view, place] = one
                place += 1
    return drawn


def _members(pool: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Items by pool, and the bounds of each pool."""
    sizes = np.bincount(pool)
    return np.argsort(pool, kind="stable"), np.concatenate([[0], np.cumsum(sizes)])
