"""Generators trained without a part of the users, and discriminators that learn from them."""

import numpy as np
import pytest
import torch
from made import made_dataset
from small_adversary import SMALL as ADVERSARY

from mfgan.config import load_config
from mfgan.errors import MfganError
from mfgan.training import train
from mfgan.training.context import StageContext
from mfgan.training.stages import pretrain_discriminator
from mfgan.training.stages.cross_fit import CrossFitStage, fold_of_users
from mfgan.training.stages.pretrain_discriminator import PretrainDiscriminatorStage

SMALL = (
    *ADVERSARY,
    "pretrain_generator.batch_size=8",
    "pretrain_discriminator.batch_size=8",
    "adversarial.turns=1",
    "cross_fit.folds=3",
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return made_dataset(tmp_path_factory.mktemp("data"))


def context_of(dataset, *overrides):
    config = load_config(overrides=[*SMALL, *overrides])
    return StageContext(dataset, config, torch.device("cpu"))


def users_of(stage, epoch):
    return {user for batch in stage.batches(epoch) for user in batch.users.tolist()}


def test_every_fold_is_left_out_once(dataset):
    context = context_of(dataset)
    folds = fold_of_users(context, context.config.seed)
    assert np.bincount(folds).max() - np.bincount(folds).min() <= 1
    stage = CrossFitStage(context)
    assert stage.num_epochs == 6
    for epoch in range(6):
        fold = epoch // 2
        assert stage.optimizer_of(epoch) == f"fold-{fold}"
        left = {u for u in np.flatnonzero(folds != fold).tolist() if dataset.train_end[u] >= 2}
        assert users_of(stage, epoch) == left


def test_a_fold_moves_only_its_own_generator(dataset):
    stage = CrossFitStage(context_of(dataset))
    for epoch in range(stage.num_epochs):
        stage.step(stage.batches(epoch)[0], epoch=epoch, step=0).loss.backward()
        for name, model in stage.models.items():
            moved = any(p.grad is not None for p in model.parameters())
            assert moved == (name == stage.optimizer_of(epoch))
            model.zero_grad()


def test_candidates_are_of_the_generator_that_has_not_seen_the_user(dataset, tmp_path, monkeypatch):
    seen, original = [], pretrain_discriminator.trials_at

    def spy(generator, batch, *rest):
        seen.append((generator, batch.users.tolist()))
        return original(generator, batch, *rest)

    monkeypatch.setattr(pretrain_discriminator, "trials_at", spy)
    config = load_config(overrides=SMALL)
    run = train(dataset, tmp_path / "run", config)
    assert run.finished_stages[:2] == ["pretrain-generator", "cross-fit"]
    folds = fold_of_users(context_of(dataset), run.config.seed)
    context = context_of(dataset)
    context.load_folds(run.store("cross-fit").best_path(), seed=run.config.seed)
    own = context.fold_generators()
    met = set()
    for generator, users in seen:
        (fold,) = set(folds[users].tolist())
        met |= set(users)
        table = own[fold].item_embedding
        assert torch.equal(generator.item_embedding, table)
        assert not torch.equal(table, own[fold - 1].item_embedding)
    assert met == {u for u in range(dataset.num_users) if dataset.train_end[u] >= 2}


def test_epochs_count_passes_over_all_users(dataset):
    context = context_of(dataset)
    for fold in range(3):
        context.models[f"fold-{fold}"] = context.generator()
    stage = PretrainDiscriminatorStage(context)
    assert stage.num_epochs == 6
    assert [stage.validates_after(epochs) for epochs in range(1, 7)] == [False, False, True] * 2
    everyone = {u for u in range(dataset.num_users) if dataset.train_end[u] >= 2}
    assert set().union(*(users_of(stage, epoch) for epoch in range(3))) == everyone


def test_another_run_may_start_from_the_folds(dataset, tmp_path):
    config = load_config(overrides=SMALL)
    source = train(dataset, tmp_path / "source", config, stage="pretrain-generator")
    train(dataset, source.path, config, stage="cross-fit", resume=True)
    run = train(dataset, tmp_path / "run", config, stage="pretrain-discriminator", init=source.path)
    whole = train(dataset, tmp_path / "whole", config)
    one, other = (r.discriminators("pretrain-discriminator").state_dict() for r in (run, whole))
    assert all(torch.equal(one[name], other[name]) for name in one)
    further = train(
        dataset, tmp_path / "more", config, stage="pretrain-discriminator", init=run.path
    )
    folds = source.store("cross-fit").best_path()
    for file in folds.glob("fold-*.safetensors"):
        assert (further.start / file.name).read_bytes() == file.read_bytes()


def test_users_of_folds_that_a_run_starts_from_are_those_of_the_run_that_made_them(
    dataset, tmp_path, monkeypatch
):
    asked = []

    def spy(context, seed):
        asked.append(seed)
        return fold_of_users(context, seed)

    source = train(dataset, tmp_path / "a", load_config(overrides=SMALL), stage="cross-fit")
    monkeypatch.setattr(pretrain_discriminator, "fold_of_users", spy)
    other = load_config(overrides=[*SMALL, "seed=5"])
    begun = train(dataset, tmp_path / "b", other, stage="pretrain-generator", init=source.path)
    stage = "pretrain-discriminator"
    train(dataset, tmp_path / "c", other, stage=stage, init=begun.path)
    assert asked == [source.config.seed]
    train(dataset, begun.path, other, stage="cross-fit", resume=True)
    train(dataset, tmp_path / "d", other, stage=stage, init=begun.path)
    train(dataset, begun.path, other, stage=stage, resume=True)
    assert asked[1:] == [5, 5]


def test_folds_of_another_number_are_not_taken(dataset, tmp_path):
    source = train(
        dataset, tmp_path / "a", load_config(overrides=SMALL), stage="pretrain-generator"
    )
    train(dataset, source.path, stage="cross-fit", resume=True)
    other = load_config(overrides=[*SMALL, "cross_fit.folds=2"])
    with pytest.raises(MfganError, match="stage cross-fit must have trained 2 generators"):
        train(dataset, tmp_path / "b", other, stage="pretrain-discriminator", init=source.path)


@pytest.mark.parametrize("folds", [0, 1000])
def test_folds_that_cannot_be_made_are_refused(dataset, folds):
    with pytest.raises(MfganError, match=rf"folds must be within 2..40 \(the users\), got {folds}"):
        CrossFitStage(context_of(dataset, f"cross_fit.folds={folds}"))


def test_discriminators_need_the_folds(dataset):
    with pytest.raises(MfganError, match="must have trained 3 generators, found no fold-0"):
        PretrainDiscriminatorStage(context_of(dataset))
