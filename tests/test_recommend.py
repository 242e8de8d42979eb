"""Recommendations for users and for new sessions."""

import numpy as np
import polars as pl
import pytest
import torch
from made import made_dataset
from made_run import finished_run

from mfgan.data.batch import JaggedBatch
from mfgan.errors import MfganError
from mfgan.recommend import Recommender, Session, read_sessions


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    return finished_run(path / "run", made_dataset(path))


@pytest.fixture(scope="module")
def recommender(run):
    return Recommender(run)


def expected(run, items, k):
    """By sorting, item by item."""
    generator = run.generator()
    batch = JaggedBatch.from_sequences([items], max_len=10)
    with torch.no_grad():
        logits = generator.logits(generator(batch)[-1:])[0]
    left = [i for i in range(1, run.dataset.num_items + 1) if i not in set(items)]
    best = sorted(left, key=lambda i: -float(logits[i]))[:k]
    chance = logits[left].softmax(0)
    return [(i, float(logits[i]), float(chance[left.index(i)])) for i in best]


def check(frame, run, items, k):
    assert frame["rank"].to_list() == list(range(1, frame.height + 1))
    found = frame.select("item_id", "title", "score", "probability").rows()
    for (item_id, title, score, chance), (item, logit, share) in zip(
        found, expected(run, items, k), strict=True
    ):
        assert item_id == f"i{item:04}"
        assert title == f"Item i{item:04}"
        assert score == pytest.approx(logit, rel=1e-5, abs=1e-5)
        assert chance == pytest.approx(share, rel=1e-4)


def test_users(run, recommender):
    frame = recommender.recommend(users=["u0003", "u0000"], k=7)
    assert frame["user_id"].unique(maintain_order=True).to_list() == ["u0003", "u0000"]
    for user in (3, 0):
        part = frame.filter(pl.col("user_id") == f"u{user:04}")
        check(part, run, run.dataset.history(user, "all").tolist(), 7)


def test_new_sessions_are_cut_to_what_the_model_sees_but_all_is_excluded(run, recommender):
    long = [f"i{item:04}" for item in range(1, 16)]
    frame = recommender.recommend(sessions=[long, ["i0007"]], k=30)
    check(frame.filter(pl.col("session") == "0"), run, list(range(1, 16)), 30)
    check(frame.filter(pl.col("session") == "1"), run, [7], 30)


def test_unknown_items_are_named_and_skipped(run, recommender):
    session = recommender.session(["i0007", "nothing", "i0002", 12])
    assert session.items.tolist() == [7, 2]
    assert session.unknown == ("nothing", "12")
    check(recommender.rank([session], k=3), run, [7, 2], 3)


def test_a_table_of_sessions(recommender):
    table = pl.DataFrame({"session": [8, 5, 8], "item_id": ["i0003", "i0001", "i0004"]})
    found = recommender.recommend(sessions=table, k=4)
    plain = recommender.recommend(sessions=[["i0003", "i0004"], ["i0001"]], k=4)
    assert found["session"].unique(maintain_order=True).to_list() == ["8", "5"]
    assert found.drop("session").equals(plain.drop("session"))
    assert recommender.recommend(sessions=table.to_arrow(), k=4).equals(found)


def test_ids_of_a_table_of_sessions_are_read_as_those_of_a_log():
    table = pl.DataFrame({"session": [1, 1, 2], "item_id": [3.0, 4.0, 5.0]})
    assert list(read_sessions(table)) == [("1", ["3", "4"]), ("2", ["5"])]
    text = pl.DataFrame({"session": ["a"], "item_id": ["007"]})
    assert list(read_sessions(text)) == [("a", ["007"])]
    for rows in ({"session": [None, "b"]}, {"item_id": [None, "5"]}):
        lacking = pl.DataFrame({"session": ["a", "b"], "item_id": ["4", "5"]} | rows)
        with pytest.raises(MfganError, match="of every row, 1 of 2 lack one"):
            list(read_sessions(lacking))


def test_blocks_change_nothing(recommender, monkeypatch):
    sessions = [[f"i{item:04}"] for item in range(1, 12)]
    whole = recommender.recommend(sessions=sessions)
    monkeypatch.setattr("mfgan.recommend._BLOCK_BYTES", 4 * 31 * 3)
    monkeypatch.setattr("mfgan.recommend._BLOCK_SESSIONS", 1)
    parts = recommender.recommend(sessions=sessions)
    assert parts.drop("score", "probability").equals(whole.drop("score", "probability"))
    np.testing.assert_allclose(parts["score"], whole["score"], rtol=1e-5)


def test_a_session_of_the_whole_catalogue_and_no_session_at_all(recommender):
    everything = [f"i{item:04}" for item in range(1, 31)]
    assert recommender.recommend(sessions=[everything]).height == 0
    nothing = recommender.recommend(sessions=[])
    assert nothing.height == 0
    assert nothing.columns == recommender.recommend(sessions=[["i0001"]]).columns


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "recommend: give either users or sessions"),
        ({"users": ["u0001"], "sessions": [["i0001"]]}, "recommend: give either users or sessions"),
        ({"users": ["nobody"]}, "user 'nobody' must be in the data set, found none"),
        ({"sessions": [["x", "y"]]}, "must hold an item of the catalogue, got x, y"),
        ({"sessions": [[]]}, "must hold an item of the catalogue, got none"),
        ({"users": ["u0001"], "k": 0}, "recommend: k must be at least 1, got 0"),
        (
            {"sessions": pl.DataFrame({"sesion": [1], "item_id": ["a"]})},
            "must have the column session, got sesion, item_id; did you mean 'sesion'?",
        ),
    ],
)
def test_mistakes_get_one_line(recommender, arguments, message):
    with pytest.raises(MfganError) as caught:
        recommender.recommend(**arguments)
    assert message in str(caught.value)


def test_broken_weights_get_one_line(run):
    recommender = Recommender(run)
    recommender._score._generator.item_embedding.data[5] = float("nan")
    with pytest.raises(MfganError, match="recommend: scores must be finite"):
        recommender.rank([Session("0", np.array([1], np.int32))])


@pytest.mark.parametrize(
    "given", [{"users": "12"}, {"sessions": "12"}, {"sessions": ["12"]}, {"users": b"1"}]
)
def test_a_text_is_not_taken_for_the_ids_that_its_letters_are(recommender, given):
    with pytest.raises(MfganError, match="must be a list of ids, got b?'12?'"):
        recommender.recommend(**given)


def test_more_items_than_there_are_may_be_asked_for(recommender):
    found = recommender.recommend(sessions=[["i0001"]], k=10**12)
    assert len(found) < recommender.dataset.num_items
