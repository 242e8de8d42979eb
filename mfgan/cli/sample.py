"""``mfgan sample``: what a run's generator proposes, as a table."""

from pathlib import Path

import rich_click as click

from mfgan.cli import options
from mfgan.cli.options import PATH


@click.command("sample")
@options.run
@click.option("--out", required=True, type=PATH, help="Parquet file to write.")
@click.option(
    "--k",
    "count",
    type=options.whole(1),
    default=10,
    show_default=True,
    help="Candidates a position.",
)
@click.option(
    "--method",
    type=click.Choice(["multinomial", "gumbel", "top"]),
    help="Independent draws, draws without replacement, or the most probable.  [default: as in "
    "training]",
)
@click.option(
    "--positions",
    type=options.whole(0),
    default=0,
    show_default=True,
    help="Training positions a user, drawn at random; 0: the last one.",
)
@options.stage
@click.option("--seed", type=options.SEED, help="Of the draws.  [default: the run's]")
@options.threads
@options.as_json
@options.quiet
def command(
    run: Path,
    out: Path,
    count: int,
    method: str | None,
    positions: int,
    stage: str | None,
    seed: int | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Draw candidates from the generator of RUN, never the real next item, into a Parquet file.

    One row a candidate, with the ids of the log: user_id, position, rank, item_id,
    log_probability, next_item_id.
    """
    import json

    from mfgan.config import SampleConfig
    from mfgan.console import Reporter
    from mfgan.training.run import Run
    from mfgan.training.stages.sample import write_samples

    opened = Run.open(run)
    settings = SampleConfig.model_validate(
        {
            "num_candidates": count,
            "positions": positions,
            "method": method or opened.config.sample.method,
        }
    )
    reporter = Reporter(quiet=quiet, stderr=as_json)
    summary = write_samples(
        opened.dataset,
        opened.generator(stage),
        out,
        settings,
        seed=opened.config.seed if seed is None else seed,
        reporter=reporter,
    )
    if as_json:
        click.echo(json.dumps({"file": str(out), **summary}))
    else:
        reporter.note(f"{out}: {summary['rows']:,} candidates of {summary['users']:,} users")
