"""``mfgan report``: one offline page about a run."""

from pathlib import Path

import rich_click as click

from mfgan.cli import options
from mfgan.cli.options import PATH


@click.command("report")
@options.run
@click.option("--out", type=PATH, help="File to write.  [default: RUN/report.html]")
@options.stage
@options.controls
@options.seed
@options.device
@options.threads
@click.option("--json", "as_json", is_flag=True, help="Print the path as JSON.")
@options.quiet
def command(
    run: Path,
    out: Path | None,
    stage: str | None,
    controls: tuple[Path, ...],
    seed: int,
    device: str,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write a page about RUN that needs no network: accuracy, factors, curves, data, settings."""
    import json

    from mfgan.console import Reporter
    from mfgan.report.page import write_report

    reporter = Reporter(quiet=quiet, stderr=as_json)
    path = write_report(
        run, out, stage=stage, controls=controls, device=device, seed=seed, reporter=reporter
    )
    if as_json:
        click.echo(json.dumps({"report": str(path)}))
    else:
        reporter.note(str(path))
