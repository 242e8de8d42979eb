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
    folds = fold_of_users(context)
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
    folds = fold_of_users(context_of(dataset))
    context = context_of(dataset)
    context.load(run.store("cross-fit").best_path())
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
    assert further.fold_weights() == source.fold_weights() is not None


@pytest.mark.parametrize("folds", [0, 1, 1000])
def test_folds_that_cannot_be_made_are_refused(dataset, folds):
    with pytest.raises(MfganError, match=rf"folds must be within 2..40 \(the users\), got {folds}"):
        CrossFitStage(context_of(dataset, f"cross_fit.folds={folds}"))


def test_discriminators_need_the_folds(dataset):
    with pytest.raises(MfganError, match="must have trained 3 generators, found no fold-0"):
        PretrainDiscriminatorStage(context_of(dataset))
