"""Relations in the generator's logits, as the adversarial stage counts, learns and keeps them."""

from itertools import count

import numpy as np
import pytest
import torch
from made import made_dataset
from made_run import related
from small_adversary import AT_ENDS, SMALL

from mfgan.cli.recommend import why
from mfgan.config import load_config
from mfgan.data.relations import count_relation
from mfgan.errors import MfganError
from mfgan.explain import Explainer
from mfgan.recommend import Recommender
from mfgan.training import relation_weights, train
from mfgan.training.choices import choices, choosers
from mfgan.training.context import StageContext
from mfgan.training.relation_weights import RelationSpans, begin_with_relations
from mfgan.training.stages.adversarial import AdversarialStage
from mfgan.training.stages.pretrain_generator import ContinueMleStage

CPU = torch.device("cpu")
RELATED = 'generator.relations="all"'
SETTINGS = (
    *SMALL,
    *AT_ENDS,
    RELATED,
    "discriminator.factors=['genre', 'transition']",
    "discriminator.relation_history=12",
    "cross_fit.folds=2",
    "pretrain_discriminator.batch_size=8",
    "adversarial.discriminator_epochs=0",
    "adversarial.reward=log-odds",
    "adversarial.policy=top",
    "adversarial.num_samples=12",
    "calibrate.top_k=30",
)
LEARNED = ("adversarial.relation_weights=zero", "selection.enabled=false")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return made_dataset(tmp_path_factory.mktemp("data"), num_users=60, min_len=6, max_len=20)


