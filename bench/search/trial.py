"""One trial: a training in a process of its own, told to the study as it goes."""

import hashlib
import subprocess
import sys
import time
from pathlib import Path

import optuna

from bench.reproduce.data import DATA
from bench.search.space import SPACE, point_of
from mfgan.config import RunConfig, load_config
from mfgan.errors import MfganError
from mfgan.files import atomic_file, exclusive
from mfgan.training.log import read_rows

STAGE, METRIC = "pretrain-generator", "NDCG@10"
# Of a trial: the settings that were given, and whether the space's others are drawn.
SETTINGS, DRAWN = "settings", "drawn"
_PAUSE = 2.0


def enqueue(study: optuna.Study, data: str, given: tuple[str, ...]) -> None:
    """Have the study try the tuned preset with these settings next, and nothing drawn.

    Args:
        study: The study.
        data: The data set, which has settings of its own.
        given: Texts ``a.b=value``; the space need not hold them. The estimator learns of what it
            holds.

    Raises:
        MfganError: An unknown setting, or a value out of range.
    """
    config = load_config("tuned", overrides=[*DATA[data].settings, *given])
    study.enqueue_trial(point_of(config), user_attrs={SETTINGS: list(given), DRAWN: False})


def requeue_lost(study: optuna.Study, data: str, out: Path) -> None:
    """Have the trials go on whose process is gone, each from its newest checkpoint."""
    for lost in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        if SETTINGS not in lost.user_attrs:
            continue  # its worker has just asked for it
        config = config_of(lost, data)
        try:
            with exclusive(_claim_of(config, out)):
                study.tell(lost.number, state=optuna.trial.TrialState.FAIL)
        except MfganError:
            continue  # it still trains
        study.enqueue_trial(lost.params, user_attrs=lost.user_attrs)


def run_trial(
    study: optuna.Study, data: str, dataset: Path, given: tuple[str, ...], out: Path
) -> None:
    """Train the study's next point; each validation is told, and may end it early.

    Args:
        study: What the trial belongs to.
        data: The data set's name.
        dataset: The prepared data set.
        given: Settings of a trial whose others are drawn, as ``a.b=value``.
        out: Folder of the trials' runs.

    Raises:
        MfganError: The training failed.
    """
    trial = study.ask(SPACE)
    if SETTINGS not in trial.user_attrs:
        trial.set_user_attr(DRAWN, True)
        trial.set_user_attr(SETTINGS, list(given))
    config = config_of(trial, data)
    with exclusive(_claim_of(config, out)):
        _train(study, trial, config, dataset, _run_of(config, out))


def _train(
    study: optuna.Study, trial: optuna.Trial, config: RunConfig, dataset: Path, run: Path
) -> None:
    settings = run.with_suffix(".toml")
    with atomic_file(settings) as handle:
        handle.write(config.to_toml().encode())
    command = [sys.executable, "-m", "mfgan", "train", str(dataset), "--run", str(run)]
    command += ["--config", str(settings), "--stage", STAGE, "--quiet"]
    command += ["--resume"] if (run / "run.json").exists() else []
    training = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        ended_early = _watch(training, trial, run, config.pretrain_generator.epochs)
    finally:
        training.kill()
        training.wait()
    if not ended_early and training.returncode != 0:
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        raise MfganError(f"search: trial {trial.number} must train, see {run}")
    study.tell(trial, max(trial.user_attrs["curve"].values()))


def config_of(trial: optuna.Trial | optuna.trial.FrozenTrial, data: str) -> RunConfig:
    """The settings that a trial trains with."""
    drawn = trial.params if trial.user_attrs[DRAWN] else {}
    texts = [f"{name}={str(v).lower() if isinstance(v, bool) else v}" for name, v in drawn.items()]
    return load_config(
        "tuned", overrides=[*DATA[data].settings, *texts, *trial.user_attrs[SETTINGS]]
    )


def _run_of(config: RunConfig, out: Path) -> Path:
    """Equal settings share a run, so that a trial that was cut goes on."""
    digest = hashlib.sha256(config.to_toml().encode()).hexdigest()[:12]
    return out / "trials" / digest


def _claim_of(config: RunConfig, out: Path) -> Path:
    """Whose lock says that a worker has this trial in hand."""
    return out / "claims" / _run_of(config, out).name


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
