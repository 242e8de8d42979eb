"""Popularity and item-kNN, worked out by hand."""

from math import sqrt

import numpy as np
import pytest
from made_scores import InMemoryDataset, random_dataset

from mfgan.data.batch import JaggedBatch
from mfgan.errors import MfganError
from mfgan.evaluation.baselines import ItemKNN, Popularity
from mfgan.evaluation.protocol import evaluate

# The last two of each history are targets; training parts: [1, 2, 1], [1, 2, 3], [2], [4].
HISTORIES = [[1, 2, 1, 4, 4], [1, 2, 3, 4, 4], [2, 4, 4], [4, 5, 5]]


@pytest.fixture
def dataset():
    return InMemoryDataset(HISTORIES, 6)


def test_popularity_counts_the_training_part_alone(dataset):
    scores = Popularity(dataset)(JaggedBatch.from_sequences([[5], [1]], max_len=3))
    assert scores.tolist() == [[0, 3, 3, 1, 1, 0, 0]] * 2


def test_neighbours_by_hand(dataset):
    # Users with item 1: 2, item 2: 3, item 3: 1. Both 1 and 2: 2 users, 1 and 3: 1, 2 and 3: 1.
    knn = ItemKNN(dataset)
    one_two, one_three, two_three = 2 / sqrt(2 * 3), 1 / sqrt(2 * 1), 1 / sqrt(3 * 1)
    expected = {
        1: [(2, one_two), (3, one_three)],
        2: [(1, one_two), (3, two_three)],
        3: [(1, one_three), (2, two_three)],
        4: [],
        5: [],
    }
    for item, near in expected.items():
        assert [i for i, _ in knn.neighbours(item)] == [i for i, _ in near]
        assert [s for _, s in knn.neighbours(item)] == pytest.approx([s for _, s in near])
    assert ItemKNN(dataset, neighbours=1).neighbours(3) == [(1, pytest.approx(one_three))]


def test_scores_by_hand(dataset):
    one_two, one_three, two_three = 2 / sqrt(2 * 3), 1 / sqrt(2 * 1), 1 / sqrt(3 * 1)
    knn = ItemKNN(dataset, decay=0.5)
    # The later 1 of the second session counts, so the distinct items from its end are 1, 3, 2.
    scores = knn(JaggedBatch.from_sequences([[1, 2], [1, 2, 3, 1], [4], []], max_len=9))
    first = [0, one_two, 0.5 * one_two, two_three + 0.5 * one_three, 0, 0, 0]
    second = [
        0,
        0.5 * one_three + 0.25 * one_two,
        one_two + 0.5 * two_three,
        one_three + 0.25 * two_three,
        0,
        0,
        0,
    ]
    assert scores[0].tolist() == pytest.approx(first)
    assert scores[1].tolist() == pytest.approx(second)
    assert not scores[2:].any()


def test_neighbours_equal_a_dense_matrix():
    dataset = random_dataset(num_users=60, num_items=30, longest=12)
    matrix = np.zeros((60, 31))
    for user in range(60):
        matrix[user, dataset.train_history(user)[-5:]] = 1
    together = matrix.T @ matrix
    norm = np.sqrt(np.outer(np.diag(together), np.diag(together)))
    cosine = np.divide(together, norm, out=np.zeros_like(norm), where=norm > 0)
    np.fill_diagonal(cosine, 0)
    knn = ItemKNN(dataset, neighbours=30, longest=5)
    for item in range(1, 31):
        found = np.zeros(31)
        for near, likeness in knn.neighbours(item):
            found[near] = likeness
        np.testing.assert_allclose(found, cosine[item], rtol=1e-6)


def test_held_out_items_change_nothing(dataset):
    changed = InMemoryDataset([[*h[:-2], 6, 6] for h in HISTORIES], 6)
    batch = JaggedBatch.from_sequences([[1], [2, 3]], max_len=3)
    for kind in (Popularity, ItemKNN):
        assert kind(dataset)(batch).equal(kind(changed)(batch))


@pytest.mark.parametrize("kind", [Popularity, ItemKNN])
def test_baselines_evaluate(kind):
    dataset = random_dataset()
    found = evaluate(dataset, kind(dataset), max_len=60)
    assert 0 < found.metrics["HR@20"] < 1


@pytest.mark.parametrize("bad", [{"neighbours": 0}, {"decay": 0.0}, {"decay": 1.5}, {"longest": 0}])
def test_arguments_are_checked(dataset, bad):
    with pytest.raises(MfganError, match="ItemKNN: neighbours and longest must be at least 1"):
        ItemKNN(dataset, **bad)
