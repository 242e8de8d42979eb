"""All trials of a study as a Markdown table, the best first."""

import optuna

from bench.reproduce.data import DATA
from bench.search.trial import config_of
from mfgan.config import load_config
from mfgan.config.run_config import flatten

_HEAD = "| NDCG@10 | HR@10 | best epoch | epochs | minutes | unlike `tuned` |"


def table(study: optuna.Study, data: str) -> str:
    """Every trial that was validated once.

    Args:
        study: The study.
        data: The data set whose ``tuned`` settings trials are compared with.

    Returns:
        Markdown. Figures are of the validation split.
    """
    trials = [trial for trial in study.get_trials() if "figures" in trial.user_attrs]
    trials = [trial for trial in trials if trial.state != optuna.trial.TrialState.FAIL]
    trials.sort(key=lambda trial: -trial.user_attrs["figures"]["NDCG@10"])
    lines = [_HEAD, "|---" * 6 + "|"]
    return "\n".join([*lines, *(_line(trial, data) for trial in trials)])


def _line(trial: optuna.trial.FrozenTrial, data: str) -> str:
    base = load_config("tuned", overrides=DATA[data].settings)
    config = config_of(trial, data)
    values = dict(flatten(config.model_dump()))
    apart = [f"{_short(name)} {values[name]}" for name in config.differences(base)]
    apart = [text for text in apart if not text.startswith("threads ")]
    found, epochs = trial.user_attrs, config.pretrain_generator.epochs
    done = max(map(int, found["curve"]))
    cells = [
        f"{found['figures']['NDCG@10']:.4f}",
        f"{found['figures']['HR@10']:.4f}",
        str(found["best_epoch"]),
        str(epochs) if done == epochs else f"{done} of {epochs}",
        f"{found['minutes']:.0f}",
        ", ".join(sorted(apart)) or "–",
    ]
    return f"| {' | '.join(cells)} |"


def _short(name: str) -> str:
    return name.rpartition(".")[2]