@pytest.fixture(scope="module")
def run(dataset, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    return train(dataset, path, load_config(overrides=[*SETTINGS, *LEARNED]))


def same(table, relation):
    return np.array_equal(table[1].numpy(), relation.items) and np.array_equal(
        table[2].numpy(), relation.values
    )


def made_stage(dataset, *overrides):
    """With judges that speak by transitions alone, as loudly as is asked for."""
    config = load_config(overrides=[*SETTINGS, *overrides])
    context = StageContext(dataset, config, CPU)
    judges = context.discriminators()
    table = judges.relations.laid_out(count_relation("transition", dataset))
    judges.relations.take({"transition": table})
    judges.head_weight.data.zero_()
    return AdversarialStage(context)


def test_they_are_counted_when_they_are_first_learned(run, dataset):
    before, after = (run.generator(s).relations for s in ("pretrain-generator", "adversarial"))
    assert before.is_empty
    assert not before.weight.any()
    assert after.names == ("transition", "similarity")
    for name in after.names:
        assert same(after.table(name), count_relation(name, dataset))
    assert after.weight[:, :6].abs().min() > 0  # sessions reach no further


def test_counts_of_the_judges_are_taken_and_others_made(dataset, monkeypatch):
    from mfgan.training import relation_counts

    made, original = [], relation_counts.count_relation

    def spy(name, *given):
        made.append(name)
        return original(name, *given)

    monkeypatch.setattr(relation_counts, "count_relation", spy)
    stage = made_stage(dataset)
    assert made == ["similarity"]
    term, judges = stage.generator.relations, stage.discriminators.relations
    assert term.table("transition")[1] is judges.table("transition")[1]
    for own, anchor in zip(
        stage.generator.relations.buffers(), stage._anchor.relations.buffers(), strict=True
    ):
        assert torch.equal(own, anchor)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_generator_learns_what_the_judges_say(dataset, sign):
    stage = made_stage(dataset, *LEARNED, "adversarial.generator_optimizer.learning_rate=0.003")
    with torch.no_grad():
        stage.discriminators.relations.weight[0, 0] = sign
    optimizer = stage.optimizers["generator"]
    for step in range(30):
        optimizer.zero_grad()
        stage.step(stage.batches(0)[0], epoch=0, step=step).loss.backward()
        optimizer.step()
    learned = stage.generator.relations.weights.detach()
    assert learned[0, 0] * sign > 0.05
    assert learned[0].abs().argmax() == 0


def chosen_by(weights, monkeypatch):
    """Validation choices as a conditional logit of these weights makes them, better with them."""
    draws = torch.Generator().manual_seed(0)
    features = torch.randn(6000, 8, len(weights), generator=draws)
    noise = torch.rand(6000, 8, generator=draws).log_().neg_().log_()
    chosen = (features @ weights - noise).argmax(1)
    monkeypatch.setattr(relation_weights, "choices", lambda *given: (features, chosen))
    better = count()
    monkeypatch.setattr(
        relation_weights, "validate_generator", lambda *_: {"NDCG@10": next(better)}
    )


def test_weights_begin_as_validation_items_are_likeliest(dataset, monkeypatch):
    true = torch.linspace(-0.6, 0.8, 18)
    chosen_by(torch.cat([torch.tensor([0.5]), true]), monkeypatch)
    stage = made_stage(dataset)
    found = stage.generator.relations.weights.detach()
    torch.testing.assert_close(found.flatten(), true / 0.5, atol=0.15, rtol=0)
    assert torch.equal(stage._anchor.relations.weight, stage.generator.relations.weight)


def test_the_anchor_has_what_the_generator_begins_with(dataset, monkeypatch):
    chosen_by(torch.linspace(0.5, 1, 19), monkeypatch)
    stage = made_stage(dataset, "adversarial.anchor_weight=1")
    begin = stage.step(stage.batches(0)[0], epoch=0, step=0).metrics["divergence"]
    assert abs(float(begin)) < 1e-5
    with torch.no_grad():
        stage.generator.relations.weight.zero_()
    assert float(stage.step(stage.batches(0)[0], epoch=0, step=0).metrics["divergence"]) > 0.01


def test_beside_a_generator_without_a_say_they_weigh_nothing(dataset, monkeypatch):
    chosen_by(torch.cat([torch.tensor([0.0]), torch.ones(18)]), monkeypatch)
    term = made_stage(dataset).generator.relations
    assert not term.weight.any()
    assert not term.is_empty


@torch.no_grad()
def test_what_is_weighed_is_what_is_added(dataset):
    generator = related(made_stage(dataset).generator, dataset).eval()
    users, every = choosers(dataset, 0, np.random.default_rng(0)), dataset.num_items
    spans = RelationSpans(generator.relations)
    weighed, _ = choices(generator, spans, dataset, users, every)
    weights = generator.relations.weights.flatten()
    generator.relations.weight.zero_()
    alone, _ = choices(generator, spans, dataset, users, every)
    added = (alone[..., 0] + alone[..., 1:] @ weights).sort(1).values
    torch.testing.assert_close(weighed[..., 0].sort(1).values, added, rtol=1e-4, atol=1e-4)
    assert not torch.equal(alone[..., 0].sort(1).values, added)


def test_the_control_begins_with_the_same_weights_and_keeps_them(dataset, monkeypatch):
    chosen_by(torch.linspace(0.5, 1, 19), monkeypatch)
    control = ContinueMleStage(StageContext(dataset, load_config(overrides=SETTINGS), CPU))
    begun = control.generator.relations.weight.detach().clone()
    assert begun.all()
    assert torch.equal(begun, made_stage(dataset).generator.relations.weight)
    output = control.step(control.batches(0)[0], epoch=0, step=0)
    output.loss.backward()
    control.optimizers["generator"].step()
    assert torch.equal(control.generator.relations.weight, begun)
    best = control.best_weights()["generator"]
    assert torch.equal(best["relations.weight"], begun)


def test_both_fit_them_to_the_same_users(dataset, monkeypatch):
    drawn = []

    def users_of(generator, judges, dataset, users, top_k):
        drawn.append(users.tolist())
        return torch.zeros(1, 2, 19), torch.zeros(1, dtype=torch.int64)

    monkeypatch.setattr(relation_weights, "choices", users_of)
    made_stage(dataset, "calibrate.users=9")
    config = load_config(overrides=[*SETTINGS, "calibrate.users=9"])
    ContinueMleStage(StageContext(dataset, config, CPU))
    made_stage(dataset, "calibrate.users=9", "seed=1")
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0]) == 9


def test_weights_that_a_stage_before_has_learned_are_kept(dataset, monkeypatch):
    chosen_by(torch.linspace(0.5, 1, 19), monkeypatch)
    context = StageContext(dataset, load_config(overrides=SETTINGS), CPU)
    generator = related(context.generator(), dataset)
    learned = generator.relations.weight.detach().clone()
    begin_with_relations(context)
    assert torch.equal(generator.relations.weight, learned)


