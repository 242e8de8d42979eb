"""Relations in training: counted without the user, tempered, kept, explained, served."""

import numpy as np
import pytest
import torch
from made import made_dataset
from small_adversary import AT_ENDS, CALIBRATED
from small_adversary import SMALL as ADVERSARY

from mfgan.config import load_config
from mfgan.data.relations import count_relation
from mfgan.errors import MfganError
from mfgan.explain import Explainer
from mfgan.explain.faithfulness import faithfulness
from mfgan.training import train
from mfgan.training.context import StageContext
from mfgan.training.stages.cross_fit import fold_of_users
from mfgan.training.stages.pretrain_discriminator import PretrainDiscriminatorStage

JUDGES = "discriminator.factors=['genre', 'transition', 'similarity']"
SMALL = (
    *ADVERSARY,
    *AT_ENDS,
    CALIBRATED,
    JUDGES,
    "discriminator.relation_history=12",
    "pretrain_discriminator.tempered=true",
    "pretrain_discriminator.batch_size=8",
    "adversarial.turns=1",
    "adversarial.discriminator_epochs=0",
    "calibrate.top_k=10",
    "cross_fit.folds=2",
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return made_dataset(tmp_path_factory.mktemp("data"), num_users=60, min_len=6, max_len=20)


@pytest.fixture(scope="module")
def run(dataset, tmp_path_factory):
    return train(dataset, tmp_path_factory.mktemp("runs") / "run", load_config(overrides=SMALL))


def made_stage(dataset, *overrides):
    config = load_config(overrides=[*SMALL, *overrides])
    context = StageContext(dataset, config, torch.device("cpu"))
    for fold in range(2):
        context.models[f"fold-{fold}"] = StageContext(
            dataset, config, torch.device("cpu")
        ).generator()
    return PretrainDiscriminatorStage(context)


def same(table, relation):
    return np.array_equal(table[1].numpy(), relation.items) and np.array_equal(
        table[2].numpy(), relation.values
    )


def test_a_fold_is_judged_by_what_the_others_had(dataset, monkeypatch):
    stage = made_stage(dataset)
    judges = stage.discriminators.relations
    folds = fold_of_users(stage.context, stage.context.config.seed)
    used, original = [], type(judges).forward

    def spy(self, *given):
        used.append({name: self.table(name) for name in self.names})
        return original(self, *given)

    monkeypatch.setattr(type(judges), "forward", spy)
    for epoch in range(2):
        stage.step(stage.batches(epoch)[0], epoch=epoch, step=epoch)
        others = np.flatnonzero(folds != epoch)
        for name in ("transition", "similarity"):
            assert same(used[epoch][name], count_relation(name, dataset, others))
            assert same(judges.table(name), count_relation(name, dataset))
    with pytest.raises(RuntimeError, match="stop"), stage._relations.without(0):
        raise RuntimeError("stop")
    assert same(judges.table("transition"), count_relation("transition", dataset))


def test_what_the_generator_is_too_sure_of_is_learned_beside_the_judges(dataset):
    stage = made_stage(dataset)
    stage.step(stage.batches(0)[0], epoch=0, step=0).loss.backward()
    temper = stage.models["temper"]
    assert temper.sum.grad is None  # nothing learns by the sum here
    assert (temper.factors.grad != 0).all()
    together = made_stage(dataset, "pretrain_discriminator.joint_weight=1")
    together.step(together.batches(0)[0], epoch=0, step=0).loss.backward()
    assert float(together.models["temper"].sum.grad) != 0
    assert "temper" not in made_stage(dataset, "pretrain_discriminator.tempered=false").models


def test_the_run_keeps_the_counts_of_all_users(run, dataset):
    for stage in ("pretrain-discriminator", "adversarial"):
        judges = run.discriminators(stage)
        assert judges.factor_names == ("genre", "transition", "similarity")
        for name in judges.relations.names:
            assert same(judges.relations.table(name), count_relation(name, dataset))
    assert judges.relations.weight.abs().sum() > 0
    assert [factor.name for factor in run.correction().factors] == list(judges.factor_names)


def test_a_cut_run_goes_on_to_the_same_end(run, dataset, tmp_path):
    config = load_config(overrides=SMALL)
    cut = train(dataset, tmp_path / "cut", config, stage="pretrain-generator")
    train(dataset, cut.path, config, stage="cross-fit", resume=True)
    again = train(dataset, cut.path, config, resume=True)
    one, other = (r.discriminators().state_dict() for r in (run, again))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_value_of_a_relation_is_what_it_follows_from(run, dataset):
    explainer = Explainer(run)
    found = explainer.explain(user="u0003", k=5)
    history = set(dataset.item_titles.take(dataset.history(3, "all")).to_list())
    values = [
        factor["value"]
        for entry in [*found.details["history"], *found.details["recommendations"]]
        for factor in entry["factors"]
        if factor["factor"] in ("transition", "similarity")
    ]
    assert any(values)
    assert set(values) <= history | {""}
    sessions = [explainer.recommender.session(["i0001", "i0002"])]
    table = explainer.reasons(sessions, explainer.recommender.rank(sessions, k=3))
    assert {len(reasons) for reasons in table["reasons"].to_list()} == {3}


def test_explanations_are_put_to_the_test(run):
    held = faithfulness(run, users=20, k=3, deals=2)
    assert held.names == ("genre", "transition", "similarity")
    assert held.drops.shape == (3,)
    assert np.isfinite(held.drops).all()


def test_relations_look_back_no_further_than_the_generator(dataset):
    reaches = {
        reach: made_stage(dataset, f"discriminator.relation_history={reach}").discriminators
        for reach in (5, 200)
    }
    assert {r: judges.relations.max_history for r, judges in reaches.items()} == {5: 5, 200: 12}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("cross_fit.folds=0", "cross_fit.folds must be 2 or more with transition in"),
        ("adversarial.discriminator_epochs=1", "adversarial.discriminator_epochs must be 0 with t"),
        ("adversarial.contexts=training", "adversarial.contexts must be ends with transition in"),
    ],
)
def test_settings_that_would_give_items_away_are_refused(change, message):
    with pytest.raises(MfganError, match=message):
        load_config(overrides=[*SMALL, change])
