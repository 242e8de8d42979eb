"""``mfgan policy``: learn what to show simulated users, and judge it on others."""

from pathlib import Path
from typing import Any

import rich_click as click

from mfgan.cli import options
from mfgan.cli.options import PATH


@click.group("policy")
def command() -> None:
    """Learn what to show, on a learned user model: agreement, train, eval, off-policy."""


@command.command("train")
@click.option(
    "--user-model",
    "run_dirs",
    type=PATH,
    required=True,
    multiple=True,
    help="Run of user-model train; repeat to learn from several of them.",
)
@click.option(
    "--validation",
    type=PATH,
    help="A run of user-model train --users validation: keep the policy that earns most from it.",
)
@click.option("--out", type=PATH, required=True, help="Directory of the policy to make.")
@click.option(
    "--set", "overrides", multiple=True, metavar="NAME=VALUE", help="One setting of the policy."
)
@options.seed
@click.option("--overwrite", is_flag=True, help="Replace a policy that is there.")
@options.threads
@options.as_json
@options.quiet
def train(
    run_dirs: tuple[Path, ...],
    validation: Path | None,
    out: Path,
    overrides: tuple[str, ...],
    seed: int,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Train a cascading DQN on the users that a user model was fitted to."""
    from mfgan.console import Reporter
    from mfgan.errors import MfganError
    from mfgan.simulation.train import load_policy_settings, train_policy
    from mfgan.training.user_model.run import UserModelRun

    if out.exists() and not overwrite:
        raise MfganError(f"{out}: must not exist yet, found one; pass --overwrite to replace it")
    settings = load_policy_settings([*overrides, f"seed={seed}"])
    reporter = Reporter(quiet=quiet, stderr=as_json)
    trained = train_policy(
        [UserModelRun.open(one) for one in run_dirs],
        out,
        settings,
        validation=UserModelRun.open(validation) if validation else None,
        reporter=reporter,
    )
    curve = trained["curve"]
    found = {"policy": str(out), "steps": len(curve), "reward at the end": _tail_mean(curve)}
    found |= {name: trained[name] for name in ("validation", "chosen step")}
    if as_json:
        _print(found)
    else:
        reporter.note(
            f"{out}: mean reward of the last displays {found['reward at the end']:.3f}; kept the"
            f" networks of step {found['chosen step']}"
        )


@command.command("eval")
@click.argument("policies", metavar="POLICY...", nargs=-1, required=True, type=PATH)
@click.option(
    "--user-model",
    "run_dir",
    type=PATH,
    required=True,
    help="A user model of other users (user-model train --users held-out).",
)
@click.option("--generator", type=PATH, help="A run of mfgan train, as one more rival.")
@click.option("--num-users", type=options.whole(1), default=1000, show_default=True)
@click.option("--session", help="fixed:N or geometric:N; that of training if not given.")
@click.option("--reward", type=click.Choice(["gain", "utility", "click"]), help="That of training.")
@click.option(
    "--adapt",
    type=options.whole(0),
    default=0,
    show_default=True,
    help="Also go on learning from so many displays to each new user: the adaptation curve.",
)
@click.option("--figure", type=PATH, help="Draw the adaptation curve here, an SVG file.")
@options.seed
@options.threads
@options.as_json
@options.quiet
def evaluate(
    policies: tuple[Path, ...],
    run_dir: Path,
    generator: Path | None,
    num_users: int,
    session: str | None,
    reward: str | None,
    adapt: int,
    figure: Path | None,
    seed: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """Cumulative reward and click rate of each POLICY and its rivals among held-out users.

    Give the policies of several seeds for intervals over seeds; of one alone they are over users.
    """
    from mfgan.console import Reporter
    from mfgan.errors import MfganError
    from mfgan.files import atomic_file
    from mfgan.report.figures import adaptation_figure
    from mfgan.simulation.evaluate import evaluate_policies
    from mfgan.training.user_model.run import UserModelRun

    if figure is not None and not adapt:
        raise MfganError("policy: --figure draws the adaptation curve and needs --adapt")
    reporter = Reporter(quiet=quiet, stderr=as_json)
    found = evaluate_policies(
        policies,
        UserModelRun.open(run_dir),
        generator=generator,
        num_users=num_users,
        session=session,
        reward=reward,
        adapt=adapt,
        seed=seed,
        reporter=reporter,
    )
    if figure is not None:
        with atomic_file(figure) as handle:
            handle.write(adaptation_figure(found).encode())
    if as_json:
        _print(found)
        return
    rows = [
        [
            name,
            *(_interval(cells[m]["mean"], cells[m]["interval"]) for m in ("reward", "click rate")),
        ]
        for name, cells in found["recommenders"].items()
    ]
    title = f"{num_users:,} held-out users; 95 % intervals over {found['intervals over']}"
    Reporter(quiet=False).table(title, ["", "cumulative reward", "click rate"], rows)


@command.command("agreement")
@click.option("--user-model", "run_dirs", type=PATH, required=True, multiple=True)
@click.option(
    "--validation",
    type=PATH,
    required=True,
    help="A user model of other users, as a rule of validation users.",
)
@click.option(
    "--set", "overrides", multiple=True, metavar="NAME=VALUE", help="One setting of the policy."
)
@options.seed
@options.threads
@options.as_json
@click.option("--quiet", is_flag=True, help="Show nothing but the result.")
def agree_on(
    run_dirs: tuple[Path, ...],
    validation: Path,
    overrides: tuple[str, ...],
    seed: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """Whether planning can carry over: what an item leads to, in the user models of two groups.

    Correlations over items. Where that of the later displays is low, a policy trained on one group
    lives off what its user model made up.
    """
    from mfgan.console import Reporter
    from mfgan.simulation.agreement import agree
    from mfgan.simulation.train import load_policy_settings
    from mfgan.training.user_model.run import UserModelRun

    settings = load_policy_settings([*overrides, f"seed={seed}"])
    runs = [UserModelRun.open(one) for one in run_dirs]
    found = agree(runs, UserModelRun.open(validation), settings)
    if as_json:
        _print(found)
        return
    names = {"first": "first display", "later": "displays after it", "whole": "whole session"}
    rows = [[text, f"{found[name]:.2f}"] for name, text in names.items()]
    title = f"correlation over {found['items']:,} first items"
    Reporter(quiet=False).table(title, ["reward", "between the two"], rows)


@command.command("off-policy")
@click.argument("log", type=PATH)
@click.option(
    "--policy",
    default="uniform",
    show_default=True,
    help="uniform, or another prepared log, whose shares of items are the policy's.",
)
@click.option("--clip", type=click.FloatRange(min=0, min_open=True), help="Largest weight.")
@options.seed
@options.as_json
@click.option("--quiet", is_flag=True, help="Show nothing but the result.")
def off_policy(
    log: Path, policy: str, clip: float | None, seed: int, as_json: bool, quiet: bool
) -> None:
    """What another policy would have earned on LOG, displays prepared with propensities."""
    from mfgan.console import Reporter
    from mfgan.simulation.logged import estimate_log

    found = estimate_log(log, policy, clip=clip, seed=seed)
    if as_json:
        _print(found)
        return
    rows = [[e["estimator"], _interval(e["value"], e["interval"], 5)] for e in found["estimates"]]
    Reporter(quiet=False).table(
        f"clicks a round of {policy}; that of the log itself {found['logged']:.5f}",
        ["", "estimate"],
        rows,
    )


def _tail_mean(curve: list[float]) -> float:
    tail = curve[-max(1, len(curve) // 10) :]
    return sum(tail) / max(1, len(tail))


def _print(document: Any) -> None:
    import json

    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def _interval(value: float, bounds: Any, digits: int = 3) -> str:
    return f"{value:.{digits}f} [{bounds[0]:.{digits}f}, {bounds[1]:.{digits}f}]"
