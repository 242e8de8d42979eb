"""``mfgan user-model``: learn how users choose from what they are shown."""

from math import isfinite
from pathlib import Path
from typing import Any

import rich_click as click

from mfgan.cli import options
from mfgan.cli.options import PATH

_CHECKPOINTS = ["chosen", "best-loss", "best-P@1", "best-P@2", "last"]
_OBJECTIVES = ["shannon", "l2", "adversarial-shannon", "adversarial-l2"]


@click.group("user-model")
def command() -> None:
    """Learn how users choose from what they are shown: train, eval, compare."""


@command.command("train")
@click.argument("dataset", type=PATH)
@click.option("--run", "run_dir", type=PATH, required=True, help="Run directory to make.")
@click.option("--preset", type=click.Choice(["tuned", "paper"]), default="tuned", show_default=True)
@click.option("--config", type=PATH, help="Settings in a TOML file.")
@options.overrides
@click.option("--objective", type=click.Choice(_OBJECTIVES), help="shannon unless the file says.")
@click.option(
    "--users",
    type=click.Choice(["train", "validation", "test", "held-out"]),
    help="Whom to fit; held-out: validation and test. Policies are judged on users never seen.",
)
@click.option("--seed", type=options.SEED, help="Of weights, batches and dropout.")
@click.option("--device", help="cpu, cuda or cuda:N.")
@click.option("--threads", type=options.whole(0), help="CPU threads; 0: as torch chooses.")
@click.option("--init", type=PATH, help="Warm start from the Shannon stage of another run.")
@click.option("--resume", is_flag=True, help="Go on from the run's last checkpoint.")
@options.as_json
@options.quiet
def train(
    dataset: Path,
    run_dir: Path,
    preset: str,
    config: Path | None,
    overrides: tuple[str, ...],
    objective: str | None,
    users: str | None,
    seed: int | None,
    device: str | None,
    threads: int | None,
    init: Path | None,
    resume: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Train a user model on the displays in DATASET.

    Validation users choose the checkpoints best-loss, best-P@1 and best-P@2; test users are not
    looked at.
    """
    import torch

    from mfgan.console import Reporter
    from mfgan.data.displays import DisplayDataset
    from mfgan.training.user_model.compare import evaluate_run
    from mfgan.training.user_model.config import load_settings
    from mfgan.training.user_model.run import train_user_model

    chosen = {"objective": objective, "users": users, "seed": seed, "device": device}
    chosen["threads"] = threads
    extra = [f"{name}={value}" for name, value in chosen.items() if value is not None]
    file = run_dir / "config.toml" if resume and config is None else config
    settings = load_settings(preset, file, [*overrides, *extra])
    if settings.threads:
        torch.set_num_threads(settings.threads)
    reporter = Reporter(quiet=quiet, stderr=as_json)
    run = train_user_model(
        DisplayDataset.open(dataset), run_dir, settings, init=init, resume=resume, reporter=reporter
    )
    found = {
        "run": str(run_dir),
        "stages": run.stages,
        "validation": evaluate_run(run, "validation"),
    }
    _show(found, reporter, as_json, {"validation": found["validation"]})


@command.command("eval")
@click.argument("run_dir", metavar="RUN", type=PATH)
@click.option("--data", "dataset", type=PATH, help="The displays, where they have moved.")
@click.option(
    "--part",
    type=click.Choice(["train", "validation", "test"]),
    default="test",
    show_default=True,
)
@click.option(
    "--checkpoint",
    type=click.Choice(_CHECKPOINTS),
    default="chosen",
    show_default=True,
    help="chosen: each figure from the checkpoint that validation chose for it.",
)
@click.option("--fidelity", is_flag=True, help="Also say how far to trust it as a simulator.")
@options.threads
@options.as_json
@options.quiet
def evaluate(
    run_dir: Path,
    dataset: Path | None,
    part: str,
    checkpoint: str,
    fidelity: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Log-likelihood, P@1, P@2 and calibration of RUN beside the random and popularity floors."""
    from mfgan.console import Reporter
    from mfgan.data.displays import DisplayDataset
    from mfgan.data.displays.batch import EventStore
    from mfgan.evaluation.choice import evaluate_choice, floors, judged_users
    from mfgan.simulation.fidelity import fidelity as judge
    from mfgan.training.user_model.compare import evaluate_run
    from mfgan.training.user_model.run import UserModelRun, fitted_users

    run = UserModelRun.open(run_dir, dataset=DisplayDataset.open(dataset) if dataset else None)
    data, seed = run.dataset, run.settings.seed
    store, users = EventStore(data), judged_users(data, part)
    rows: dict[str, Any] = {}
    for name, scorer in floors(data, fitted_users(data, run.settings)).items():
        rows[name] = _cells(evaluate_choice(store.batches(users), scorer, seed=seed))
    if checkpoint == "chosen":
        rows["model"] = evaluate_run(run, part)
    else:
        found = evaluate_choice(store.batches(users), run.user(checkpoint), seed=seed)
        rows["model"] = _cells(found)
    document: dict[str, Any] = {"run": str(run_dir), "part": part, "metrics": rows}
    reporter = Reporter(quiet=quiet and not as_json, stderr=as_json)
    if fidelity:
        document["fidelity"] = judge(run.user(), data, users, seed=seed)
    _show(document, reporter, as_json, rows)
    if fidelity and not as_json:
        _show_fidelity(document["fidelity"], reporter)


@command.command("compare")
@click.argument("out", type=PATH)
@click.option(
    "--data", "data", multiple=True, required=True, type=PATH, help="Prepared displays; repeat."
)
@click.option("--preset", type=click.Choice(["tuned", "paper"]), default="tuned", show_default=True)
@options.overrides
@click.option("--seeds", type=options.whole(1), default=5, show_default=True)
@click.option("--figure", type=PATH, help="Draw it here, an SVG file.")
@options.threads
@options.as_json
@options.quiet
def compare(
    out: Path,
    data: tuple[Path, ...],
    preset: str,
    overrides: tuple[str, ...],
    seeds: int,
    figure: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Six models, several seeds: what pre-training, L2 and batch normalisation are good for.

    Runs go to OUT; one that is there is not done again, so a stopped comparison goes on.
    """
    from mfgan.console import Reporter
    from mfgan.data.displays import DisplayDataset
    from mfgan.files import atomic_file
    from mfgan.report.figures import comparison_figure
    from mfgan.training.user_model.compare import compare_models

    reporter = Reporter(quiet=quiet, stderr=as_json)
    found = compare_models(
        {path.name: DisplayDataset.open(path) for path in data},
        out,
        preset=preset,
        overrides=overrides,
        seeds=range(seeds),
        reporter=reporter,
    )
    if figure is not None:
        with atomic_file(figure) as handle:
            handle.write(comparison_figure(found).encode())
    if as_json:
        _print(found)
        return
    _show_comparison(found, Reporter(quiet=False))


def _print(document: Any) -> None:
    import json

    click.echo(json.dumps(_known(document), indent=2, ensure_ascii=False, allow_nan=False))


def _known(document: Any) -> Any:
    """What is no number, such as an interval over one seed, is null in JSON."""
    if isinstance(document, dict):
        return {name: _known(value) for name, value in document.items()}
    if isinstance(document, (list, tuple)):
        return [_known(value) for value in document]
    return None if isinstance(document, float) and not isfinite(document) else document


def _cells(found: Any) -> dict[str, Any]:
    return {
        name: {"value": value, "interval": list(found.intervals[name])}
        for name, value in found.metrics.items()
    }


def with_interval(value: float, bounds: Any) -> str:
    """A figure, and its bounds behind it where it has any."""
    shown = f"{value:.3f}"
    # Of one seed there is none.
    return f"{shown} [{bounds[0]:.3f}, {bounds[1]:.3f}]" if isfinite(bounds[0]) else shown


def _show(document: Any, reporter: Any, as_json: bool, rows: Any) -> None:
    if as_json:
        _print(document)
        return
    table = [
        [
            name,
            *(
                with_interval(cells[name]["value"], cells[name]["interval"])
                for cells in rows.values()
            ),
        ]
        for name in next(iter(rows.values()))
    ]
    reporter.table("95 % intervals over events", ["", *rows], table)


def _show_fidelity(found: Any, reporter: Any) -> None:
    for name, cells in found["slices"].items():
        rows = [
            [
                cell["slice"],
                f"{cell['rows']:,}",
                with_interval(cell["real"], cell["interval"]),
                f"{cell['simulated']:.3f}",
            ]
            for cell in cells
        ]
        reporter.table(name, ["", "rows", "clicked", "simulated"], rows)
    reporter.note(found["verdict"])


def _show_comparison(found: Any, reporter: Any) -> None:
    for name, summary in found["summary"].items():
        metrics = ["P@1", "P@2", "log-likelihood", "ECE"]
        rows = [
            [floor, *(f"{cells['metrics'][metric]:.3f}" for metric in metrics)]
            for floor, cells in found["floors"][name].items()
        ]
        for model, parts in summary["models"].items():
            cells = [
                with_interval(parts["test"][m]["mean"], parts["test"][m]["interval"])
                for m in metrics
            ]
            rows.append([model, *cells])
        title = f"{name}, test; 95 % intervals over {len(found['seeds'])} seeds"
        reporter.table(title, ["", *metrics], rows)
        reporter.note(f"Chosen on validation: {summary['chosen on validation by P@1']}")
        for claim in found["conclusions"][name]:
            said = with_interval(claim["difference"], claim["interval"])
            reporter.note(f"{claim['claim']}: {claim['verdict']} ({claim['metric']} {said})")
