"""What a recommendation's score is made of: the parts add up, are drawn, and hold."""

import numpy as np
import pytest
import torch
from made import made_dataset
from made_run import CONFIG, WEIGHTS, calibrated, finished_run

from mfgan.data.batching import history_batches
from mfgan.explain import Explainer, faithfulness
from mfgan.explain.plot import draw_svg
from mfgan.explain.score_faithfulness import _dealt_anew, score_parts_held
from mfgan.explain.score_parts import ScoreParts
from mfgan.models.generator import ITEM_ITSELF
from mfgan.names import RELATIONS

# The generator has one factor that does not judge here, and the judges have one it does not have.
GENERATOR = CONFIG.generator.model_copy(update={"factors": ("tags", "genre")})
JUDGES = CONFIG.discriminator.model_copy(update={"factors": ("genre", "vector")})


@pytest.fixture(params=["plain", "cosine", "related"])
def run(request, tmp_path):
    changed = {"cosine": {"normalize": True}, "related": {"relations": RELATIONS}}
    generator = GENERATOR.model_copy(update=changed.get(request.param, {}))
    config = CONFIG.model_copy(update={"generator": generator})
    return finished_run(tmp_path / "run", made_dataset(tmp_path, min_len=5), config=config)


def leads(explainer, found):
    """How far each recommendation's score lies above that of an average candidate."""
    history = explainer.recommender.user(found.name)
    proposals = explainer.recommender.propose([history], explainer._top_k)
    chances = proposals.logits[0].softmax(0).numpy()
    shown = explainer.recommender.rank([history], k=explainer._top_k)
    scores = dict(zip(shown["item_idx"], shown["score"], strict=True))
    # What was had stands last among the proposals, without a chance.
    pairs = zip(chances.tolist(), proposals.items[0].tolist(), strict=True)
    usual = sum(chance * scores[item] for chance, item in pairs if chance > 0)
    return found.recommendations["score"].to_numpy() - usual


def test_the_parts_add_up_to_the_score(run):
    explainer = Explainer(run)
    found = explainer.explain(user="u0003", k=6)
    parts = found.score_parts
    assert parts.names == run.generator().part_names
    assert parts.names[:3] == (ITEM_ITSELF, "tags", "genre")
    np.testing.assert_allclose(parts.values.sum(1), leads(explainer, found), atol=1e-4)
    assert np.abs(parts.values).max(0).min() > 0.01
    for entry, row in zip(found.details["recommendations"], parts.values, strict=True):
        assert entry["score_parts"] == dict(zip(parts.names, row.tolist(), strict=True))


def test_judges_have_their_part_where_they_rank(run):
    calibrated(run)
    alone = Explainer(run).explain(user="u0003", k=6)
    explainer = Explainer(run, with_discriminators=True)
    found = explainer.explain(user="u0003", k=6)
    judges = explainer.judge.factor_names
    own = run.generator().part_names
    assert set(found.score_parts.names) == {*own, *judges}
    assert alone.score_parts.names == own
    lead = leads(explainer, found)
    np.testing.assert_allclose(found.score_parts.values.sum(1), lead, atol=1e-4)
    genre = found.score_parts.names.index("genre")
    told = found.recommendation_judgements.contributions[:, judges.index("genre")]
    assert len(judges) <= len(WEIGHTS)
    assert not np.allclose(found.score_parts.values[:, genre], told)


def test_judges_look_back_no_further_than_a_session(tmp_path):
    generator = GENERATOR.model_copy(update={"max_len": 4})
    judges = CONFIG.discriminator.model_copy(update={"max_history": 10})
    config = CONFIG.model_copy(update={"generator": generator, "discriminator": judges})
    dataset = made_dataset(tmp_path, min_len=12)
    run = calibrated(finished_run(tmp_path / "run", dataset, config=config))
    explainer = Explainer(run, with_discriminators=True)
    found = explainer.explain(user="u0003", k=6)
    parts = found.score_parts.values
    np.testing.assert_allclose(parts.sum(1), leads(explainer, found), atol=1e-4)


def test_parts_of_one_name_are_added():
    values = np.array([[1.0, 2.0], [0.5, -1.0]], np.float32)
    both = ScoreParts(("a", "b"), values).plus(("c", "b"), values)
    assert both.names == ("a", "b", "c")
    assert both.values.tolist() == [[1.0, 4.0, 1.0], [0.5, -2.0, 0.5]]
    assert both.rows()[0] == {"a": 1.0, "b": 4.0, "c": 1.0}


def test_a_generator_of_ids_alone_has_one_part(tmp_path):
    run = finished_run(tmp_path / "run", made_dataset(tmp_path, min_len=5))
    assert Explainer(run).explain(user="u0003", k=2).score_parts.names == (ITEM_ITSELF,)
    claims = {part.claim for part in faithfulness(run, users=5).agreements}
    assert "score part" not in claims


def test_factors_that_do_not_judge_are_drawn(tmp_path):
    config = CONFIG.model_copy(update={"generator": GENERATOR, "discriminator": JUDGES})
    run = finished_run(tmp_path / "run", made_dataset(tmp_path, min_len=5), config=config)
    found = Explainer(run).explain(user="u0003", k=3)
    assert "tags" not in found.factor_names
    text = draw_svg(found)
    for name in ("tags", ITEM_ITSELF, "What each score is made of"):
        assert name in text


def test_parts_agree_with_what_scores_lose_where_random_ones_do_not(run):
    before = {name: x.clone() for name, x in run.generator().state_dict().items()}
    found = {
        part.claim: part
        for part in faithfulness(run, deals=16).agreements
        if part.measured == "logit"
    }
    assert found["score part"].correlation > 0.3
    assert abs(found["random"].correlation) < 0.15
    for name, x in run.generator().state_dict().items():
        assert torch.equal(x, before[name])


def test_a_part_that_is_dealt_anew_changes_scores(run):
    generator = run.generator().eval()
    users = run.dataset.target_users("test")[:6]
    (batch,) = history_batches(run.dataset, users, "test", max_len=10, batch_size=6)
    items = torch.arange(1, 9).repeat(6, 1)

    def scores():
        hidden = generator(batch, last_only=True)
        relations = generator.relation_scores(batch, batch.last_tokens())
        return generator.logit_parts(hidden, items, relations).sum(-1)

    with torch.inference_mode():
        before = scores()
        for part in range(len(generator.part_names)):
            with _dealt_anew(generator, part, np.random.default_rng(part)):
                assert (scores() - before).abs().max() > 1e-3
            assert torch.equal(scores(), before)


def test_the_generator_is_whole_again_after_a_part_was_dealt_anew(run):
    generator = run.generator().eval()
    own, factors = generator.item_embedding, generator.factor_embedding
    users = run.dataset.target_users("test")[:6]
    batches = list(history_batches(run.dataset, users, "test", max_len=10, batch_size=4))
    rng = np.random.default_rng(0)
    with torch.inference_mode():
        first = score_parts_held(generator, batches, k=3, top_k=9, deals=2, rng=rng)
    assert generator.item_embedding is own
    assert generator.factor_embedding is factors
    assert generator.relations is None or generator.relations._dealt is None
    assert [values.shape for _, _, values in first] == [(6,), (6,)]
