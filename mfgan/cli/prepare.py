"""``mfgan prepare``: from a raw log to a prepared directory."""

from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

import rich_click as click

from mfgan.cli import options
from mfgan.cli.options import PATH
from mfgan.cli.prepare_displays import PREFIX, display_options, refuse_strangers
from mfgan.cli.prepare_displays import prepare as prepare_displays
from mfgan.errors import MfganError

Number = TypeVar("Number", int, float)

_FORMATS = (
    "ml-100k, ml-1m, movielens-csv, steam, retailrocket, sequences or table; of displays:"
    " displays-authors, -trivago, -mind, -open-bandit, -retailrocket or -table"
)


@click.command("prepare")
@click.argument("source")
@click.argument("out", type=PATH)
@click.option("--format", "format", default="table", show_default=True, help=_FORMATS + ".")
@click.option("--items", metavar="TABLE", help="A table of attributes to join by item id.")
@click.option(
    "--columns",
    multiple=True,
    metavar="OURS=THEIRS",
    help="Which column is which: user_id, item_id, timestamp, order. Several with commas or again.",
)
@click.option(
    "--k-core",
    type=options.whole(),
    default=5,
    show_default=True,
    help="Users and items keep at least so many interactions; 1 switches it off.",
)
@click.option("--split", type=click.Choice(["leave-one-out", "temporal"]), default="leave-one-out")
@click.option(
    "--quantiles",
    metavar="A,B",
    help="Temporal: shares of the interactions before validation and test; 0.8,0.9 if not given.",
)
@click.option(
    "--cut-times", metavar="A,B", help="Temporal: the two times, as ISO dates or milliseconds."
)
@click.option("--max-len", type=options.whole(), help="Users keep their last so many interactions.")
@click.option(
    "--factors", metavar="NAME,…", help="Attributes to make factors of; all if not given."
)
@click.option(
    "--min-count",
    type=options.whole(),
    default=1,
    show_default=True,
    help="Values of fewer items are pooled into one.",
)
@click.option(
    "--co-occurrence",
    type=options.whole(),
    metavar="WIDTH",
    help="Also make the factor co_occurrence: vectors by which users have items in common.",
)
@click.option(
    "--duplicates",
    type=click.Choice(["drop", "once", "keep"]),
    default="drop",
    show_default=True,
    help="drop: of rows with the same user, item and time the first stays; once: of those with the"
    " same user and item; keep: all.",
)
@click.option(
    "--short-histories",
    type=click.Choice(["error", "train", "drop"]),
    default="error",
    show_default=True,
    help="Leave-one-out, users with fewer than three interactions: stop, train on them, drop them.",
)
@click.option(
    "--max-bad-lines",
    type=options.whole(),
    default=0,
    show_default=True,
    help="How many records that cannot be read are left out before it is an error.",
)
@click.option("--name", help="What the data set is called; the name of OUT if not given.")
@click.option("--overwrite", is_flag=True, help="Replace OUT if it is there.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as one JSON document.")
@options.quiet
@display_options
@click.pass_context
def command(
    context: click.Context,
    /,
    source: str,
    out: Path,
    format: str,
    items: str | None,
    columns: tuple[str, ...],
    k_core: int,
    split: str,
    quantiles: str | None,
    cut_times: str | None,
    max_len: int | None,
    factors: str | None,
    min_count: int,
    co_occurrence: int | None,
    duplicates: str,
    short_histories: str,
    max_bad_lines: int,
    name: str | None,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
    **displays: Any,
) -> None:
    """Clean the log SOURCE, number its users and items, make factors, split it; write it to OUT.

    The formats displays-… are logs that say what was shown: they make the data of user-model.
    """
    refuse_strangers(context, format)
    if format.startswith(PREFIX):
        return prepare_displays(
            source,
            out,
            format=format,
            items=items,
            columns=_columns(columns),
            overwrite=overwrite,
            as_json=as_json,
            quiet=quiet,
            options=displays,
        )
    from mfgan.console import Reporter
    from mfgan.data.prepare import prepare
    from mfgan.data.split import QUANTILES

    shares = QUANTILES if quantiles is None else _pair("--quantiles", quantiles, float)
    dataset = prepare(
        source,
        out,
        format=format,
        items=items,
        columns=_columns(columns),
        k_core=k_core,
        split=split,  # type: ignore[arg-type]
        quantiles=shares,
        times=None if cut_times is None else _pair("--cut-times", cut_times, _time),
        max_len=max_len,
        factors=None if factors is None else [word for word in factors.split(",") if word],
        min_count=min_count,
        co_occurrence=co_occurrence,
        duplicates=duplicates,  # type: ignore[arg-type]
        short_histories=short_histories,  # type: ignore[arg-type]
        max_bad_lines=max_bad_lines,
        name=name,
        overwrite=overwrite,
        reporter=Reporter(quiet=quiet, stderr=as_json),
    )
    if as_json:
        import json

        click.echo(json.dumps(dataset.manifest, ensure_ascii=False))


def _columns(options: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for pair in ",".join(options).split(","):
        if not pair:
            continue
        ours, mark, theirs = pair.partition("=")
        if not (ours and mark and theirs):
            raise MfganError(f"prepare: --columns must be OURS=THEIRS, got {pair!r}")
        found[ours] = theirs
    return found


def _pair(option: str, text: str, read: Callable[[str], Number]) -> tuple[Number, Number]:
    words = text.split(",")
    try:
        first, second = map(read, words)
    except ValueError:
        raise MfganError(f"prepare: {option} must be two, with a comma, got {text!r}") from None
    return first, second


def _time(text: str) -> int:
    """Milliseconds since 1970 UTC of a date, a date and time, or milliseconds."""
    if text.lstrip("-").isdigit():
        return int(text)
    when = datetime.fromisoformat(text)
    if when.tzinfo is None:
        when = when.replace(tzinfo=timezone.utc)
    return round(when.timestamp() * 1000)
