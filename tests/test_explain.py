"""Explanations: the figures against a plain computation, and the pictures."""

import json
from itertools import chain
from math import exp

import numpy as np
import polars as pl
import pytest
import torch
from made import made_dataset
from made_run import calibrated, finished_run

from mfgan.data.batch import JaggedBatch
from mfgan.errors import MfganError
from mfgan.explain import Explainer, Judgements, plot
from mfgan.explain.plot import save_plot


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    return finished_run(path / "run", made_dataset(path, min_len=5))


@pytest.fixture(scope="module")
def explanation(run):
    return Explainer(run).explain(user="u0003", k=4)


def judge_one(run, history, item):
    """Every factor's logit, with the history as a session of its own."""
    batch = JaggedBatch.from_sequences([history], max_len=99)
    last = torch.tensor([len(history) - 1])
    with torch.no_grad():
        return run.discriminators()(batch, last, torch.tensor([[item]]))[0, 0].tolist()


def check_entry(entry, logits, sharpness):
    """The figures of one item by arithmetic."""
    chances = [1 / (1 + exp(-y)) for y in logits]
    raw = [exp(sharpness * chance) for chance in chances]
    parts = [w / sum(raw) * chance for w, chance in zip(raw, chances, strict=True)]
    assert entry["judgement"] == pytest.approx(sum(parts), rel=1e-4)
    for place, factor in enumerate(entry["factors"]):
        assert factor["logit"] == pytest.approx(logits[place], rel=1e-4, abs=1e-5)
        assert factor["probability"] == pytest.approx(chances[place], rel=1e-4)
        assert factor["weight"] == pytest.approx(raw[place] / sum(raw), rel=1e-4)
        assert factor["share"] == pytest.approx(parts[place] / sum(parts), rel=1e-4)
    leading = max(range(len(parts)), key=parts.__getitem__)
    assert entry["leading"] == entry["factors"][leading]["factor"]


def test_every_step_is_judged_by_what_went_before(run, explanation):
    items = run.dataset.history(3, "all").tolist()
    entries = explanation.details["history"]
    assert [entry["step"] for entry in entries] == list(range(2, len(items) + 1))
    for entry in entries:
        step = entry["step"]
        assert entry["item_id"] == f"i{items[step - 1]:04}"
        check_entry(entry, judge_one(run, items[: step - 1], items[step - 1]), 2.0)


def test_every_recommendation_is_judged_by_the_whole_history(run, explanation):
    items = run.dataset.history(3, "all").tolist()
    entries = explanation.details["recommendations"]
    assert [entry["rank"] for entry in entries] == [1, 2, 3, 4]
    for entry in entries:
        item = run.dataset.item_idx(entry["item_id"])
        assert item not in items
        check_entry(entry, judge_one(run, items, item), 2.0)


def test_values_have_names(run, explanation):
    dataset = run.dataset
    tags = dataset.factor("tags")
    for entry in explanation.details["history"]:
        item = dataset.item_idx(entry["item_id"])
        value = {factor["factor"]: factor["value"] for factor in entry["factors"]}
        genre = dataset.factor("genre")
        assert value["genre"] == genre.labels[genre.values[item]]
        bag = tags.values[tags.offsets[item] : tags.offsets[item + 1]]
        assert value["tags"] == ", ".join(tags.labels[tag] for tag in bag)
        assert value["id"] == entry["item_id"]
        assert value["vector"] == ""


def test_the_frame_holds_what_the_details_hold(explanation):
    frame = explanation.to_frame()
    count = len(explanation.factor_names)
    entries = [*explanation.details["history"], *explanation.details["recommendations"]]
    assert frame.height == len(entries) * count
    shares = [factor["share"] for entry in entries for factor in entry["factors"]]
    assert frame["share"].to_list() == shares
    assert frame["leading"].sum() == len(entries)


def test_only_the_last_steps(run):
    items = run.dataset.history(3, "all").tolist()
    found = Explainer(run).explain(user="u0003", k=1, steps=2).details["history"]
    assert [entry["step"] for entry in found] == [len(items) - 1, len(items)]
    check_entry(found[0], judge_one(run, items[:-2], items[-2]), 2.0)


def test_a_new_session_and_one_of_a_single_item(run):
    explainer = Explainer(run)
    found = explainer.explain(session=["i0001", "?", "i0002"], k=2)
    assert found.details["unknown_items"] == ["?"]
    assert [entry["item_id"] for entry in found.details["history"]] == ["i0002"]
    check_entry(found.details["history"][0], judge_one(run, [1], 2), 2.0)
    assert explainer.explain(session=["i0001"], k=2).details["history"] == []


