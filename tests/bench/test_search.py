"""The search: what a trial tries, what it leaves behind, and how a cut one goes on."""

import numpy as np
import optuna
import pytest

from bench.reproduce.data import Data
from bench.search import trial as trials
from bench.search.space import SPACE, point_of
from bench.search.table import table
from bench.search.trial import DRAWN, SETTINGS, config_of, enqueue, requeue_lost, run_trial
from mfgan.config import load_config
from mfgan.data.prepare import prepare
from mfgan.errors import MfganError
from mfgan.files import exclusive
from mfgan.training.log import read_rows

SMALL = (
    "generator.hidden_dim=8",
    "generator.num_blocks=1",
    "generator.max_len=10",
    "threads=1",
    "pretrain_generator.epochs=2",
    "pretrain_generator.evaluate_every=1",
)


@pytest.fixture
def study(monkeypatch):
    monkeypatch.setitem(trials.DATA, "small", Data("", "sequences", SMALL, ()))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    rng = np.random.default_rng(0)
    lines = [
        " ".join(map(str, [user, *rng.permutation(np.arange(1, 31))[: rng.integers(6, 12)]]))
        for user in range(1, 41)
    ]
    (folder / "log.txt").write_text("\n".join(lines) + "\n")
    return prepare(folder / "log.txt", folder / "data", format="sequences", k_core=1).path


def test_a_point_of_ones_own_is_trained_as_given_and_shown(study, dataset, tmp_path):
    enqueue(study, "small", ("generator.norm=rms", "generator.init_scale=0.05"))
    run_trial(study, "small", dataset, (), tmp_path)
    (run,) = (path for path in (tmp_path / "trials").iterdir() if path.is_dir())
    config = load_config(file=run / "config.toml")
    wanted = load_config(overrides=[*SMALL, "generator.norm=rms", "generator.init_scale=0.05"])
    assert config == wanted
    best = max(row["validation"]["NDCG@10"] for row in read_rows(run / "metrics.jsonl"))
    assert study.best_value == best
    *_, line = table(study, "small").splitlines()
    assert line.startswith(f"| {best:.4f} |")
    assert line.endswith("| init_scale 0.05, norm rms |")
    assert "| 2 |" in line


@pytest.mark.slow
def test_a_drawn_point_keeps_what_is_set(study, dataset, tmp_path):
    run_trial(
        study, "small", dataset, ("generator.hidden_dim=4", "generator.num_heads=1"), tmp_path
    )
    (settings,) = (tmp_path / "trials").glob("*.toml")
    config = load_config(file=settings)
    assert (config.generator.hidden_dim, config.generator.num_heads) == (4, 1)
    (trial,) = study.trials
    drawn = {name: value for name, value in point_of(config).items() if name in trial.params}
    apart = {name for name, value in drawn.items() if value != trial.params[name]}
    assert apart <= {"generator.num_heads"}
    assert trial.params.keys() == SPACE.keys()


@pytest.mark.slow
def test_a_trial_whose_process_is_gone_goes_on_in_its_own_run(study, dataset, tmp_path):
    enqueue(study, "small", ("generator.norm=rms",))
    lost = study.ask(SPACE)
    requeue_lost(study, "small", tmp_path)
    run_trial(study, "small", dataset, (), tmp_path)
    first, second = study.trials
    assert first.state == optuna.trial.TrialState.FAIL
    assert second.state == optuna.trial.TrialState.COMPLETE
    assert second.params == lost.params
    assert second.user_attrs[SETTINGS] == ["generator.norm=rms"]


def test_a_trial_that_still_trains_is_left_alone(study, tmp_path):
    enqueue(study, "small", ("generator.norm=rms",))
    study.ask(SPACE)
    config = load_config(overrides=[*SMALL, "generator.norm=rms"])
    with exclusive(trials._claim_of(config, tmp_path)):
        requeue_lost(study, "small", tmp_path)
    (trial,) = study.trials
    assert trial.state == optuna.trial.TrialState.RUNNING


def test_every_point_can_be_trained(study):
    for _ in range(60):
        trial = study.ask(SPACE)
        trial.set_user_attr(DRAWN, True)
        trial.set_user_attr(SETTINGS, [])
        config = config_of(trial, "small")
        assert config.generator.norm == trial.params["generator.norm"]


def test_an_unknown_setting_is_named(study):
    with pytest.raises(MfganError, match=r"generator\.nrom"):
        enqueue(study, "small", ("generator.nrom=rms",))
