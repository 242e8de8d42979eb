"""Readers of logs that state what was shown: each turns its source into `RawDisplays`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from mfgan.data.columns import (
    CLICK,
    DISPLAY_ID,
    ITEM_ID,
    ORDER,
    POSITION,
    PROPENSITY,
    ROW,
    SPLIT,
    TIMESTAMP,
    USER_ID,
)
from mfgan.data.displays.raw import (
    NOT_SHOWN,
    RawDisplays,
    integers,
    read_delimited,
    rename,
    source_entry,
    times,
)
from mfgan.errors import MfganError, nearest

_LAST_POSITION = (1 << 15) - 1  # positions are int16


@dataclass(frozen=True)
class DisplayRequest:
    """What a reader is asked for.

    Args:
        source: A file, or a folder where the format is one.
        columns: Ours to theirs, for ``displays-table``.
        alternatives: Items drawn beside a viewed one, for ``displays-retailrocket``.
        seed: Of that draw.
    """

    source: Path
    columns: Mapping[str, str] = field(default_factory=dict)
    alternatives: int = 9
    seed: int = 0


def read_authors(request: DisplayRequest) -> RawDisplays:
    """The text of the GAN user model's authors: tab-separated, 0/1/2 as split tag.

    The row of a click is the last of its display there, and repeated rows betray it too: rows are
    made one an item, and neither their order nor their number goes any further.
    """
    names = {
        USER_ID: "session_new_index",
        DISPLAY_ID: "Time",
        ITEM_ID: "item_new_index",
        CLICK: "is_click",
        SPLIT: "tr_val_tst",
    }
    path = request.source
    frame = rename(read_delimited(path, separator="\t"), names, path.name)
    frame = integers(frame, list(names), path.name)
    frame = frame.with_columns(pl.col(DISPLAY_ID).alias(ORDER))
    return RawDisplays(frame, path.name, [source_entry(path)])


def _parquet_or_csv(path: Path) -> pl.DataFrame:
    if path.suffix == ".parquet":
        try:
            frame = pl.read_parquet(path)
        except FileNotFoundError:
            raise MfganError(f"{path}: must exist, found nothing") from None
        except pl.exceptions.PolarsError as error:
            raise MfganError(f"{path}: must be a Parquet table, got {error}") from None
        return frame.with_row_index(ROW, 1).with_columns(pl.col(ROW).cast(pl.Int64))
    return read_delimited(path, separator="\t" if ".tsv" in path.name else ",")


def read_trivago(request: DisplayRequest) -> RawDisplays:
    """RecSys Challenge 2019: each ``clickout item`` is a display of its ``impressions``."""
    path = request.source
    frame = _parquet_or_csv(path)
    names = {name: name for name in _TRIVAGO}
    frame = rename(frame, names, path.name).filter(pl.col("action_type") == "clickout item")
    frame = integers(frame, ["timestamp", "step"], path.name)
    shown = pl.col("impressions").str.split("|")
    frame = frame.with_columns(shown.alias(ITEM_ID)).select(
        ROW,
        pl.col("user_id").alias(USER_ID),
        pl.concat_str("session_id", "step", separator="/").alias(DISPLAY_ID),
        (pl.col("timestamp") * 1000).alias(TIMESTAMP),
        # The timestamp is in seconds; the step of the session breaks its ties.
        (pl.col("timestamp") * 100_000 + pl.col("step")).alias(ORDER),
        ITEM_ID,
        pl.int_ranges(1, pl.col(ITEM_ID).list.len().cast(pl.Int64) + 1).alias(POSITION),
        pl.when(~pl.col(ITEM_ID).list.contains(pl.col("reference")))
        .then(pl.col("reference"))
        .alias(NOT_SHOWN),
        pl.col("reference"),
    )
    return _explode(frame, path)


_TRIVAGO = ("user_id", "session_id", "timestamp", "step", "action_type", "reference", "impressions")


def _explode(frame: pl.DataFrame, path: Path) -> RawDisplays:
    empty = frame.filter(pl.col(ITEM_ID).is_null())
    if empty.height:
        frame = frame.with_columns(pl.col(POSITION).fill_null(pl.lit([0], pl.List(pl.Int64))))
        frame = frame.with_columns(pl.col(ITEM_ID).fill_null(pl.lit([None], pl.List(pl.String))))
    frame = frame.explode(ITEM_ID, POSITION)
    click = (pl.col(ITEM_ID) == pl.col("reference")).fill_null(False)
    frame = frame.with_columns(click.cast(pl.Int64).alias(CLICK)).drop("reference")
    return RawDisplays(frame, path.name, [source_entry(path)])


def read_mind(request: DisplayRequest) -> RawDisplays:
    """MIND's ``behaviors.tsv``: impression id, user, time, history, ``N123-1 N456-0 …``.

    Impressions may have several clicks; the time is that of the impression, in UTC.
    """
    path = request.source / "behaviors.tsv" if request.source.is_dir() else request.source
    frame = read_delimited(path, separator="\t", has_header=False)
    given = [name for name in frame.columns if name != ROW]
    if len(given) != 5:
        raise MfganError(f"{path.name}: must have 5 columns without names, got {len(given)}")
    display, user, when, _, shown_in = given
    names = {DISPLAY_ID: display, USER_ID: user, TIMESTAMP: when, ITEM_ID: shown_in}
    frame = rename(frame, names, path.name)
    time = pl.col(TIMESTAMP).str.to_datetime("%m/%d/%Y %I:%M:%S %p", strict=False)
    rule = "the time must be like 11/11/2019 9:05:58 AM"
    _refuse(frame, time.is_null(), rule, path.name, got=TIMESTAMP)
    frame = frame.with_columns(time.dt.epoch("ms").alias(TIMESTAMP))
    shown = pl.col(ITEM_ID).fill_null("").str.split(" ")
    frame = frame.with_columns(shown.alias(ITEM_ID)).with_columns(
        pl.int_ranges(1, pl.col(ITEM_ID).list.len().cast(pl.Int64) + 1).alias(POSITION)
    )
    frame = frame.explode(ITEM_ID, POSITION)
    parts = pl.col(ITEM_ID).str.extract_groups(r"^(?<item>\S+)-(?<click>\S+)$")
    frame = frame.with_columns(parts.alias("parts")).with_columns(
        pl.col("parts").struct.field("item").alias(ITEM_ID),
        pl.col("parts").struct.field("click").alias(CLICK),
    )
    frame = integers(frame.drop("parts"), [CLICK], path.name)
    return RawDisplays(frame, path.name, [source_entry(path)], several_clicks=True)


def read_open_bandit(request: DisplayRequest) -> RawDisplays:
    """Open Bandit: each row shows one item, clicked or not, with the propensity of showing it.

    The log names no users: its rows in turn are users of one display each, except that rows of the
    same ``user_feature_*`` are one cohort, taken as the user.
    """
    path = request.source
    frame = read_delimited(path, separator=",")
    cohort = sorted(name for name in frame.columns if name.startswith("user_feature_"))
    names = {
        TIMESTAMP: "timestamp",
        ITEM_ID: "item_id",
        POSITION: "position",
        CLICK: "click",
        PROPENSITY: "propensity_score",
    }
    user = pl.concat_str(cohort, separator="/") if cohort else pl.lit("all")
    keyed = rename(frame, names, path.name).with_columns(
        frame.with_columns(user.alias(USER_ID))[USER_ID], pl.col(ROW).alias(DISPLAY_ID)
    )
    keyed = integers(keyed, [ITEM_ID, POSITION, CLICK], path.name)
    keyed = _propensities(keyed, "propensity_score", path.name)
    _refuse(keyed, pl.col(TIMESTAMP).is_null(), "must have a timestamp", path.name)
    keyed = times(keyed, path.name)
    rules = {"users": "rows of equal user_feature_* are one user"}
    return RawDisplays(keyed, path.name, [source_entry(path)], rules=rules)


def read_table(request: DisplayRequest) -> RawDisplays:
    """Any table with a display id, an item and a click a row; user, time and split as there are."""
    path = request.source
    frame = _parquet_or_csv(path)
    needed, extra = (DISPLAY_ID, ITEM_ID, CLICK), (USER_ID, ORDER, POSITION, PROPENSITY, SPLIT)
    known = (*needed, TIMESTAMP, *extra)
    for name in request.columns:
        if name not in known:
            raise MfganError(
                f"prepare: --columns must name one of {', '.join(known)}, got {name!r}"
                f"{nearest(name, list(known))}"
            )
    names = {
        name: request.columns.get(name, name)
        for name in known
        if name in needed or name in request.columns or name in frame.columns
    }
    frame = rename(frame, names, path.name)
    if USER_ID not in frame.columns:
        frame = frame.with_columns(pl.col(DISPLAY_ID).alias(USER_ID))
    whole = [name for name in (CLICK, ORDER, POSITION, SPLIT) if name in frame.columns]
    frame = times(integers(frame, whole, path.name), path.name)
    if PROPENSITY in frame.columns:
        frame = _propensities(frame, names[PROPENSITY], path.name)
    if POSITION in frame.columns:
        _refuse(
            frame,
            ~pl.col(POSITION).is_between(0, _LAST_POSITION).fill_null(False),
            f"{names[POSITION]} must be within 0..{_LAST_POSITION}",
            path.name,
        )
    return RawDisplays(frame, path.name, [source_entry(path)])


def _propensities(frame: pl.DataFrame, column: str, name: str) -> pl.DataFrame:
    frame = frame.with_columns(pl.col(PROPENSITY).cast(pl.Float64, strict=False))
    inside = pl.col(PROPENSITY).is_between(0, 1, closed="right").fill_null(False)
    _refuse(frame, ~inside, f"{column} must be within (0, 1]", name)
    return frame


def _refuse(
    frame: pl.DataFrame, wrong: pl.Expr, rule: str, name: str, *, got: str | None = None
) -> None:
    bad = frame.filter(wrong)
    if bad.height:
        came = f", got {bad[got][0] or ''!r}" if got else ""
        raise MfganError(f"{name}: row {bad[ROW][0]:,}: {rule}{came}")


def read_views(request: DisplayRequest) -> RawDisplays:
    """RetailRocket: each view is a display of the viewed item among drawn alternatives."""
    from mfgan.data.displays.sampled import read_retailrocket  # numba loads slowly

    return read_retailrocket(request.source, alternatives=request.alternatives, seed=request.seed)


READERS: dict[str, Callable[[DisplayRequest], RawDisplays]] = {
    "displays-authors": read_authors,
    "displays-trivago": read_trivago,
    "displays-mind": read_mind,
    "displays-open-bandit": read_open_bandit,
    "displays-table": read_table,
    "displays-retailrocket": read_views,
}
FORMATS: tuple[str, ...] = tuple(READERS)
