"""All trials of a study as a Markdown table, the best first."""

import optuna

from bench.search.trial import Search
from mfgan.config.run_config import flatten

HEAD = "| NDCG@10 | HR@10 | best epoch | epochs | minutes | unlike `tuned` |\n" + "|---" * 6 + "|"


def table(search: Search) -> str:
    """Every trial that was validated once, compared with the data set's own settings.

    Returns:
        Markdown. Figures are of the validation split.
    """
    trials = [trial for trial in search.study.get_trials() if "figures" in trial.user_attrs]
    trials = [trial for trial in trials if trial.state != optuna.trial.TrialState.FAIL]
    trials.sort(key=lambda trial: -trial.user_attrs["figures"]["NDCG@10"])
    return "\n".join([HEAD, *(line(search, trial) for trial in trials)])


def line(search: Search, trial: optuna.trial.FrozenTrial) -> str:
    """The table's row of a trial that was validated once."""
    base, config = search.ground.config(), search.config_of(trial)
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
