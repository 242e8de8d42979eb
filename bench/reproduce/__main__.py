"""``python -m bench.reproduce ROW --data ml-1m``: one row of the table of record.

``--data FOLDER`` takes a folder that ``mfgan prepare`` made instead. ``python -m bench.reproduce
table`` prints the table of all results.
"""

import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from bench.reproduce.data import DATA, ground
from bench.reproduce.rows import find_row
from bench.reproduce.run import reproduce
from bench.reproduce.table import table
from mfgan.console import Reporter
from mfgan.errors import MfganError


@click.command()
@click.argument("rows", nargs=-1, required=True, metavar="ROW…|table")
@click.option("--data", default="ml-1m", show_default=True, metavar="|".join([*DATA, "FOLDER"]))
@click.option("--set", "settings", multiple=True, help="a.b=value, for a folder of your own.")
@click.option("--seeds", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--seed", "only", type=click.IntRange(min=0), help="This one alone.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("reproduction"))
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Seeds at once, each in a process of its own with --threads.",
)
def main(
    rows: tuple[str, ...],
    data: str,
    settings: tuple[str, ...],
    seeds: int,
    only: int | None,
    out: Path,
    threads: int,
    jobs: int,
) -> None:
    """Train and evaluate rows with seeds 0, 1, …; what is there already is kept."""
    try:
        if rows == ("table",):
            click.echo(table(out))
            return
        reporter = Reporter(quiet=False, stderr=True)
        # Before the processes that share it begin.
        where = ground(data, out, reporter, settings)
        for row in rows:
            find_row(row, where.judges)  # a mistake in the last shows before the first is trained
        wanted = range(seeds) if only is None else (only,)
        if jobs > 1 and len(wanted) > 1:
            raise SystemExit(_at_once(wanted, jobs))
        for seed in wanted:
            for row in rows:
                click.echo(reproduce(row, where, seed, out, threads=threads, reporter=reporter))
    except MfganError as error:
        raise SystemExit(f"error: {error}") from None


def _at_once(seeds: Sequence[int], jobs: int) -> int:
    """This command once for each seed, as many at once as there are jobs; the worst exit status."""

    def run(seed: int) -> int:
        # The last of an option that is given twice counts.
        own = [*sys.argv[1:], "--jobs", "1", "--seed", str(seed)]
        command = [sys.executable, "-m", "bench.reproduce", *own]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            for line in process.stderr:
                click.echo(f"seed {seed}: {line}", nl=False, err=True)
        return process.returncode

    with ThreadPoolExecutor(jobs) as pool:
        # Of one that a signal has ended it is negative.
        return max(map(abs, pool.map(run, seeds)))


main()
