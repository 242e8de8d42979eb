"""Vectors of a knowledge graph's entities, trained on its triples (TransE)."""

import numpy as np
import numpy.typing as npt
from numba import njit

from mfgan.errors import MfganError

_TRAIN = 107  # tells this use of a seed from every other one


def train_vectors(
    triples: npt.NDArray[np.int64],
    num_entities: int,
    num_relations: int,
    *,
    dim: int = 50,
    epochs: int = 200,
    learning_rate: float = 0.01,
    margin: float = 1.0,
    seed: int = 0,
) -> npt.NDArray[np.float32]:
    """Vectors such that ``head + relation`` is near ``tail`` for triples that hold.

    Bordes et al., Translating embeddings for modeling multi-relational data, NIPS 2013, algorithm 1
    with squared L2 distance, one triple a step and its head or tail exchanged for any entity. The
    steps follow one another, so that the result depends on the arguments alone.

    Args:
        triples: ``(n, 3)`` int64: head, relation and tail, each numbered from 0.
        num_entities: How many entities there are.
        num_relations: How many relations.
        dim: Width of the vectors.
        epochs: Passes over the triples.
        learning_rate: Of plain gradient descent.
        margin: How much nearer a triple that holds should be than one that does not.
        seed: Of initial vectors, order and exchanges.

    Returns:
        ``(num_entities, dim)`` float32, each of length 1.

    Raises:
        MfganError: There is no triple, or one names what is not there.
    """
    triples = np.asarray(triples, np.int64).reshape(-1, 3)
    if not len(triples):
        raise MfganError("train_vectors: there must be a triple, got none")
    limits = np.array([num_entities, num_relations, num_entities])
    wrong = np.flatnonzero(((triples < 0) | (triples >= limits)).any(1))
    if len(wrong):
        raise MfganError(
            f"train_vectors: triples must be of entities below {num_entities} and relations below "
            f"{num_relations}, got {triples[wrong[0]].tolist()}"
        )
    rng = np.random.default_rng([seed, _TRAIN])
    bound = 6.0 / np.sqrt(dim)
    entities = rng.uniform(-bound, bound, (num_entities, dim)).astype(np.float32)
    relations = rng.uniform(-bound, bound, (num_relations, dim)).astype(np.float32)
    relations /= np.linalg.norm(relations, axis=1, keepdims=True)
    for _ in range(epochs):
        entities /= np.linalg.norm(entities, axis=1, keepdims=True)
        order = rng.permutation(len(triples))
        others = rng.integers(0, num_entities, len(triples))
        heads = rng.integers(0, 2, len(triples)).astype(np.bool_)
        _pass(entities, relations, triples[order], others, heads, learning_rate, margin)
    entities /= np.linalg.norm(entities, axis=1, keepdims=True)
    return entities


@njit(cache=True, nogil=True)
def _pass(entities, relations, triples, others, heads, rate, margin):  # type: ignore[no-untyped-def]
    dim = entities.shape[1]
    for row in range(triples.shape[0]):
        h, r, t = triples[row]
        wrong_h, wrong_t = (others[row], t) if heads[row] else (h, others[row])
        if wrong_h == h and wrong_t == t:
            continue
        right, wrong = np.float32(0), np.float32(0)
        for d in range(dim):
            a = entities[h, d] + relations[r, d] - entities[t, d]
            b = entities[wrong_h, d] + relations[r, d] - entities[wrong_t, d]
            right += a * a
            wrong += b * b
        if right + margin <= wrong:
            continue
        for d in range(dim):
            a = np.float32(2 * rate) * (entities[h, d] + relations[r, d] - entities[t, d])
            b = np.float32(2 * rate) * (
                entities[wrong_h, d] + relations[r, d] - entities[wrong_t, d]
            )
            entities[h, d] -= a
            entities[t, d] += a
            relations[r, d] -= a - b
            entities[wrong_h, d] += b
            entities[wrong_t, d] -= b
