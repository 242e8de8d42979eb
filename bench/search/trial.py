"""One trial: a training in a process of its own, told to the study as it goes."""

import hashlib
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import optuna

from bench.reproduce.data import Ground
from bench.search.space import SPACE, point_of
from mfgan.config import RunConfig
from mfgan.errors import MfganError
from mfgan.files import atomic_file, exclusive
from mfgan.training.log import read_rows

STAGE, METRIC = "pretrain-generator", "NDCG@10"
# Of a trial: the settings that were given, and whether the space's others are drawn.
SETTINGS, DRAWN = "settings", "drawn"
_PAUSE = 2.0


@dataclass(frozen=True)
class Search:
    """A study of one data set.

    Args:
        study: Its trials.
        ground: The data set, with settings of its own.
        out: Folder of the trials' runs.
    """

    study: optuna.Study
    ground: Ground
    out: Path

    def config_of(self, trial: optuna.Trial | optuna.trial.FrozenTrial) -> RunConfig:
        """The settings that a trial trains with."""
        drawn = trial.params if trial.user_attrs[DRAWN] else {}
        texts = [
            f"{name}={str(v).lower() if isinstance(v, bool) else v}" for name, v in drawn.items()
        ]
        return self.ground.config(*texts, *trial.user_attrs[SETTINGS])

    def run_of(self, config: RunConfig) -> Path:
        """Equal settings share a run, so that a trial that was cut goes on."""
        digest = hashlib.sha256(config.to_toml().encode()).hexdigest()[:12]
        return self.out / "trials" / f"{self.ground.name}-{digest}"

    def claim_of(self, config: RunConfig) -> Path:
        """Whose lock says that a worker has this trial in hand."""
        return self.out / "claims" / self.run_of(config).name


def enqueue(search: Search, given: tuple[str, ...]) -> None:
    """Have the study try the tuned preset with these settings next, and nothing drawn.

    Args:
        search: The study.
        given: Texts ``a.b=value``; settings that the search does not choose may have any value.

    Raises:
        MfganError: An unknown setting, a value out of range, or one that the space does not hold.
    """
    point = point_of(search.ground.config(*given))
    search.study.enqueue_trial(point, user_attrs={SETTINGS: list(given), DRAWN: False})


def requeue_lost(search: Search) -> None:
    """Have the trials go on whose process is gone, each from its newest checkpoint."""
    study = search.study
    for lost in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        if SETTINGS not in lost.user_attrs:
            continue  # its worker has just asked for it
        try:
            with exclusive(search.claim_of(search.config_of(lost))):
                study.tell(lost.number, state=optuna.trial.TrialState.FAIL)
        except MfganError:
            continue  # it still trains
        study.enqueue_trial(lost.params, user_attrs=lost.user_attrs)


def run_trial(search: Search, given: tuple[str, ...]) -> optuna.trial.FrozenTrial:
    """Train the study's next point; each validation is told, and may end it early.

    Args:
        search: What the trial belongs to.
        given: Settings of a trial whose others are drawn, as ``a.b=value``.

    Returns:
        The trial as it ended.

    Raises:
        MfganError: The training failed.
    """
    trial = search.study.ask(SPACE)
    if SETTINGS not in trial.user_attrs:
        trial.set_user_attr(DRAWN, True)
        trial.set_user_attr(SETTINGS, list(given))
    config = search.config_of(trial)
    with exclusive(search.claim_of(config)):
        return _train(search, trial, config)


def _train(search: Search, trial: optuna.Trial, config: RunConfig) -> optuna.trial.FrozenTrial:
    run = search.run_of(config)
    settings = run.with_suffix(".toml")
    with atomic_file(settings) as handle:
        handle.write(config.to_toml().encode())
    dataset = str(search.ground.dataset.path)
    command = [sys.executable, "-m", "mfgan", "train", dataset, "--run", str(run)]
    command += ["--config", str(settings), "--stage", STAGE, "--quiet"]
    command += ["--resume"] if (run / "run.json").exists() else []
    training = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        ended_early = _watch(training, trial, run, config.pretrain_generator.epochs)
    finally:
        training.kill()
        training.wait()
    if not ended_early and training.returncode != 0:
        search.study.tell(trial, state=optuna.trial.TrialState.FAIL)
        raise MfganError(f"search: trial {trial.number} must train, see {run}")
    return search.study.tell(trial, max(trial.user_attrs["curve"].values()))


def _watch(
    training: "subprocess.Popen[bytes]", trial: optuna.Trial, run: Path, epochs: int
) -> bool:
    """Tell the trial its validations until training ends; whether the study ends it early."""
    curve: dict[str, float] = {}
    running = True
    while running:
        running = training.poll() is None
        if running:
            time.sleep(_PAUSE)
        log = run / "metrics.jsonl"
        for row in read_rows(log) if log.exists() else []:
            epoch = row["epoch"]
            if "validation" not in row or str(epoch) in curve:
                continue
            curve[str(epoch)] = row["validation"][METRIC]
            trial.report(row["validation"][METRIC], round(100 * epoch / epochs))
            if row["best"]:
                trial.set_user_attr("figures", row["validation"])
                trial.set_user_attr("best_epoch", epoch)
            trial.set_user_attr("curve", curve)
            trial.set_user_attr("minutes", row["elapsed"] / 60)
            if epoch < epochs and trial.should_prune():
                return True
    return False