@pytest.mark.parametrize("together", [1, 16])
def test_reasons_go_with_recommendations(run, monkeypatch, together):
    monkeypatch.setattr("mfgan.recommend._BLOCK_SESSIONS", together)
    monkeypatch.setattr("mfgan.recommend._BLOCK_BYTES", 1)
    explainer = Explainer(run)
    given = (["i0001", "i0009"], ["i0005"])
    sessions = [explainer.recommender.session(items) for items in given]
    table = explainer.reasons(sessions, explainer.recommender.rank(sessions, k=3))
    for row, history in zip(table.rows(named=True), [[1, 9]] * 3 + [[5]] * 3, strict=True):
        entry = {**row, "factors": row["reasons"]}
        check_entry(entry, judge_one(run, history, row["item_idx"]), 2.0)
    alone = [explainer.explain(session=items, k=3).details["recommendations"] for items in given]
    for row, entry in zip(table.rows(named=True), chain(*alone), strict=True):
        assert row["score_parts"] == pytest.approx(entry["score_parts"], rel=1e-5, abs=1e-6)
    assert explainer.reasons([], explainer.recommender.rank([], k=3)).height == 0


def test_nothing_leads_where_all_judgements_vanish():
    zero = np.zeros((1, 4), np.float32)
    found = Judgements(np.array([1]), zero - 200, zero, np.full((1, 4), 0.25, np.float32))
    assert found.shares.tolist() == [[0.25] * 4]


def test_details_are_json(explanation):
    assert json.loads(json.dumps(explanation.details, allow_nan=False)) == explanation.details


@pytest.mark.parametrize("arguments", [{"user": "u0003"}, {"session": ["i0001"]}])
def test_pictures(run, tmp_path, arguments):
    explanation = Explainer(run).explain(k=3, **arguments)
    paths = [tmp_path / "again" / "a.png", tmp_path / "a.svg", tmp_path / "b.svg"]
    save_plot(explanation, *paths)
    assert paths[0].read_bytes().startswith(b"\x89PNG")
    text = paths[1].read_text()
    for name in (*explanation.factor_names, explanation.recommendations["title"][0]):
        assert name in text
    assert text == paths[2].read_text()


def test_a_picture_without_matplotlib(explanation, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(MfganError, match="run: pip install 'mfgan\\[report\\]'"):
        save_plot(explanation, tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()


def test_ids_of_a_picture_follow_from_what_it_shows():
    text = '<path id="m{0}" d="M 0 1"/><use href="#m{0}" clip-path="url(#p{1})"/><p id="p{1}"/>'
    one = plot._named_anew(text.format("0123456789", "abcdef0123"))
    assert one == plot._named_anew(text.format("9876543210", "0000000000"))
    first, second = (part.split('"')[0] for part in one.split('id="')[1:])
    assert first != second
    assert f'href="#{first}" clip-path="url(#{second})"' in one
    another = plot._named_anew(text.replace("M 0 1", "M 0 2").format("0123456789", "abcdef0123"))
    assert first not in another
    assert "#222222" in plot._named_anew("fill: #222222")


@pytest.mark.parametrize("with_discriminators", [False, True])
def test_who_has_had_every_item_is_recommended_nothing(tmp_path, with_discriminators):
    """Nor do the sessions beside hers get another's reasons."""
    run = calibrated(finished_run(tmp_path / "run", made_dataset(tmp_path, min_len=5)))
    explainer = Explainer(run, with_discriminators=with_discriminators)
    ids = run.dataset.item_ids
    found = explainer.explain(session=ids, k=4)
    assert found.details["recommendations"] == []
    assert found.recommendations.height == 0
    recommender = explainer.recommender
    given = [recommender.session(items) for items in (ids[:3], ids, ids[4:9])]
    alone = [explainer.reasons([one], recommender.rank([one], k=3)) for one in given]
    together = explainer.reasons(given, recommender.rank(given, k=3))
    assert [part.height for part in alone] == [3, 0, 3]
    apart = pl.concat(alone)
    assert together["item_id"].equals(apart["item_id"])
    for one, other in zip(together["reasons"], apart["reasons"], strict=True):
        assert [part["value"] for part in one] == [part["value"] for part in other]


def test_only_what_was_re_ranked_has_contributions(tmp_path):
    run = calibrated(finished_run(tmp_path / "run", made_dataset(tmp_path, min_len=5)))
    explainer = Explainer(run, with_discriminators=True)
    top_k = run.correction().top_k
    found = explainer.explain(user="u0003", k=top_k + 5).recommendation_judgements.contributions
    assert np.all(found[:top_k].any(axis=1))
    assert not found[top_k:].any()
