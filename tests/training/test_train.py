"""Runs of training: what they leave, how they go on, what they refuse, and that nothing leaks."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from made import made_dataset
from plain import PLAIN
from safetensors.torch import load_file

from mfgan.config import load_config
from mfgan.data.dataset import PreparedDataset
from mfgan.errors import MfganError
from mfgan.files import exclusive
from mfgan.training import Run, train
from mfgan.training.context import StageContext
from mfgan.training.log import MetricsLog, read_rows
from mfgan.training.stages.pretrain_generator import ContinueMleStage, PretrainGeneratorStage

SMALL = [
    *PLAIN,
    "generator.hidden_dim=8",
    "generator.max_len=10",
    "generator.dropout=0.3",
    "threads=1",
    "pretrain_generator.batch_size=16",
    "pretrain_generator.epochs=4",
    "adversarial.turns=2",
    "adversarial.generator_epochs=1",
    "adversarial.batch_size=16",
    "pretrain_generator.optimizer.learning_rate=0.02",
    "objective=mle",
    "pretrain_generator.optimizer.average=0",
    "pretrain_generator.evaluate_every=1",
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return made_dataset(tmp_path_factory.mktemp("data"), num_users=48, min_len=5)


def settings(*overrides):
    return load_config(overrides=[*SMALL, *overrides])


def weights(run, stage):
    return load_file(run.store(stage).best_path() / "generator.safetensors")


def assert_same_weights(one, other, stages=("pretrain-generator", "continue-mle")):
    for stage in stages:
        first, second = weights(one, stage), weights(other, stage)
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_learns_and_leaves_its_files(dataset, tmp_path):
    config = settings("pretrain_generator.epochs=30", "generator.dropout=0.0")
    run = train(dataset, tmp_path / "run", config)
    assert run.finished_stages == ["pretrain-generator", "continue-mle"]
    assert run.stage == "continue-mle"
    rows = read_rows(run.metrics_path)
    likelihood = [row for row in rows if row["stage"] == "pretrain-generator"]
    assert [row["epoch"] for row in likelihood] == list(range(1, 31))
    assert likelihood[-1]["loss"] < 0.8 * likelihood[0]["loss"]
    assert likelihood[0]["step"] == 3
    assert set(likelihood[0]) >= {"tokens_per_second", "learning_rate", "grad_norm", "validation"}
    best = max(likelihood, key=lambda row: row["validation"]["NDCG@10"])
    assert run.store("pretrain-generator").progress().best.epoch == best["epoch"]

    opened = Run.open(tmp_path / "run")
    assert opened.config == config
    assert opened.dataset.fingerprint == dataset.fingerprint
    for stage in (None, "pretrain-generator"):
        expected = weights(opened, stage or "continue-mle")
        state = opened.generator(stage).state_dict()
        assert all(torch.equal(state[name], expected[name]) for name in expected)


def test_only_the_newest_and_the_best_checkpoints_stay(dataset, tmp_path):
    run = train(dataset, tmp_path / "run", settings("keep_checkpoints=3", "checkpoint_seconds=0"))
    stage = run.stage_directory("pretrain-generator")
    names = sorted(path.name for path in stage.iterdir())
    best = run.store("pretrain-generator").progress().best.step
    steps = [f"step-{step:010d}" for step in (10, 11, 12)]
    assert names == [f"best-{best:010d}", *steps]


def test_same_seed_same_weights(dataset, tmp_path):
    one, two = (train(dataset, tmp_path / name, settings()) for name in ("one", "two"))
    other = train(dataset, tmp_path / "other", settings("seed=1"))
    assert_same_weights(one, two)
    first, second = weights(one, "continue-mle"), weights(other, "continue-mle")
    assert not torch.equal(first["item_embedding"], second["item_embedding"])


class Killed(BaseException):
    """Ends a run as abruptly as a signal does, for nothing catches it."""


@pytest.mark.parametrize("loss", ["softmax", "sampled-softmax", "gbce", "bce"])
def test_a_killed_run_goes_on_to_the_same_weights(dataset, tmp_path, monkeypatch, loss):
    overrides = [f"pretrain_generator.loss={loss}", "pretrain_generator.num_negatives=4"]
    if loss == "softmax":
        overrides += ["pretrain_generator.optimizer.average=0.9", "pretrain_generator.patience=3"]
    else:
        overrides += ["pretrain_generator.sparse_items=true", "generator.factors=[]"]
    # At 0 every step leaves a checkpoint; at 60 none is left, and all rows are written again.
    overrides += ["checkpoint_seconds=60" if loss == "bce" else "checkpoint_seconds=0"]
    config = settings(*overrides)
    whole = train(dataset, tmp_path / "whole", config)
    step, killed_at = PretrainGeneratorStage.step, []

    def fragile(self, batch, **given):
        step = given["step"]
        if (self.name, step) in due:
            due.remove((self.name, step))
            killed_at.append(step)
            raise Killed
        return plain_step(self, batch, **given)

    plain_step = step
    due = [("pretrain-generator", 1), ("pretrain-generator", 6), ("continue-mle", 4)]
    monkeypatch.setattr(PretrainGeneratorStage, "step", fragile)
    resume = False
    for _ in range(3):
        with pytest.raises(Killed):
            train(dataset, tmp_path / "killed", config, resume=resume)
        resume = True
    killed = train(dataset, tmp_path / "killed", resume=True)
    assert killed_at == [1, 6, 4]
    assert_same_weights(whole, killed)
    noise = {"elapsed", "tokens_per_second"}
    curves = [
        [{k: v for k, v in row.items() if k not in noise} for row in read_rows(run.metrics_path)]
        for run in (whole, killed)
    ]
    for one, other in zip(*curves, strict=True):
        assert one == other


@pytest.mark.slow
def test_kill_minus_nine_at_random_moments(dataset, tmp_path):
    config = settings("pretrain_generator.epochs=60", "checkpoint_seconds=0")
    whole = train(dataset, tmp_path / "whole", config)
    (tmp_path / "config.toml").write_text(config.to_toml())
    run, dice, kills = tmp_path / "killed", random.Random(0), 0
    command = [sys.executable, "-m", "mfgan", "train", str(dataset.path), "--run", str(run)]

    def newest():
        return max(run.glob("checkpoints/*/step-*"), default=None, key=lambda path: path.name)

    while True:
        how = ["--resume"] if kills else ["--config", str(tmp_path / "config.toml")]
        before = newest()
        process = subprocess.Popen([*command, *how, "--quiet"])
        while process.poll() is None and newest() == before:
            time.sleep(0.005)
        time.sleep(0.5 * dice.random())
        if kills < 4 and process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        status = process.wait()
        if status != -signal.SIGKILL:
            break
    assert status == 0
    assert kills > 0
    assert_same_weights(whole, Run.open(run))
    hidden = [path for path in run.rglob(".*") if path.name != ".lock"]
    assert not hidden


def test_patience_ends_a_stage(dataset, tmp_path):
    config = settings(
        "pretrain_generator.epochs=50",
        "pretrain_generator.patience=2",
        "pretrain_generator.optimizer.learning_rate=1e-9",
    )
    run = train(dataset, tmp_path / "run", config, stage="pretrain-generator")
    progress = run.store("pretrain-generator").progress()
    assert progress.epoch < 50
    assert progress.epoch == progress.best.epoch + 2


def test_without_selection_the_last_weights_win(dataset, tmp_path):
    run = train(dataset, tmp_path / "run", settings("selection.enabled=false"))
    best = run.store("pretrain-generator").progress().best
    assert (best.epoch, best.value) == (4, None)
    assert all("validation" not in row for row in read_rows(run.metrics_path))


def changed_copy(dataset, directory, splits):
    """The data set with another item in place of every target of ``splits``."""
    shutil.copytree(dataset.path, directory)
    items = np.array(dataset.items)
    for split in splits:
        users = dataset.target_users(split)
        places = dataset.history_ends(users, split)
        items[places] = items[places] % dataset.num_items + 1
    np.save(directory / "sequences" / "items.npy", items)
    changed = PreparedDataset.open(directory)
    assert changed.fingerprint != dataset.fingerprint
    return changed


@pytest.mark.parametrize(
    ("splits", "selects"), [(["test"], "true"), (["test", "validation"], "false")]
)
@pytest.mark.parametrize("loss", ["softmax", "gbce", "bce", "sampled-softmax"])
def test_what_is_held_out_changes_no_weight(dataset, tmp_path, splits, selects, loss):
    changed = changed_copy(dataset, tmp_path / "changed", splits)
    config = settings(
        f"selection.enabled={selects}",
        f"pretrain_generator.loss={loss}",
        "pretrain_generator.negatives=popularity",
    )
    one = train(dataset, tmp_path / "one", config)
    assert_same_weights(one, train(changed, tmp_path / "two", config))


def test_stages_run_one_by_one(dataset, tmp_path):
    whole = train(dataset, tmp_path / "whole", settings())
    parts = train(dataset, tmp_path / "parts", settings(), stage="pretrain-generator")
    parts = train(dataset, tmp_path / "parts", settings(), stage="continue-mle")
    assert_same_weights(whole, parts)


def test_a_run_starts_from_another_ones_weights(dataset, tmp_path):
    source = train(dataset, tmp_path / "source", settings(), stage="pretrain-generator")
    config = settings("adversarial.generator_epochs=0")
    run = train(dataset, tmp_path / "run", config, stage="continue-mle", init=tmp_path / "source")
    first, second = weights(source, "pretrain-generator"), weights(run, "continue-mle")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_continuing_never_hands_on_worse_weights(dataset, tmp_path, monkeypatch):
    falling = iter([0.5, 0.4, 0.3])
    monkeypatch.setattr(ContinueMleStage, "validate", lambda stage: {"NDCG@10": next(falling)})
    run = train(dataset, tmp_path / "run", settings())
    assert run.store("continue-mle").progress().best.epoch == 0
    first, second = weights(run, "pretrain-generator"), weights(run, "continue-mle")
    assert all(torch.equal(first[name], second[name]) for name in first)


class TestRefusals:
    @pytest.fixture
    def begun(self, dataset, tmp_path):
        train(dataset, tmp_path / "run", settings(), stage="pretrain-generator")
        return tmp_path / "run"

    def refuse(self, message, *arguments, **options):
        with pytest.raises(MfganError, match=message) as caught:
            train(*arguments, **options)
        assert "\n" not in str(caught.value)

    def test_a_second_time_without_resume(self, dataset, begun):
        self.refuse("already holds stage pretrain-generator; go on with --resume", dataset, begun)

    def test_resuming_nothing(self, dataset, tmp_path):
        self.refuse("must be a run to --resume", dataset, tmp_path / "none", resume=True)
        assert not (tmp_path / "none").exists()

    def test_a_folder_of_something_else(self, dataset, tmp_path):
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "letter.txt").write_text("dear")
        self.refuse("must be a run directory or new", dataset, tmp_path / "mine")

    def test_a_directory_in_use(self, dataset, begun):
        with exclusive(begun):
            self.refuse("in use by another", dataset, begun, resume=True)

    def test_another_data_set(self, dataset, begun, tmp_path):
        other = made_dataset(tmp_path, seed=5, name="other")
        self.refuse("must be used with the data set it was made with", other, begun, resume=True)
        config = settings()
        self.refuse("must be used with the data set", other, tmp_path / "new", config, init=begun)

    def test_other_settings(self, dataset, begun):
        config = settings("generator.dropout=0.1")
        self.refuse(
            "generator.dropout must be what the run was begun with",
            dataset,
            begun,
            config,
            resume=True,
        )
        later = settings("adversarial.turns=1", "threads=2")
        assert train(dataset, begun, later, resume=True).config.adversarial.turns == 1

    def test_a_stage_whose_models_nobody_made(self, dataset, tmp_path):
        self.refuse(
            "must find a trained generator",
            dataset,
            tmp_path / "r",
            settings(),
            stage="continue-mle",
        )

    def test_an_unknown_stage(self, dataset, tmp_path):
        self.refuse("did you mean 'adversarial'", dataset, tmp_path / "r", stage="adverserial")

    def test_a_loss_that_is_no_number(self, dataset, tmp_path):
        config = settings(
            "pretrain_generator.optimizer.learning_rate=1e30", "generator.norm_place=post"
        )
        self.refuse("must be finite, got .*; lower learning_rate", dataset, tmp_path / "r", config)

    def test_an_unknown_device(self, dataset, tmp_path):
        self.refuse(
            "device must be one torch has, got 'gpu'",
            dataset,
            tmp_path / "r",
            settings("device=gpu"),
        )

    def test_an_unknown_selection_metric(self, dataset, tmp_path):
        config = settings("selection.metric=NDGC@10")
        self.refuse("did you mean 'NDCG@10'", dataset, tmp_path / "r", config)

    def test_checkpoints_that_are_damaged(self, dataset, begun):
        run = Run.open(begun)
        path = run.store("pretrain-generator").best_path() / "generator.safetensors"
        path.write_bytes(path.read_bytes()[:100])
        with pytest.raises(MfganError, match="must be a whole safetensors file"):
            run.generator()

    @pytest.mark.parametrize(
        "damage",
        [
            lambda state: {**state, "progress": None},
            lambda state: {**state, "progress": {**state["progress"], "step": "1"}},
            lambda state: {**state, "progress": {**state["progress"], "more": 1}},
            lambda state: [],
        ],
    )
    def test_states_that_are_damaged(self, dataset, begun, damage):
        run = Run.open(begun)
        for path in run.store("pretrain-generator").directory.glob("step-*/state.json"):
            path.write_text(json.dumps(damage(json.loads(path.read_text()))))
        self.refuse("state.json: must be a checkpoint's state", dataset, begun, resume=True)

    def test_checkpoints_of_another_data_set(self, dataset, begun):
        store = Run.open(begun).store("pretrain-generator")
        for path in store.directory.glob("step-*/state.json"):
            state = json.loads(path.read_text())
            path.write_text(json.dumps({**state, "fingerprint": "f" * 64}))
        with pytest.raises(MfganError, match="must be a checkpoint of this data set"):
            Run.open(begun).generator()

    def test_no_run_at_all(self, tmp_path):
        with pytest.raises(MfganError, match="must be a run made by `mfgan train`"):
            Run.open(tmp_path)

    def test_a_newer_run(self, begun):
        header = json.loads((begun / "run.json").read_text())
        (begun / "run.json").write_text(json.dumps({**header, "schema_version": 99}))
        with pytest.raises(MfganError, match="a newer mfgan wrote it"):
            Run.open(begun)


def test_a_full_disk_leaves_the_last_checkpoint(dataset, tmp_path, monkeypatch):
    config = settings()
    train(dataset, tmp_path / "whole", config)

    def full(self, data):
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.write_bytes", full)
        with pytest.raises(OSError, match="No space left"):
            train(dataset, tmp_path / "run", config)
    assert not list((tmp_path / "run").rglob("step-*"))
    run = train(dataset, tmp_path / "run", config, resume=True)
    assert_same_weights(run, Run.open(tmp_path / "whole"))


def test_a_generator_with_factors_is_stored_and_read_again(dataset, tmp_path):
    config = settings("pretrain_generator.epochs=2", "generator.factors=['popularity']")
    run = train(dataset, tmp_path / "run", config, stage="pretrain-generator")
    again = Run.open(run.path).generator().factor_embedding.table
    assert torch.equal(weights(run, "pretrain-generator")["factor_embedding.table"], again)
    first = StageContext(dataset, config, torch.device("cpu")).generator().factor_embedding.table
    assert not torch.equal(first, again)


def test_a_table_of_sums_is_updated_as_a_whole(dataset):
    wanted = ("generator.factors=['id']", "pretrain_generator.sparse_items=true")
    with pytest.raises(MfganError, match="sparse_items must be false with generator.factors"):
        settings(*wanted, "pretrain_generator.loss=bce")


def test_a_row_that_a_killed_process_had_written_is_there_once(dataset, tmp_path, monkeypatch):
    """The last save may be from behind an epoch's last batch and before its row, or there is none."""
    config = load_config(overrides=[*SMALL, "pretrain_generator.epochs=3", "checkpoint_seconds=0"])
    original, written = MetricsLog.write, []

    def dying(log, row):
        original(log, row)
        written.append(row)
        if len(written) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(MetricsLog, "write", dying)
    with pytest.raises(KeyboardInterrupt):
        train(dataset, tmp_path / "run", config, stage="pretrain-generator")
    monkeypatch.setattr(MetricsLog, "write", original)
    run = train(dataset, tmp_path / "run", config, stage="pretrain-generator", resume=True)
    assert [row["epoch"] for row in read_rows(run.metrics_path)] == [1, 2, 3]
