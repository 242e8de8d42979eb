"""The calibrate stage, and what uses it."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from made import made_dataset
from made_run import finished_run
from small_adversary import SMALL as ADVERSARY

from mfgan.config import load_config
from mfgan.data.batch import JaggedBatch
from mfgan.errors import MfganError
from mfgan.evaluation.scorers import CorrectedScorer, GeneratorScorer
from mfgan.files import sha256_of
from mfgan.models.chance import ChanceCurve
from mfgan.models.correction import Correction, FactorCorrection, corrected
from mfgan.recommend import Recommender
from mfgan.report.standing import WITH_DISCRIMINATORS, standing
from mfgan.training import train
from mfgan.training.choices import choices
from mfgan.training.run import Run

SMALL = (
    *ADVERSARY,
    "pretrain_discriminator.epochs=1",
    "adversarial.turns=1",
    "sample.exclude_target=false",
    "calibrate.top_k=10",
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return made_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def run(dataset, tmp_path_factory):
    return train(dataset, tmp_path_factory.mktemp("runs") / "run", load_config(overrides=SMALL))


def test_it_is_the_last_stage_and_every_factor_has_its_part(run, dataset):
    assert run.finished_stages[-1] == "calibrate"
    found = run.correction()
    assert [factor.name for factor in found.factors] == dataset.factor_names
    assert found.top_k == 10
    assert 0 < found.num_choices <= len(dataset.target_users("validation"))
    assert found.gain >= 0
    for factor in found.factors:
        assert factor.error > 0
        assert 0 <= factor.calibration <= 1


def test_who_says_no_more_than_chance_may_be_left_out(run, dataset, tmp_path):
    sure = load_config(overrides=[*SMALL, "calibrate.only_sure=true"])
    found = train(dataset, tmp_path / "sure", sure, stage="calibrate", init=run.path).correction()
    everyone = run.correction()
    assert all(factor.weight != 0 for factor in everyone.factors)
    unsure = [factor for factor in found.factors if factor.weight == 0]
    assert unsure
    for factor in found.factors:
        assert factor in unsure or factor.weight >= 3 * factor.error
        assert factor.error > 0


def test_it_is_of_the_weights_that_the_run_serves(run, dataset):
    users = np.flatnonzero(dataset.validation > 0)
    generator, judges = run.generator().eval(), run.discriminators().eval()
    features, chosen = choices(generator, judges, dataset, users, 10)
    assert len(chosen) == run.correction().num_choices
    row = 0
    for user in users.tolist():
        history = dataset.history(user, "validation")
        batch = JaggedBatch.from_sequences([history], max_len=12)
        with torch.no_grad():
            scores = generator.logits(generator(batch)[-1:])[0]
        scores[torch.from_numpy(np.unique(history).astype(np.int64))] = -torch.inf
        best = scores.argsort(descending=True)[:10]
        target = int(dataset.items[dataset.offsets[user] + dataset.validation[user]])
        if target not in best.tolist():
            continue
        with torch.no_grad():
            said = judges(batch, batch.last_tokens(), best.unsqueeze(0))[0]
        assert int(best[chosen[row]]) == target
        expected = torch.cat([scores[best].unsqueeze(1), said], 1)
        there = expected.isfinite().all(1)
        torch.testing.assert_close(features[row][there], expected[there])
        row += 1
    assert row == len(chosen)


@pytest.mark.parametrize("control", [[], ["continue-mle"]])
def test_it_is_of_the_weights_that_the_run_has_or_made_again(dataset, tmp_path, control):
    config = load_config(overrides=[*SMALL, "adversarial.generator_optimizer.learning_rate=0.01"])
    path = tmp_path / "run"

    def go_on(stage):
        return train(dataset, path, config, stage=stage, resume=True)

    train(dataset, path, config, stage="pretrain-generator")
    for stage in ("sample", "pretrain-discriminator", *control, "calibrate"):
        begun = go_on(stage)
    before = begun.correction()
    file = begun.weights("generator") / "generator.safetensors"
    assert file.parent.parent.name == ["pretrain-generator", *control][-1]
    assert before.fitted_to["generator"] == sha256_of(file)
    assert not begun.needs("calibrate")
    changed = go_on("adversarial")
    assert sha256_of(changed.weights("generator") / file.name) != before.fitted_to["generator"]
    with pytest.raises(MfganError, match=r"fitted to another generator( and other disc\w+)?; run"):
        changed.correction()
    after = go_on("calibrate").correction()
    assert after.fitted_to != before.fitted_to
    assert after.factors != before.factors


def test_a_calibration_that_does_not_say_of_what_it_is_still_counts(run):
    path = run.stage_directory("calibrate") / "calibration.json"
    text = path.read_text()
    document = json.loads(text)
    assert set(document.pop("fitted_to")) == {"generator", "discriminators"}
    try:
        path.write_text(json.dumps(document))
        assert Run.open(run.path).correction().fitted_to == {}
    finally:
        path.write_text(text)


def test_without_selection_validation_is_not_looked_at(dataset, tmp_path):
    config = load_config(overrides=[*SMALL, "selection.enabled=false"])
    run = train(dataset, tmp_path / "run", config)
    assert run.has_finished("calibrate")
    assert run.correction() is None


def correction_of(run, weights, top_k):
    names = run.dataset.factor_names
    factors = [
        FactorCorrection(name, weight, 0.1, ChanceCurve((0.0, 1.0), (-0.5, 1.5)), 0.0, 0.0)
        for name, weight in zip(names, weights, strict=True)
    ]
    return Correction(tuple(factors), top_k, 1, 0.0)


@pytest.mark.parametrize("top_k", [1, 4, 1000])
def test_corrected_scores_item_by_item(run, dataset, top_k):
    weights = torch.linspace(-30, 30, len(dataset.factor_names)).tolist()
    generator, judges = run.generator().eval(), run.discriminators().eval()
    histories = [dataset.history(u, "all") for u in (0, 3)]
    batch = JaggedBatch.from_sequences(histories, max_len=6)
    assert batch.earlier is not None  # what was had before the last 6 counts as well
    scorer = CorrectedScorer(generator, judges, correction_of(run, weights, top_k))
    with torch.no_grad():
        alone, found = GeneratorScorer(generator)(batch)[:, 1:], scorer(batch)[:, 1:]
        items = torch.arange(1, dataset.num_items + 1).expand(2, -1)
        moved = alone + judges(batch, batch.last_tokens(), items) @ torch.tensor(weights)
    for row in range(2):
        had = set(histories[row].tolist())
        order = alone[row].argsort(descending=True).tolist()
        unseen = [place for place in order if place + 1 not in had]
        judged, rest = unseen[:top_k], unseen[top_k:]
        torch.testing.assert_close(found[row][judged], moved[row][judged])
        assert found[row][rest].argsort(descending=True).tolist() == list(range(len(rest)))
        if len(rest):
            assert found[row][rest].max() < found[row][judged].min()
        for place in set(order) - set(unseen):
            # As many unseen items are better than one that was had as before.
            before = int((alone[row][unseen] > alone[row][place]).sum())
            assert int((found[row][unseen] > found[row][place]).sum()) == before


def test_items_that_were_had_keep_their_place(run, dataset):
    """A target may be one: weights change the order of the others, and not how it ranks."""
    generator, judges = run.generator().eval(), run.discriminators().eval()
    batch = JaggedBatch.from_sequences([dataset.history(u, "all") for u in range(8)], max_len=6)
    alone = GeneratorScorer(generator)(batch)
    nothing = correction_of(run, [0.0] * len(dataset.factor_names), 4)
    assert CorrectedScorer(generator, judges, nothing)(batch).equal(alone)
    nobody = partial(pytest.fail, "was asked")
    assert corrected(alone, batch, nobody, torch.zeros(1), 4).equal(alone)
    # Items 3, 5 and 6 are had; 1, 2 and 4, with 3, 2 and 1, become 1, 7 and 3, so that there are
    # 7, 3 and 1 in place of 3, 2 and 1.
    scores = torch.tensor([[0.0, 3.0, 2.0, 2.0, 1.0, 4.0, 1.5]])
    session = JaggedBatch.from_sequences([np.array([3, 5, 6])], max_len=6)
    said = torch.tensor([[[-2.0], [5.0], [2.0]]])
    found = corrected(scores, session, lambda *_: said, torch.ones(1), 3)
    torch.testing.assert_close(found[:, 1:], torch.tensor([[1.0, 7.0, 3.0, 3.0, 8.0, 2.0]]))


def test_evaluation_shows_it_beside_the_generator(run):
    kinds = {other.name: other.kind for other in standing(run, baselines=False).others}
    assert kinds[WITH_DISCRIMINATORS] == "corrected"
    named = standing(run, baselines=False, stage="adversarial").others
    assert WITH_DISCRIMINATORS not in {other.name for other in named}


def test_recommending_with_discriminators_follows_the_corrected_scores(run, dataset):
    found = Recommender(run, with_discriminators=True).recommend(sessions=[dataset.item_ids[1:4]])
    scorer = CorrectedScorer(run.generator().eval(), run.discriminators().eval(), run.correction())
    batch = JaggedBatch.from_sequences([np.arange(1, 4)], max_len=12)
    with torch.no_grad():
        scores = scorer(batch)[0]
    scores[:4] = -torch.inf
    expected = dataset.item_ids.take(scores.argsort(descending=True)[:10].numpy())
    assert found["item_id"].to_list() == list(expected)


def test_recommending_with_discriminators_needs_a_calibrated_run(run, dataset, tmp_path):
    bare = finished_run(tmp_path / "bare", dataset)
    with pytest.raises(MfganError, match="must be of a calibrated run .* got no calibration"):
        Recommender(bare, with_discriminators=True)
    with pytest.raises(MfganError, match="got stage adversarial"):
        Recommender(run, stage="adversarial", with_discriminators=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("top_k"), "must be a calibration"),
        (lambda d: d["factors"].reverse(), "factors must be"),
        (lambda d: d.update(fitted_to=7), "must be a calibration"),
        (lambda d: d["factors"][0].pop("chance"), "must be a calibration"),
        (lambda d: d["factors"][0]["chance"]["logits"].reverse(), "logits of a chance must ascend"),
        (lambda d: d["factors"][0]["chance"].update(log_odds=["low"]), "must be a calibration"),
        (lambda d: d["factors"][0]["chance"].update(logits=[], log_odds=[]), "at least one"),
    ],
)
def test_another_file_is_refused(run, tmp_path, change, message):
    path = run.stage_directory("calibrate") / "calibration.json"
    text = path.read_text()
    document = json.loads(text)
    change(document)
    try:
        path.write_text(json.dumps(document))
        with pytest.raises(MfganError, match=message):
            Run.open(run.path).correction()
    finally:
        path.write_text(text)
