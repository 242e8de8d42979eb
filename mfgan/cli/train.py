"""``mfgan train``: the stages of training on a prepared data set."""

from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from mfgan.cli import options
from mfgan.cli.options import PATH

if TYPE_CHECKING:
    from mfgan.config import RunConfig
    from mfgan.console import Reporter
    from mfgan.training import Run

_STAGES = [
    "all",
    "pretrain-generator",
    "sample",
    "pretrain-discriminator",
    "adversarial",
    "cross-fit",
    "continue-mle",
    "calibrate",
]


@click.command("train")
@click.argument("dataset", type=PATH)
@click.option("--run", "run_dir", type=PATH, required=True, help="Run directory.")
@click.option("--preset", type=click.Choice(["tuned", "paper"]), help="Settings to start from.")
@click.option("--stage", type=click.Choice(_STAGES), default="all", show_default=True)
@click.option(
    "--objective",
    type=click.Choice(["adversarial", "mle"]),
    help="mle: go on with maximum likelihood for the adversarial stage's budget, as its control.",
)
@click.option("--config", type=PATH, help="Settings in a TOML file.")
@options.overrides
@click.option("--seed", type=options.SEED, help="Seed of everything that is drawn.")
@click.option("--device", help="cpu, cuda or cuda:N.")
@click.option(
    "--precision",
    type=click.Choice(["float32", "bf16"]),
    help="bf16: matrix products and attention in half the bits; weights and sums stay float32.",
)
@click.option("--amp", type=click.Choice(["bf16"]), help="The same as --precision.")
@click.option(
    "--cuda-graph/--no-cuda-graph",
    default=None,
    help="Record a step once and replay it: on a GPU, with a token_budget.",
)
@click.option("--threads", type=options.whole(0), help="Threads of the CPU; 0: all cores.")
@click.option("--init", type=PATH, help="Start from another run's weights.")
@click.option("--resume", is_flag=True, help="Go on with the run from its newest checkpoint.")
@options.as_json
@options.quiet
def command(
    dataset: Path,
    run_dir: Path,
    preset: str | None,
    stage: str,
    objective: str | None,
    config: Path | None,
    overrides: tuple[str, ...],
    seed: int | None,
    device: str | None,
    precision: str | None,
    amp: str | None,
    cuda_graph: bool | None,
    threads: int | None,
    init: Path | None,
    resume: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Train on the prepared DATASET, one stage or all, into a run directory.

    The settings are those of the preset, then of --config, then of --set and the options here. With
    --resume and none of them, they are those that the run was begun with.
    """
    from mfgan.console import Reporter
    from mfgan.errors import MfganError
    from mfgan.training import train

    if amp is not None and precision not in (None, amp):
        raise MfganError(f"train: --amp must be what --precision is, got {amp} and {precision}")
    options = {"objective": objective, "seed": seed, "device": device, "threads": threads}
    options |= {"precision": precision or amp}
    extra = [f"{name}={value}" for name, value in options.items() if value is not None]
    if cuda_graph is not None:
        extra.append(f"cuda_graph={str(cuda_graph).lower()}")
    settings = _settings(run_dir, preset, config, [*overrides, *extra], resume)
    reporter = Reporter(quiet=quiet, stderr=as_json)
    run = train(
        dataset, run_dir, settings, stage=stage, init=init, resume=resume, reporter=reporter
    )
    _show(run, reporter, as_json)


def _settings(
    run_dir: Path, preset: str | None, file: Path | None, overrides: list[str], resume: bool
) -> "RunConfig":
    from mfgan.config import load_config, stored_config

    stored = run_dir / "config.toml"
    if resume and preset is None and file is None and stored.exists():
        return stored_config(stored, overrides)
    return load_config(preset or "tuned", file, overrides)


def _show(run: "Run", reporter: "Reporter", as_json: bool) -> None:
    import json

    rows = []
    for stage in run.finished_stages:
        progress = run.store(stage).progress()
        if progress is not None:
            best = progress.best
            rows.append(
                {
                    "stage": stage,
                    "epochs": progress.epoch,
                    "steps": progress.step,
                    "seconds": round(progress.elapsed),
                    "best_epoch": None if best is None else best.epoch,
                    "best_validation": None if best is None else best.value,
                }
            )
    if as_json:
        click.echo(json.dumps({"run": str(run.path), "stages": rows}))
        return
    columns = ["stage", "epochs", "steps", "seconds", "best epoch", "best validation"]
    reporter.table(str(run.path), columns, [[_cell(v) for v in row.values()] for row in rows])


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
