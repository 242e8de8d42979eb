"""Whether explanations hold is measured right: on judges whose every word is known."""

import json

import numpy as np
import polars as pl
import pytest
import torch
from made import made_dataset
from made_run import WEIGHTS, calibrated, finished_run

from mfgan.cli import main
from mfgan.explain import Explainer, faithfulness
from mfgan.explain.dealt import DealtAnew
from mfgan.explain.faithfulness import _dealt_anew, _Probe, rank_correlation
from mfgan.models.discriminator import Discriminators


@pytest.fixture
def run(tmp_path):
    return finished_run(tmp_path / "run", made_dataset(tmp_path, min_len=5))


def correlations(found):
    return {(part.claim, part.measured): part.correlation for part in found.agreements}


def test_rank_correlation_is_spearmans():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 5, (20, 7)), rng.normal(size=(20, 7))
    mine = rank_correlation(torch.from_numpy(a), torch.from_numpy(b))
    theirs = [
        pl.select(pl.corr(pl.Series(x).rank(), pl.Series(y).rank())).item()
        for x, y in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(mine, theirs, atol=1e-12)
    assert rank_correlation(torch.ones(1, 3), torch.tensor([[1.0, 2.0, 3.0]])).tolist() == [0.0]


def test_values_are_dealt_among_the_items_and_none_is_lost(run):
    judges = run.discriminators()
    dealt = _dealt_anew(judges, np.random.default_rng(0))
    before, after = judges.embedding(), dealt.embedding()
    rows = torch.tensor([4, 0, 9])
    torch.testing.assert_close(dealt.embedding(rows), after[:, rows])
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old[0], new[0])
        assert not torch.equal(old, new)
        assert sorted(old.sum(1).tolist()) == pytest.approx(sorted(new.sum(1).tolist()))


def test_a_factor_that_always_says_the_same_claims_a_share_that_nothing_bears_out(run, monkeypatch):
    names = run.discriminators().factor_names
    real = Discriminators.forward

    def flat(self, *arguments, **keywords):
        logits = real(self, *arguments, **keywords).clone()
        logits[..., 0] = 9.0
        return logits

    plain = correlations(faithfulness(calibrated(run)))
    monkeypatch.setattr(Discriminators, "forward", flat)
    found = faithfulness(run)
    assert found.names == names
    assert found.drops[0] == 0
    assert (found.drops[1:] != 0).all()
    assert correlations(found)["share", "judgement"] < plain["share", "judgement"] - 0.05


def test_claims_agree_with_drops_where_random_ones_do_not(run):
    found = faithfulness(calibrated(run), deals=16)
    told = correlations(found)
    assert told["contribution", "score"] > 0.5
    assert told["share", "judgement"] > 0.3
    assert abs(told["random", "judgement"]) < 0.15
    assert abs(told["random", "score"]) < 0.15
    for part in found.agreements:
        assert part.interval[0] <= part.correlation <= part.interval[1]
    assert faithfulness(run, deals=16).agreements == found.agreements


def test_what_a_factor_says_of_every_candidate_is_no_part_of_a_score(run, monkeypatch):
    plain = correlations(faithfulness(calibrated(run)))
    real = Discriminators.forward

    def louder(self, *arguments, **keywords):
        logits = real(self, *arguments, **keywords).clone()
        if not isinstance(self.embedding, DealtAnew):
            logits[..., 0] += 7.0
        return logits

    monkeypatch.setattr(Discriminators, "forward", louder)
    found = correlations(faithfulness(run))
    assert found["contribution", "score"] == pytest.approx(plain["contribution", "score"], abs=0.02)
    assert found["share", "judgement"] != plain["share", "judgement"]


def test_without_a_calibration_only_the_judgement_is_measured(run):
    found = correlations(faithfulness(run, users=7))
    assert set(found) == {("share", "judgement"), ("random", "judgement")}


def test_a_judgement_loses_what_it_lacks_without_the_factor(run):
    """Also where factors are weighed by what they say, and one's word changes all weights."""
    probe = _Probe(run.discriminators(), None, 0, np.random.default_rng(0))
    assert probe.discriminators.config.sharpness > 0
    logits, without = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0)).unbind()

    def judgement(y):
        chances = y.sigmoid()
        return ((2.0 * chances).softmax(-1) * chances).sum(-1)

    found = probe._lost(logits, without)
    for factor in range(6):
        changed = logits.clone()
        changed[:, factor] = without[:, factor]
        torch.testing.assert_close(found[:, factor], judgement(logits) - judgement(changed))


def test_where_no_factor_counts_there_is_no_contribution_to_measure(run, capsys):
    calibrated(run, weights=[0.0] * len(WEIGHTS))
    found = correlations(faithfulness(run, users=7))
    assert set(found) == {("share", "judgement"), ("random", "judgement")}
    with pytest.raises(SystemExit):
        main(["eval", str(run.path), "--explanations"])
    assert "no factor counts in the ranking" in " ".join(capsys.readouterr().out.split())


def test_contributions_are_what_a_factor_adds_beyond_the_usual(run):
    explainer = Explainer(calibrated(run), with_discriminators=True)
    history = explainer.recommender.user("u0003")
    entries = explainer.explain(user="u0003", k=3).details["recommendations"]
    proposals = explainer.recommender.propose([history], 12)
    best, items = proposals.logits, proposals.items
    chances = best[0].softmax(0).numpy()
    said = explainer.judge.candidates(history.items, items[0].numpy()).logits
    usual = (chances[:, None] * said).sum(0)
    for entry in entries:
        place = items[0].tolist().index(run.dataset.item_idx(entry["item_id"]))
        for factor, b, y, mean in zip(entry["factors"], WEIGHTS, said[place], usual, strict=False):
            assert factor["contribution"] == pytest.approx(b * (y - mean), abs=1e-4)
    frame = explainer.explain(user="u0003", k=3).to_frame()
    by_part = frame.group_by("part").agg(pl.col("contribution").null_count(), pl.len())
    nulls = {part: (none, count) for part, none, count in by_part.rows()}
    assert nulls["recommendation"][0] == 0
    assert nulls["history"][0] == nulls["history"][1]


def test_eval_shows_how_far_explanations_hold(run, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["eval", str(calibrated(run).path), "--explanations", "--json", "-"])
    shown = capsys.readouterr()
    found = json.loads(shown.out)["explanations"]
    assert not ended.value.code
    assert len(found["agreements"]) == 6
    assert set(found["drops"]) == set(run.discriminators().factor_names)
    assert [part["calibration"] for part in found["calibration"]] == [0.01] * len(found["drops"])
    for text in ("contribution", "rank correlation", "expected calibration error"):
        assert text in shown.err
