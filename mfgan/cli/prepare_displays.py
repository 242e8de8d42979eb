"""The options and the work of ``mfgan prepare --format displays-…``."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import rich_click as click

from mfgan.cli import options
from mfgan.errors import MfganError

Command = TypeVar("Command", bound=Callable[..., Any])

PREFIX = "displays-"
_OPTIONS = (
    click.option(
        "--clicks",
        type=click.Choice(["one", "split"]),
        default="one",
        show_default=True,
        help="Displays: one click each, or several clicks make as many events.",
    ),
    click.option("--drop-bad", is_flag=True, help="Displays: leave out those that break a rule."),
    click.option(
        "--resplit", type=options.SEED, metavar="SEED", help="Displays: draw the users' parts."
    ),
    click.option(
        "--alternatives",
        type=options.whole(),
        default=9,
        show_default=True,
        help="Displays of RetailRocket: items drawn beside each viewed one.",
    ),
    click.option(
        "--seed", type=options.SEED, default=0, show_default=True, help="Displays: of all draws."
    ),
)
_MINE = ("clicks", "drop_bad", "resplit", "alternatives", "seed")
_SHARED = ("source", "out", "format", "items", "columns", "overwrite", "as_json", "quiet")


def display_options(command: Command) -> Command:
    """Add the options that only displays have."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def refuse_strangers(context: click.Context, format: str) -> None:
    """Options of the other kind of data are a mistake, not something to pass over.

    Raises:
        MfganError: One was given.
    """
    is_displays = format.startswith(PREFIX)
    for name in context.params:
        given = context.get_parameter_source(name)
        if given is None or given.name != "COMMANDLINE":
            continue
        mine = name in _MINE  # an option of displays
        if name not in _SHARED and mine != is_displays:
            option = "--" + name.replace("_", "-")
            raise MfganError(f"prepare: {option} does not go with --format {format}")


def prepare(
    source: str,
    out: Path,
    *,
    format: str,
    items: str | None,
    columns: Mapping[str, str],
    overwrite: bool,
    as_json: bool,
    quiet: bool,
    options: Mapping[str, Any],
) -> None:
    """Prepare displays; ``items`` is a table of numbers that become the factor ``features``."""
    import json

    from mfgan.console import Reporter
    from mfgan.data.displays import prepare_displays

    dataset = prepare_displays(
        source,
        out,
        format=format,
        columns=columns,
        features=items,
        overwrite=overwrite,
        reporter=Reporter(quiet=quiet, stderr=as_json),
        **options,
    )
    if as_json:
        click.echo(json.dumps(dataset.manifest, indent=2, ensure_ascii=False))
