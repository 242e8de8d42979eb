"""``mfgan report``: one offline page about a run."""

from pathlib import Path

import rich_click as click


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), help="File to write.  [default: RUN/report.html]"
)
@click.option("--stage", help="Weights of this stage.  [default: the last]")
@click.option(
    "--control",
    "controls",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Another run to compare with; may be given again.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: all cores]")
@click.option("--json", "as_json", is_flag=True, help="Print the path as JSON.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
def command(
    run: Path,
    out: Path | None,
    stage: str | None,
    controls: tuple[Path, ...],
    seed: int,
    device: str,
    threads: int | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write a page about RUN that needs no network: accuracy, factors, curves, data, settings."""
    import json

    import torch

    from mfgan.console import Reporter
    from mfgan.report.page import write_report

    if threads:
        torch.set_num_threads(threads)
    reporter = Reporter(quiet=quiet, stderr=as_json)
    path = write_report(
        run, out, stage=stage, controls=controls, device=device, seed=seed, reporter=reporter
    )
    if as_json:
        click.echo(json.dumps({"report": str(path)}))
    else:
        reporter.note(str(path))
