"""``python -m bench.reproduce ROW --data ml-1m``: one row of the table of record.

``--data FOLDER`` takes a folder that ``mfgan prepare`` made instead. ``python -m bench.reproduce
table`` prints the table of all results.
"""

from pathlib import Path

import click

from bench.reproduce.data import DATA, ground
from bench.reproduce.run import reproduce
from bench.reproduce.table import table
from mfgan.console import Reporter
from mfgan.errors import MfganError


@click.command()
@click.argument("rows", nargs=-1, required=True, metavar="ROW…|table")
@click.option("--data", default="ml-1m", show_default=True, metavar="|".join([*DATA, "FOLDER"]))
@click.option("--set", "settings", multiple=True, help="a.b=value, for a folder of your own.")
@click.option("--seeds", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("reproduction"))
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
def main(
    rows: tuple[str, ...], data: str, settings: tuple[str, ...], seeds: int, out: Path, threads: int
) -> None:
    """Train and evaluate rows with seeds 0, 1, …; what is there already is kept."""
    try:
        if rows == ("table",):
            click.echo(table(out))
            return
        reporter = Reporter(stderr=True)
        where = ground(data, out, reporter, settings)
        for seed in range(seeds):
            for row in rows:
                click.echo(reproduce(row, where, seed, out, threads=threads, reporter=reporter))
    except MfganError as error:
        raise SystemExit(f"error: {error}") from None


main()
