"""The search: what a trial tries, what it leaves behind, and how a cut one goes on."""

from functools import partial

import numpy as np
import optuna
import pytest
from command import run_module

from bench.reproduce.data import Ground
from bench.search.space import SPACE, point_of
from bench.search.table import table
from bench.search.trial import DRAWN, SETTINGS, Search, enqueue, requeue_lost, run_trial
from mfgan.config import load_config
from mfgan.config.run_config import flatten
from mfgan.data.dataset import PreparedDataset
from mfgan.data.prepare import prepare
from mfgan.errors import MfganError
from mfgan.files import exclusive
from mfgan.training.log import read_rows

SMALL = (
    "generator.hidden_dim=64",
    "generator.num_blocks=1",
    "generator.max_len=10",
    "threads=1",
    "pretrain_generator.epochs=2",
    "pretrain_generator.evaluate_every=1",
)


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


@pytest.fixture
def search(dataset, tmp_path):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    return Search(study, Ground("small", PreparedDataset.open(dataset), SMALL, ()), tmp_path)


def test_a_point_of_ones_own_is_trained_as_given_and_shown(search, tmp_path):
    enqueue(search, ("generator.norm=rms", "generator.init_scale=0.05"))
    run_trial(search, ())
    (run,) = (path for path in (tmp_path / "trials").iterdir() if path.is_dir())
    config = load_config(file=run / "config.toml")
    assert search.study.trials[0].params == point_of(config)
    wanted = load_config(overrides=[*SMALL, "generator.norm=rms", "generator.init_scale=0.05"])
    assert config == wanted
    best = max(row["validation"]["NDCG@10"] for row in read_rows(run / "metrics.jsonl"))
    assert search.study.best_value == best
    *_, line = table(search).splitlines()
    assert line.startswith(f"| {best:.4f} |")
    assert line.endswith("| init_scale 0.05, norm rms |")
    assert "| 2 |" in line


@pytest.mark.slow
def test_a_drawn_point_keeps_what_is_set(search, tmp_path):
    run_trial(search, ("generator.hidden_dim=4", "generator.num_heads=1"))
    (settings,) = (tmp_path / "trials").glob("*.toml")
    config = load_config(file=settings)
    assert (config.generator.hidden_dim, config.generator.num_heads) == (4, 1)
    (trial,) = search.study.trials
    trained = dict(flatten(config.model_dump()))
    apart = {name for name, value in trial.params.items() if value != trained[name]}
    assert apart <= {"generator.hidden_dim", "generator.num_heads"}
    assert trial.params.keys() == SPACE.keys()


@pytest.mark.slow
def test_a_trial_whose_process_is_gone_goes_on_in_its_own_run(search, tmp_path):
    enqueue(search, ("generator.norm=rms",))
    lost = search.study.ask(SPACE)
    requeue_lost(search)
    run_trial(search, ())
    first, second = search.study.trials
    assert first.state == optuna.trial.TrialState.FAIL
    assert second.state == optuna.trial.TrialState.COMPLETE
    assert second.params == lost.params
    assert second.user_attrs[SETTINGS] == ["generator.norm=rms"]


def test_a_trial_that_still_trains_is_left_alone(search):
    enqueue(search, ("generator.norm=rms",))
    search.study.ask(SPACE)
    config = load_config(overrides=[*SMALL, "generator.norm=rms"])
    with exclusive(search.claim_of(config)):
        requeue_lost(search)
    (trial,) = search.study.trials
    assert trial.state == optuna.trial.TrialState.RUNNING


def test_every_point_can_be_trained(search):
    for _ in range(60):
        trial = search.study.ask(SPACE)
        trial.set_user_attr(DRAWN, True)
        trial.set_user_attr(SETTINGS, [])
        config = search.config_of(trial)
        assert config.generator.norm == trial.params["generator.norm"]


def test_an_unknown_setting_is_named(search):
    with pytest.raises(MfganError, match=r"generator\.nrom"):
        enqueue(search, ("generator.nrom=rms",))


@pytest.mark.parametrize(
    ("setting", "rule"),
    [
        ("generator.hidden_dim=100", "one of 64, 96, 128, 192, got 100"),
        ("generator.num_blocks=5", "within 1..4 in steps of 1, got 5"),
        ("generator.dropout=0.33", "within 0.0..0.7 in steps of 0.05, got 0.33"),
        ("generator.temperature=2.0", "within 0.03..1.0, got 2.0"),
    ],
)
def test_a_point_outside_the_space_is_refused(search, setting, rule):
    with pytest.raises(MfganError, match=f"^search: {setting.partition('=')[0]} must be {rule}$"):
        enqueue(search, (setting,))
    assert not search.study.trials


command = partial(run_module, "bench.search")


@pytest.mark.slow
def test_a_folder_of_ones_own_is_searched_and_no_other_of_its_name(dataset, tmp_path):
    point = " ".join([*SMALL, "generator.norm=rms"])
    given = ("--data", dataset, "--out", tmp_path)
    shown = command("run", *given, "--try", point, "--trials", 1).stdout
    assert "| 2 |" in shown.splitlines()[-1]
    assert command("table", *given).stdout == shown
    other = tmp_path / "other" / dataset.name
    (tmp_path / "log.txt").write_text("\n".join(f"{user} 1 2 3 4 5 6" for user in range(1, 9)))
    prepare(tmp_path / "log.txt", other, format="sequences", k_core=1)
    told = command("table", "--data", other, "--out", tmp_path, status=1).stderr
    assert "was other data; choose another --out" in told


def test_a_mistake_in_any_setting_leaves_no_study(dataset, tmp_path):
    given = ("run", "--data", dataset, "--out", tmp_path / "out")
    for words in (
        ["--set", "generator.nrom=rms"],
        ["--try", "seed=1", "--try", "generator.nrom=1"],
        ["--try", "seed=1", "--try", "generator.norm=rms generator.hidden_dim=100"],
    ):
        told = command(*given, *words, status=1).stderr
        assert told.startswith("error: ")
        assert "generator.nrom" in told or "generator.hidden_dim" in told
    assert not (tmp_path / "out").exists()
