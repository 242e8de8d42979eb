"""Relations: against plain counts and a plain inverse, of training parts alone."""

from itertools import chain, pairwise

import numpy as np
import pytest
import torch
from made import made_dataset

from mfgan.data import relations
from mfgan.data.relations import count_relation, similarity, transition
from mfgan.errors import MfganError

HISTORIES = ([1, 2, 3, 2, 3], [2, 3, 4], [4], [], [5, 5, 2])
NUM_ITEMS = 6  # nobody had the last one


def packed(histories=HISTORIES):
    offsets = np.cumsum([0, *map(len, histories)])
    return np.array([*chain(*histories)], np.int32), offsets.astype(np.int64)


def dense(relation, num_items=NUM_ITEMS):
    full = np.zeros((num_items + 1, num_items + 1))
    for row in range(num_items + 1):
        places = slice(relation.offsets[row], relation.offsets[row + 1])
        assert (np.diff(relation.items[places]) > 0).all()
        full[row, relation.items[places]] = relation.values[places]
    return full


def in_one_scale(full):
    entries = full[full != 0]
    return full / np.sqrt(np.mean(np.square(entries)))


def test_transitions_are_counted_within_histories():
    wanted = np.zeros((NUM_ITEMS + 1, NUM_ITEMS + 1))
    counts = {(1, 2): 1, (2, 3): 3, (3, 2): 1, (3, 4): 1, (5, 2): 1}  # none of an item to itself
    flat = [*chain(*HISTORIES)]
    for (before, after), count in counts.items():
        wanted[before, after] = np.log(1 + count / (200 * flat.count(after) / len(flat)))
    np.testing.assert_allclose(
        dense(transition(*packed(), NUM_ITEMS)), in_one_scale(wanted), rtol=1e-6
    )


def test_transitions_order_a_row_as_smoothed_probabilities_do_relative_to_popularity():
    rng = np.random.default_rng(0)
    histories = [rng.integers(1, 6, 9).tolist() for _ in range(50)]
    row = dense(transition(*packed(histories), NUM_ITEMS))[3]
    flat = [*chain(*histories)]
    pairs = [pair for h in histories for pair in pairwise(h)]
    lift = {}
    for item in (1, 2, 4, 5):
        share = flat.count(item) / len(flat)
        smoothed = (pairs.count((3, item)) + 200 * share) / (200 + flat.count(3))
        lift[item] = smoothed / share
    assert sorted(lift, key=lift.get) == sorted(lift, key=lambda item: row[item])


def plain_similarity(histories, num_items):
    matrix = np.zeros((len(histories), num_items))
    for user, history in enumerate(histories):
        matrix[user, np.array(history, int) - 1] = 1
    inverse = np.linalg.inv(matrix.T @ matrix + 100 * np.eye(num_items))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    full = np.zeros((num_items + 1, num_items + 1))
    full[1:, 1:] = np.maximum(weights, 0)
    return full


def test_similarities_are_those_of_a_plain_inverse():
    wanted = in_one_scale(plain_similarity(HISTORIES, NUM_ITEMS))
    assert (wanted[2] > 0).any()
    found = dense(similarity(*packed(), NUM_ITEMS))
    np.testing.assert_allclose(found, wanted, atol=1e-3)


def test_an_item_keeps_its_most_similar_ones(monkeypatch):
    rng = np.random.default_rng(0)
    histories = [rng.permutation(np.arange(1, 7))[:4].tolist() for _ in range(200)]
    histories += [[1, 2], [3, 4]] * 300
    full = dense(similarity(*packed(histories), NUM_ITEMS))
    monkeypatch.setattr(relations, "_NEIGHBOURS", 1)
    kept = dense(similarity(*packed(histories), NUM_ITEMS))
    assert ((kept > 0).sum(1) <= 1).all()
    assert kept[1].argmax() == full[1].argmax() == 2
    assert (full > 0).sum() > (kept > 0).sum()


@pytest.mark.parametrize("name", ["transition", "similarity"])
def test_only_training_parts_of_the_users_asked_for_count(name, tmp_path):
    dataset = made_dataset(tmp_path)
    chosen = np.array([1, 4, 7, 20])
    parts = [dataset.train_history(user).tolist() for user in chosen]
    count = {"transition": transition, "similarity": similarity}[name]
    wanted = count(*packed(parts), dataset.num_items)
    found = count_relation(name, dataset, chosen)
    np.testing.assert_array_equal(found.items, wanted.items)
    np.testing.assert_array_equal(found.values, wanted.values)
    everyone = count_relation(name, dataset)
    assert len(everyone.items) > len(found.items) > 0
    assert everyone.offsets[1] == 0  # item 0 is none
    assert everyone.offsets[-1] == len(everyone.items)


def test_the_number_of_threads_changes_nothing():
    rng = np.random.default_rng(0)
    histories = [rng.permutation(np.arange(1, 1501))[:40].tolist() for _ in range(3000)]
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(similarity(*packed(histories), 1500))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    one, two = found
    assert np.array_equal(one.items, two.items)
    assert np.array_equal(one.values, two.values)


@pytest.mark.parametrize("count", [transition, similarity])
def test_nothing_to_count(count):
    found = count(*packed([[1], [2]]), NUM_ITEMS)
    assert len(found.items) == len(found.values) == 0
    assert found.offsets.tolist() == [0] * (NUM_ITEMS + 2)


def test_too_many_items_for_a_square_of_them():
    with pytest.raises(MfganError, match="must have at most 20,000 items, got 20,001; leave it"):
        similarity(*packed(), 20_001)
