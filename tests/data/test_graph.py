"""Vectors of a graph against what its triples say."""

import numpy as np
import pytest

from mfgan.data.graph import train_vectors
from mfgan.errors import MfganError

# Thirty films: each has one of three directors and one of five genres.
NUM_FILMS = 30
DIRECTORS, GENRES = NUM_FILMS + np.arange(3), NUM_FILMS + 3 + np.arange(5)
FILMS = np.arange(NUM_FILMS)
TRIPLES = np.concatenate(
    [
        np.stack([FILMS, np.zeros(NUM_FILMS, int), DIRECTORS[FILMS % 3]], 1),
        np.stack([FILMS, np.ones(NUM_FILMS, int), GENRES[FILMS % 5]], 1),
    ]
)
NUM_ENTITIES = NUM_FILMS + 8


def vectors(**arguments):
    return train_vectors(TRIPLES, NUM_ENTITIES, 2, **({"dim": 8, "epochs": 400} | arguments))


def test_films_of_like_relations_lie_together():
    found = vectors()
    likeness = found[:NUM_FILMS] @ found[:NUM_FILMS].T
    shared = (FILMS[:, None] % 3 == FILMS % 3).astype(int) + (FILMS[:, None] % 5 == FILMS % 5)
    apart = ~np.eye(NUM_FILMS, dtype=bool)
    means = [likeness[apart & (shared == count)].mean() for count in (0, 1, 2)]
    assert means[0] + 0.2 < means[1] < means[2] - 0.1


def test_vectors_have_length_one_and_follow_from_the_seed():
    found = vectors(epochs=3)
    assert found.dtype == np.float32
    assert found.shape == (NUM_ENTITIES, 8)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert np.array_equal(found, vectors(epochs=3))
    assert not np.array_equal(found, vectors(epochs=3, seed=1))


@pytest.mark.parametrize(
    ("triples", "message"),
    [
        (np.zeros((0, 3)), "there must be a triple, got none"),
        ([[0, 2, 1]], r"relations below 2, got \[0, 2, 1\]"),
        ([[0, 1, 38]], r"entities below 38 .* got \[0, 1, 38\]"),
        ([[-1, 1, 3]], r"got \[-1, 1, 3\]"),
    ],
)
def test_triples_of_what_is_not_there_are_refused(triples, message):
    with pytest.raises(MfganError, match=message):
        train_vectors(np.array(triples), NUM_ENTITIES, 2)
