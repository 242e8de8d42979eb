"""Relations: how well one item goes with another, counted from the training parts of a log."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from numba import njit

from mfgan.data.dataset import PreparedDataset
from mfgan.data.grouping import bounds_of
from mfgan.data.packing import gather_slices
from mfgan.errors import MfganError
from mfgan.names import MOST_SIMILAR, SIMILARITY

_PRIOR = 200.0  # transitions that every item seems to have had more, spread as items are in the log
_RIDGE = 100.0
_NEIGHBOURS = 200  # of each item, the most similar ones


@dataclass(frozen=True)
class Relation:
    """A sparse matrix of items by items: a row an item of the history, a column a candidate.

    Args:
        offsets: ``(num_items + 2,)`` int64 bounds of each item's row; item 0 has none.
        items: ``(n,)`` int32 item_idx, the columns, ascending within a row.
        values: ``(n,)`` float32, above 0; what is not there is 0.
    """

    offsets: npt.NDArray[np.int64]
    items: npt.NDArray[np.int32]
    values: npt.NDArray[np.float32]


def count_relation(
    name: str, dataset: PreparedDataset, users: npt.NDArray[np.int64] | None = None
) -> Relation:
    """One relation, by name.

    Args:
        name: ``transition`` or ``similarity``.
        dataset: Its training parts are counted, and nothing else.
        users: ``(n,)`` user_idx of those that count; all where None.

    Raises:
        MfganError: There are too many items for a similarity.
    """
    histories = _training_parts(dataset, users)
    if name == SIMILARITY:
        return similarity(*histories, dataset.num_items)
    return transition(*histories, dataset.num_items)


def transition(
    items: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64], num_items: int
) -> Relation:
    """How much more often an item follows another than it would by its share in the log.

    ``log(1 + n(a, i) / (c p(i)))``: ``n`` counts how often ``i`` came straight after ``a``, ``p``
    is the item's share of all interactions, and ``c = 200``. Within a row it orders the items as
    the probability smoothed by a Dirichlet prior of mass ``c`` does, relative to ``p`` (MacKay and
    Peto, A hierarchical Dirichlet language model, 1995), and it is 0 for what never followed.

    Args:
        items: ``(num_interactions,)`` item_idx, histories end to end, chronological.
        offsets: ``(num_histories + 1,)`` their bounds.
        num_items: Items of the catalogue.
    """
    follows = np.ones(max(0, len(items) - 1), bool)
    inner = offsets[(offsets > 0) & (offsets < len(items))]
    follows[inner - 1] = False
    before, after = items[:-1][follows].astype(np.int64), items[1:][follows].astype(np.int64)
    width = num_items + 1
    pairs, counts = np.unique((before * width + after)[before != after], return_counts=True)
    share = np.bincount(items, minlength=width) / max(1, len(items))
    rows, columns = pairs // width, pairs % width
    values = np.log1p(counts / (_PRIOR * share[columns]))
    return _by_rows(rows, columns, values, num_items)


def similarity(
    items: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64], num_items: int
) -> Relation:
    """How much an item in the history says for another one beside all the others: EASE.

    With ``P`` the inverse of ``X'X + 100 I``, ``X`` the users by items of whom had what, the weight
    of ``a`` for ``i`` is ``-P[a, i] / P[i, i]`` (Steck, Embarrassingly shallow autoencoders for
    sparse data, 2019). A row keeps its 200 largest weights above 0.

    Args:
        items: ``(num_interactions,)`` item_idx, histories end to end.
        offsets: ``(num_histories + 1,)`` their bounds.
        num_items: Items of the catalogue.

    Raises:
        MfganError: More than 20,000 items, whose square does not fit into memory.
    """
    if num_items > MOST_SIMILAR:
        raise MfganError(
            f"similarity: the catalogue must have at most {MOST_SIMILAR:,} items, got "
            f"{num_items:,}; leave it out of the relations"
        )
    with _one_thread():
        # The square is not named, so that two of them are held at most.
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(_gram(items, offsets, num_items)))
    weights = inverse.div_(-inverse.diagonal().clone()).fill_diagonal_(0)
    kept = min(_NEIGHBOURS, num_items)
    best, columns = weights.topk(kept, dim=1)
    there = best.numpy() > 0
    rows = np.repeat(np.arange(1, num_items + 1), there.sum(1))
    found, values = 1 + columns.numpy()[there], best.numpy()[there]
    order = np.lexsort((found, rows))
    return _by_rows(rows, found[order], values[order], num_items)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Factorisations round otherwise on another number of threads; results must not."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _gram(
    items: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64], num_items: int
) -> torch.Tensor:
    """``(num_items, num_items)`` float32, ``X'X`` and the ridge."""
    gram = np.zeros((num_items, num_items), np.float32)
    _add_pairs(items, offsets, gram)
    gram[np.diag_indices(num_items)] += _RIDGE
    return torch.from_numpy(gram)


def _by_rows(
    rows: npt.NDArray[np.int64],
    columns: npt.NDArray[np.int64],
    values: npt.NDArray[np.floating],
    num_items: int,
) -> Relation:
    """Entries in order, scaled to a mean square of 1: those of any log weigh alike."""
    offsets = np.searchsorted(rows, np.arange(num_items + 2)).astype(np.int64)
    scale = np.sqrt(np.mean(np.square(values, dtype=np.float64))) if len(values) else 1.0
    return Relation(offsets, columns.astype(np.int32), (values / scale).astype(np.float32))


def _training_parts(
    dataset: PreparedDataset, users: npt.NDArray[np.int64] | None
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Training parts end to end, ``(num_interactions,)``, and ``(num_users + 1,)`` their bounds."""
    users = np.arange(dataset.num_users) if users is None else users
    offsets = bounds_of(dataset.train_end[users])
    items = np.empty(offsets[-1], np.int32)
    gather_slices(dataset.items, dataset.offsets[users], offsets, items)
    return items, offsets


@njit(cache=True, nogil=True)
def _add_pairs(items, offsets, gram):  # type: ignore[no-untyped-def]
    """Add ``X'X``: one for every pair of different items, and item itself, that a user had."""
    last = np.full(gram.shape[0], -1)  # the user of whom an item was last seen
    mine = np.empty(gram.shape[0], np.int64)
    for user in range(len(offsets) - 1):
        count = 0
        for place in range(offsets[user], offsets[user + 1]):
            item = items[place] - 1
            if last[item] != user:
                last[item] = user
                mine[count] = item
                count += 1
        for a in range(count):
            for b in range(count):
                gram[mine[a], mine[b]] += 1
