"""``mfgan datasets``: what public data sets there are, and how to get one."""

import json
from pathlib import Path

import rich_click as click

from mfgan.cli import options


@click.group("datasets")
def command() -> None:
    """List public data sets, or fetch one."""


@command.command("list")
@options.as_json
def list_datasets(as_json: bool) -> None:
    """Show the data sets that `fetch` knows, their formats and licences."""
    from mfgan.console import Reporter
    from mfgan.data.catalogue import CATALOGUE, Entry

    if as_json:
        known = [
            {
                "name": name,
                "format": entry.format,
                "interactions": entry.rows,
                "megabytes": entry.megabytes,
                "licence": entry.licence,
                "home": entry.home,
                "by_hand": not entry.addresses,
            }
            for name, entry in CATALOGUE.items()
        ]
        click.echo(json.dumps(known, indent=2))
        return

    def size(entry: Entry) -> str:
        return "?" if entry.megabytes is None else f"{entry.megabytes:,.1f}"

    rows = [
        [name, entry.format, f"{entry.rows:,}", size(entry), entry.licence]
        for name, entry in CATALOGUE.items()
    ]
    columns = ["name", "--format", "interactions", "MB", "licence"]
    Reporter(quiet=False).table("Public data sets", columns, rows)


@command.command("fetch")
@click.argument("name")
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("data"),
    show_default=True,
    help="The folder to put it in, under its name.",
)
@options.as_json
@options.quiet
def fetch_dataset(name: str, folder: Path, as_json: bool, quiet: bool) -> None:
    """Get the data set NAME from its makers, checked, and kept in a cache."""
    from mfgan.console import Reporter
    from mfgan.data.catalogue import CATALOGUE
    from mfgan.data.fetch import fetch

    reporter = Reporter(quiet=quiet, stderr=as_json)
    path = fetch(name, folder, reporter=reporter)
    entry = CATALOGUE[name]
    source = path if entry.source == "." else path / entry.source
    if as_json:
        click.echo(json.dumps({"path": str(source), "format": entry.format}))
    else:
        reporter.note(f"next: mfgan prepare {source} OUT --format {entry.format}")