def test_a_cut_run_goes_on_to_the_same_end(run, dataset, tmp_path):
    config = load_config(overrides=[*SETTINGS, *LEARNED])
    cut = train(dataset, tmp_path / "cut", config, stage="pretrain-generator")
    for stage in ("cross-fit", "pretrain-discriminator", "adversarial"):
        cut = train(dataset, cut.path, config, stage=stage, resume=True)
    one, other = (r.generator().state_dict() for r in (run, cut))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_without_them_may_be_gone_on_from_with_them(dataset, tmp_path):
    plain = [setting for setting in SETTINGS if setting != RELATED]
    first = train(dataset, tmp_path / "a", load_config(overrides=plain), stage="pretrain-generator")
    config = load_config(overrides=[*SETTINGS, "adversarial.turns=1"])
    second = train(dataset, tmp_path / "b", config, stage="cross-fit", init=first.path)
    for stage in ("pretrain-discriminator", "adversarial"):
        second = train(dataset, second.path, config, stage=stage, resume=True)
    assert not second.generator("adversarial").relations.is_empty


def test_they_serve_a_new_session(run, dataset):
    recommender = Recommender(run)
    table = recommender.recommend(sessions=[["i0001", "i0002", "i0003"]], k=5)
    generator = run.generator().eval()
    session = recommender.session(["i0001", "i0002", "i0003"])
    proposals = recommender.propose([session], 5)
    items = [dataset.item_idx(name) for name in table["item_id"]]
    assert proposals.items[0].tolist() == items
    with torch.inference_mode():
        given = (proposals.hidden, proposals.items, proposals.relations)
        parts = generator.logit_parts(*given)
    np.testing.assert_allclose(table["score"], parts.sum(-1)[0], rtol=1e-4, atol=1e-5)
    assert parts[..., -2:].any()


def test_each_of_several_sessions_has_its_own(run):
    recommender = Recommender(run)
    sessions = [
        recommender.session(items) for items in (["i0001", "i0002"], ["i0007"], ["i0004", "i0009"])
    ]
    together = recommender.propose(sessions, 6)
    for place, session in enumerate(sessions):
        one, alone = together.of(place), recommender.propose([session], 6)
        assert torch.equal(one.items, alone.items)
        parts = one.relations.parts(one.items)
        assert parts.any()
        torch.testing.assert_close(parts, alone.relations.parts(alone.items))


def test_a_recommendation_names_what_in_the_history_it_follows_from(run, dataset):
    explainer = Explainer(run)
    found = explainer.explain(user="u0003", k=5)
    history = dataset.history(3, "all")
    titles = dataset.item_titles.take(history).to_list()
    told = [entry["because"] for entry in found.details["recommendations"]]
    assert all(list(names) == ["transition", "similarity"] for names in told)
    term = run.generator().relations
    for place, name in enumerate(term.names):
        counted = count_relation(name, dataset)
        for entry, because in zip(found.details["recommendations"], told, strict=True):
            item, said = dataset.item_idx(entry["item_id"]), {}
            for distance, had in enumerate(history.tolist()[::-1][: term.max_history]):
                row = slice(counted.offsets[had], counted.offsets[had + 1])
                values = dict(zip(counted.items[row], counted.values[row], strict=True))
                span = int(np.searchsorted((0, 1, 2, 3, 4, 8, 16), distance, side="right")) - 1
                weight = float(term.weights.detach()[place, span])
                title = titles[::-1][distance]
                said[title] = max(said.get(title, 0.0), weight * values.get(item, 0.0))
            best = max(said.values())
            assert because[name] == (max(said, key=said.get) if best > 0 else "")
    assert any(any(names.values()) for names in told)
    sessions = [explainer.recommender.session(["i0001", "i0002"])]
    table = explainer.reasons(sessions, explainer.recommender.rank([*sessions], k=3))
    rows = table.to_dicts()
    named = set(dataset.item_titles.take(sessions[0].items).to_list())
    assert {title for row in rows for title in row["because"].values()} <= named | {""}
    spoken = {"transition": 9.0, "item itself": 1.0, "similarity": 0.5}
    row = {
        "reasons": [],
        "score_parts": spoken,
        "because": {"transition": "Heat", "similarity": ""},
    }
    assert why(row) == "transition (Heat) +9.00, item itself +1.00"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["generator.relations=['transitions']"], "must be of transition, similarity, got 'transi"),
        (
            ["generator.relations=['similarity', 'similarity']"],
            "must be named once, got similarity, similarity",
        ),
        (
            ["selection.enabled=false"],
            "adversarial.relation_weights must be zero without selection.enabled, got fitted",
        ),
        (
            ["discriminator.factors=['genre']", "adversarial.contexts=training"],
            r"contexts must be ends with generator.relations, got training; generator.relations=\[",
        ),
        (
            ["discriminator.factors=['genre']", "adversarial.discriminator_epochs=1"],
            "discriminator_epochs must be 0 with generator.relations, got 1; generator.relations",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(MfganError, match=message):
        load_config(overrides=[*SETTINGS, *changes])
