"""``python -m bench.search run --data ml-1m --trials 8 --out DIR``: try settings of the generator.

Points are drawn by a tree-structured Parzen estimator from the trials before; ``--try`` adds points
of one's own. Workers may run side by side, be killed, and go on. ``python -m bench.search table``
prints all trials.
"""

import signal
import sys
from pathlib import Path

import click
import optuna

from bench.reproduce.data import DATA, Ground, ground
from bench.search.space import point_of
from bench.search.table import HEAD, line, table
from bench.search.trial import Search, enqueue, requeue_lost, run_trial
from mfgan.console import Reporter
from mfgan.errors import MfganError

_FINGERPRINT = "fingerprint"
_data = click.option(
    "--data", default="ml-1m", show_default=True, metavar="|".join([*DATA, "FOLDER"])
)
_out = click.option("--out", type=click.Path(path_type=Path), default=Path("reproduction"))


@click.group(help=__doc__)
def main() -> None:
    """The commands."""


@main.command()
@_data
@_out
@click.option("--trials", type=click.IntRange(min=0), default=1, show_default=True)
@click.option("--try", "points", multiple=True, help="A point of your own: a.b=value c.d=value …")
@click.option("--set", "given", multiple=True, help="a.b=value, of all trials that are drawn.")
@click.option("--seed", default=0, show_default=True, help="Of the points that are drawn.")
def run(
    data: str, out: Path, trials: int, points: tuple[str, ...], given: tuple[str, ...], seed: int
) -> None:
    """Run trials: those that were cut, those of one's own, then drawn ones."""
    # A worker that is told to end takes its training with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    own = [tuple(point.split()) for point in points]
    where = _ground(data, out)
    # A mistake in any shows before the study is touched.
    where.config(*given)
    for settings in own:
        point_of(where.config(*settings))
    search = _search(where, out, seed)
    requeue_lost(search)
    for point in own:
        enqueue(search, point)
    click.echo(HEAD)
    for _ in range(trials):
        click.echo(line(search, run_trial(search, given)))


@main.command("table")
@_data
@_out
def show(data: str, out: Path) -> None:
    """Print all trials, the best first."""
    click.echo(table(_search(_ground(data, out), out, 0)))


def _ground(data: str, out: Path) -> Ground:
    return ground(data, out, Reporter(quiet=False, stderr=True))


def _search(where: Ground, out: Path, seed: int) -> Search:
    out.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name=where.name,
        storage=f"sqlite:///{out / 'search.db'}",
        load_if_exists=True,
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=40),
    )
    made_of = where.dataset.fingerprint
    if study.user_attrs.get(_FINGERPRINT, made_of) != made_of:
        raise MfganError(f"{out / 'search.db'}: {where.name} was other data; choose another --out")
    study.set_user_attr(_FINGERPRINT, made_of)
    return Search(study, where, out)


try:
    main()
except MfganError as error:
    raise SystemExit(f"error: {error}") from None
