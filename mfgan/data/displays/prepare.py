"""From a log of displays to a prepared directory: clean, number, order, split."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mfgan._version import __version__
from mfgan.console import SILENT, Reporter
from mfgan.data.columns import (
    CLICK,
    DISPLAY_ID,
    ITEM_ID,
    ITEM_IDX,
    POSITION,
    PROPENSITY,
    ROW,
    SPLIT,
    TIMESTAMP,
    USER_ID,
    USER_IDX,
)
from mfgan.data.displays.dataset import FOLDER, KIND, PARTS, DisplayDataset
from mfgan.data.displays.raw import RawDisplays, check, order_column
from mfgan.data.displays.readers import FORMATS, READERS, DisplayRequest
from mfgan.data.factors import Factor, id_factor, write_factor
from mfgan.data.layout import ITEM_TABLE, MANIFEST, SCHEMA_VERSION, USER_TABLE, write_array
from mfgan.errors import MfganError, nearest
from mfgan.files import atomic_directory, check_replaceable, write_json

_SPLIT_STAGE = 0x5B_17
_EVENT = "event_idx"
_CHOSEN = "chosen"
FRACTIONS = (0.5, 0.25, 0.25)


def prepare_displays(
    source: str | Path,
    out: str | Path,
    *,
    format: str,
    columns: Mapping[str, str] | None = None,
    clicks: str = "one",
    drop_bad: bool = False,
    resplit: int | None = None,
    fractions: tuple[float, float, float] = FRACTIONS,
    features: str | Path | None = None,
    alternatives: int = 9,
    seed: int = 0,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> DisplayDataset:
    """Prepare a log of displays.

    Args:
        source: A file or folder.
        out: The directory to make.
        format: One of ``FORMATS``.
        columns: Ours to theirs, for ``displays-table``.
        clicks: ``one`` click a display, or ``split``: a display with several becomes as many
            events. Formats that allow several are always split.
        drop_bad: Leave out displays that break a rule, counted in the manifest.
        resplit: Draw the users' parts from this seed, though the source has tags.
        fractions: Of the users, where the parts are drawn and the source has no tags.
        features: A table of ``item_id`` and numbers: a dense factor named ``features``.
        alternatives: For ``displays-retailrocket``.
        seed: Of that draw, and of the parts where the source has none.
        overwrite: Replace a data set that is there.
        reporter: Where progress is shown.

    Returns:
        The prepared data set, opened.

    Raises:
        MfganError: A wrong argument, or a row that breaks a rule; the message names it.
    """
    _check_arguments(format, clicks, fractions)
    out = Path(out)
    check_replaceable(out, overwrite=overwrite, marker=MANIFEST, sources=[source, features])
    request = DisplayRequest(Path(source), dict(columns or {}), alternatives, seed)
    raw = READERS[format](request)
    rows, dropped = check(raw, clicks=clicks, drop_bad=drop_bad)
    steps = [{"step": "read", "rows": raw.rows.height, "why": f"format {format}"}]
    table = _number(rows)
    users = _unique(rows, USER_ID)
    items = _unique(rows, ITEM_ID)
    parts, split_rule = _parts(rows, users, resplit, fractions, seed)
    arrays, event_table = _arrays(table, parts)
    steps.append({"step": "one row an item of a display", "rows": len(arrays["items"])})
    factors = [(id_factor(items.cast(pl.String).to_list()), "the item itself")]
    if features is not None:
        factors.append(_dense_factor(Path(features), items))
    manifest = _manifest(raw, format, arrays, steps, dropped, split_rule, items, users)
    with atomic_directory(out, overwrite=overwrite) as draft:
        for name, array in arrays.items():
            write_array(draft / FOLDER / f"{name}.npy", array)
        manifest["factors"] = [write_factor(draft, factor, rule) for factor, rule in factors]
        _write_ids(draft / ITEM_TABLE, ITEM_IDX, ITEM_ID, items, 1)
        _write_ids(draft / USER_TABLE, USER_IDX, USER_ID, users, 0)
        write_json(draft / MANIFEST, manifest)
    reporter.note(
        f"{out}: {len(users):,} users, {len(items):,} items, {event_table.height:,} displays of"
        f" {len(arrays['items']) / event_table.height:.2f} items"
    )
    return DisplayDataset.open(out)


def _check_arguments(format: str, clicks: str, fractions: tuple[float, float, float]) -> None:
    if format not in FORMATS:
        raise MfganError(
            f"prepare: --format must be one of {', '.join(FORMATS)}, got {format!r}"
            f"{nearest(format, list(FORMATS))}"
        )
    if clicks not in ("one", "split"):
        raise MfganError(f"prepare: --clicks must be one or split, got {clicks!r}")
    if min(fractions) < 0 or fractions[0] <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise MfganError(f"prepare: fractions must be shares of 1, got {fractions}")


def _unique(rows: pl.DataFrame, column: str) -> pl.Series:
    return rows[column].unique().sort()


def _number(rows: pl.DataFrame) -> pl.DataFrame:
    """One row an item of a display, with dense ids and the number of its event, in order.

    A user's displays follow their time, equal times their first row in the source.
    """
    key, order = [USER_ID, DISPLAY_ID], order_column(rows)
    aggregates = [pl.col(CLICK).max(), pl.col(ROW).min()]
    optional = {POSITION: pl.col(POSITION).min(), PROPENSITY: pl.col(PROPENSITY).first()}
    aggregates += [value for name, value in optional.items() if name in rows.columns]
    if TIMESTAMP in rows.columns:
        aggregates.append(pl.col(TIMESTAMP).min())
    if order and order != TIMESTAMP:
        aggregates.append(pl.col(order).min())
    table = rows.group_by([*key, ITEM_ID]).agg(aggregates)
    first = pl.col(ROW).min().over(key)
    table = table.with_columns(first.alias("first"))
    if order:
        table = table.with_columns(pl.col(order).min().over(key))
    by = [USER_ID, *([order] if order else []), "first", ITEM_ID]
    table = table.sort(by, maintain_order=True)
    changed = pl.struct(key) != pl.struct(key).shift(1)
    return table.with_columns(
        (changed.fill_null(True).cum_sum() - 1).cast(pl.Int64).alias(_EVENT),
        (pl.col(USER_ID).rank("dense") - 1).cast(pl.Int64).alias(USER_IDX),
        pl.col(ITEM_ID).rank("dense").cast(pl.Int32).alias(ITEM_IDX),
    )


def _parts(
    rows: pl.DataFrame,
    users: pl.Series,
    resplit: int | None,
    fractions: tuple[float, float, float],
    seed: int,
) -> tuple[np.ndarray, str]:
    """``(num_users,)`` int8 part of each user, and the rule in words."""
    tags: np.ndarray | None = None
    if SPLIT in rows.columns:
        tagged = rows.group_by(USER_ID).agg(pl.col(SPLIT).first()).sort(USER_ID)
        tags = tagged[SPLIT].to_numpy().astype(np.int8)
    if tags is not None and resplit is None:
        return tags, "as tagged in the source"
    if tags is not None:
        sizes = np.bincount(tags, minlength=3)
    else:
        bounds = np.round(np.cumsum([0.0, *fractions]) * len(users)).astype(int)
        sizes = np.diff(bounds)
    drawn = seed if resplit is None else resplit
    ordered = np.repeat(np.arange(3, dtype=np.int8), sizes)
    parts = np.random.default_rng([drawn, _SPLIT_STAGE]).permutation(ordered)
    names = ", ".join(f"{size:,} {name}" for size, name in zip(sizes, PARTS, strict=True))
    return parts, f"users drawn from seed {drawn}: {names}"


def _arrays(table: pl.DataFrame, parts: np.ndarray) -> tuple[dict[str, np.ndarray], pl.DataFrame]:
    """The arrays of the prepared directory; an event of several clicks becomes as many."""
    events = (
        table.with_columns(pl.int_range(pl.len()).over(_EVENT).alias("place"))
        .group_by(_EVENT, maintain_order=True)
        .agg(
            pl.col(USER_IDX).first(),
            pl.len().alias("size"),
            pl.col("place").filter(pl.col(CLICK) == 1).cast(pl.Int64).alias(_CHOSEN),
            *([pl.col(TIMESTAMP).first()] if TIMESTAMP in table.columns else []),
        )
        .with_columns(
            pl.when(pl.col(_CHOSEN).list.len() == 0)
            .then(pl.lit([-1], pl.List(pl.Int64)))
            .otherwise(pl.col(_CHOSEN))
            .alias(_CHOSEN)
        )
        .explode(_CHOSEN)
    )
    starts = np.concatenate([[0], np.cumsum(np.bincount(table[_EVENT].to_numpy()))])
    sizes = events["size"].to_numpy().astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    # Rows of each event, repeated where its display became several events.
    rows = np.arange(offsets[-1]) + np.repeat(
        starts[events[_EVENT].to_numpy()] - offsets[:-1], sizes
    )
    user_events = np.bincount(events[USER_IDX].to_numpy(), minlength=len(parts))
    arrays = {
        "items": table[ITEM_IDX].to_numpy()[rows].astype(np.int32),
        "clicked": table[CLICK].to_numpy()[rows] == 1,
        "offsets": offsets.astype(np.int64),
        "clicks": events[_CHOSEN].to_numpy().astype(np.int32),
        "user_offsets": np.concatenate([[0], np.cumsum(user_events)]).astype(np.int64),
        "parts": parts,
    }
    if POSITION in table.columns:
        arrays["positions"] = table[POSITION].to_numpy()[rows].astype(np.int16)
    if PROPENSITY in table.columns:
        arrays["propensities"] = table[PROPENSITY].to_numpy()[rows].astype(np.float32)
    if TIMESTAMP in table.columns and table[TIMESTAMP].null_count() == 0:
        arrays["timestamps"] = events[TIMESTAMP].to_numpy().astype(np.int64)
    return arrays, events


def _dense_factor(path: Path, items: pl.Series) -> tuple[Factor, str]:
    """A table of numbers as a dense factor; an item without a row has the zero vector."""
    try:
        table = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path)
    except FileNotFoundError:
        raise MfganError(f"{path}: must exist, found nothing") from None
    except pl.exceptions.PolarsError as error:
        raise MfganError(f"{path}: must be a table, got {error}") from None
    names = [name for name in table.columns if name != ITEM_ID]
    if ITEM_ID not in table.columns or not names:
        raise MfganError(f"{path}: must have item_id and numbers, got {', '.join(table.columns)}")
    wrong = [name for name in names if not table[name].dtype.is_numeric()]
    if wrong:
        raise MfganError(f"{path}: {wrong[0]} must hold numbers, got {table[wrong[0]].dtype}")
    # One row an item: a repeated one would put every later vector one place too far.
    table = table.with_columns(pl.col(ITEM_ID).cast(pl.String)).unique(ITEM_ID, keep="first")
    wanted = pl.DataFrame({ITEM_ID: items.cast(pl.String)})
    joined = wanted.join(table, on=ITEM_ID, how="left", maintain_order="left")
    known = joined.select(names).cast(pl.Float32).fill_null(0).to_numpy()
    scale = np.maximum(known.std(axis=0), 1e-6)
    values = np.zeros((len(items) + 1, len(names)), np.float32)
    values[1:] = (known - known.mean(axis=0)) / scale
    factor = Factor("features", "dense", len(names), values, None, ())
    return factor, f"columns {', '.join(names)}, standardised"


def _manifest(
    raw: RawDisplays,
    format: str,
    arrays: dict[str, np.ndarray],
    steps: list[dict[str, Any]],
    dropped: dict[str, int],
    split_rule: str,
    items: pl.Series,
    users: pl.Series,
) -> dict[str, Any]:
    rules = {
        "split": split_rule,
        "rows": "one an item of a display; their order and number in the source are not kept",
        "clicks": "a display of several clicks is as many events",
        "left_out": dropped,
        **raw.rules,
    }
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": KIND,
        "name": Path(raw.name).name.split(".")[0],
        "format": format,
        "num_users": len(users),
        "num_items": len(items),
        "num_events": len(arrays["clicks"]),
        "num_rows": len(arrays["items"]),
        "sources": raw.sources,
        "rules": rules,
        "steps": steps,
        "created_by": __version__,
    }


def _write_ids(path: Path, index: str, name: str, ids: pl.Series, first: int) -> None:
    count = pl.Series(index, np.arange(first, first + len(ids), dtype=np.int32))
    pl.DataFrame([count, ids.alias(name)]).write_parquet(path)
