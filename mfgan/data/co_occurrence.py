"""The factor ``co_occurrence``: vectors of items by which users have them in common."""

import numpy as np
import numpy.typing as npt
from numba import njit

from mfgan.data.factors import CO_OCCURRENCE, Factor
from mfgan.errors import MfganError

_DRAW = 108  # tells this use of a seed from every other one
_SPARE, _ROUNDS = 16, 8  # columns beside the wanted ones, and passes over the log
_PRIOR = 5.0  # interactions that every item seems to have more, so that rare ones stay short


def co_occurrence_factor(
    items: npt.NDArray[np.int32],
    offsets: npt.NDArray[np.int64],
    train_end: npt.NDArray[np.int64],
    num_items: int,
    *,
    dim: int,
    seed: int = 0,
) -> Factor:
    """Item vectors of the training part: right singular vectors of the user-item matrix.

    An entry of the matrix is ``1 / sqrt(count(item) + 5)`` for each time that the user had the
    item; an item's vector is its row of ``V diag(s)``, of length 1, so that the product of two says
    how much the same users have both. Found by subspace iteration (Halko, Martinsson and Tropp,
    Finding structure with randomness, 2011, algorithm 4.4).

    Args:
        items: ``(num_interactions,)`` item_idx, user by user.
        offsets: ``(num_users + 1,)`` bounds of the users' interactions.
        train_end: ``(num_users,)`` how many of a user's interactions are her training part.
        num_items: Items of the catalogue.
        dim: Width of the vectors.
        seed: Of the first subspace.

    Returns:
        A dense factor; items without a training interaction have the zero vector.

    Raises:
        MfganError: ``dim`` is not within 1 and the number of items.
    """
    if not 1 <= dim <= num_items:
        raise MfganError(
            f"prepare: --co-occurrence must be within 1..{num_items} (the items), got {dim}"
        )
    ends = np.asarray(offsets[:-1] + train_end, np.int64)
    weights = _item_weights(items, offsets[:-1], ends, num_items)
    rng = np.random.default_rng([seed, _DRAW])
    width = min(dim + _SPARE, num_items)
    basis = np.linalg.qr(rng.normal(size=(num_items + 1, width)))[0]
    for _ in range(_ROUNDS):
        basis = np.linalg.qr(_gram_times(items, offsets, ends, weights, basis))[0]
    small = basis.T @ _gram_times(items, offsets, ends, weights, basis)
    values, turn = np.linalg.eigh((small + small.T) / 2)
    best = np.argsort(-values)[:dim]
    vectors = (basis @ turn[:, best]) * np.sqrt(np.maximum(values[best], 0))
    # A singular vector's sign is arbitrary: its largest entry is positive.
    largest = np.abs(vectors).argmax(axis=0)
    vectors *= np.where(vectors[largest, np.arange(dim)] < 0, -1.0, 1.0)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    known = (weights > 0)[:, None] & (lengths > 0)
    unit = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=known)
    return Factor(CO_OCCURRENCE, "dense", dim, unit.astype(np.float32), None, ())


def _item_weights(
    items: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
    num_items: int,
) -> npt.NDArray[np.float64]:
    """``(num_items + 1,)`` of each item's entries, 0 where it has none."""
    counts = np.zeros(num_items + 1, np.int64)
    _count(items, starts, ends, counts)
    return np.where(counts > 0, 1 / np.sqrt(counts + _PRIOR), 0.0)


@njit(cache=True, nogil=True)
def _count(items, starts, ends, counts):  # type: ignore[no-untyped-def]
    for user in range(len(starts)):
        for place in range(starts[user], ends[user]):
            counts[items[place]] += 1


@njit(cache=True, nogil=True)
def _gram_times(items, offsets, ends, weights, basis):  # type: ignore[no-untyped-def]
    """``X.T @ (X @ basis)``, a user at a time: the product of all users is never held."""
    out = np.zeros_like(basis)
    width = basis.shape[1]
    row = np.empty(width)
    for user in range(len(ends)):
        row[:] = 0.0
        for place in range(offsets[user], ends[user]):
            item = items[place]
            for column in range(width):
                row[column] += weights[item] * basis[item, column]
        for place in range(offsets[user], ends[user]):
            item = items[place]
            for column in range(width):
                out[item, column] += weights[item] * row[column]
    return out
