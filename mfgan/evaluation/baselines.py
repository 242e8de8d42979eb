"""Recommenders without training, to stand beside every trained one: popularity and item-kNN."""

from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mfgan.data.batch import JaggedBatch
from mfgan.data.dataset import PreparedDataset
from mfgan.errors import MfganError

_ITEMS_A_PART = 1024  # items whose neighbours one task finds


class Popularity:
    """Scores an item by its number of training interactions, the same for everybody.

    Args:
        dataset: The data set.
    """

    def __init__(self, dataset: PreparedDataset) -> None:
        self._counts = torch.from_numpy(dataset.train_counts().astype(np.float32))

    def __call__(self, batch: JaggedBatch) -> Tensor:
        """``(num_sessions, num_items + 1)`` float32."""
        return self._counts.expand(batch.num_sessions, -1)


class ItemKNN:
    """Scores an item by its likeness to what the session holds.

    Two items are as alike as the cosine of their columns in the binary matrix of users and
    training interactions: users with both over the geometric mean of users with each. Each item
    keeps its nearest neighbours. A score is the sum of likenesses to the session's distinct items,
    the item that is n distinct items back weighing ``decay ** n``. The defaults were the best of a
    small grid on the validation parts of MovieLens-1M and Amazon Beauty.

    Args:
        dataset: The data set; its training part alone is looked at.
        neighbours: How many neighbours an item keeps.
        decay: Weight of an item over that of the one after it, within 0 to 1.
        longest: Of longer training histories the last so many interactions count, for the work
            grows with the square of the length.

    Raises:
        MfganError: An argument is out of range.
    """

    def __init__(
        self,
        dataset: PreparedDataset,
        *,
        neighbours: int = 200,
        decay: float = 0.6,
        longest: int = 1000,
    ) -> None:
        if neighbours < 1 or longest < 1 or not 0.0 < decay <= 1.0:
            raise MfganError(
                "ItemKNN: neighbours and longest must be at least 1 and decay within 0 to 1, got "
                f"{neighbours}, {longest}, {decay}"
            )
        self._num_items, self._decay = dataset.num_items, decay
        users = _distinct_training(dataset, longest)
        self._offsets, self._items, self._likeness = _neighbours(
            *users, dataset.num_items, neighbours
        )

    def __call__(self, batch: JaggedBatch) -> Tensor:
        """``(num_sessions, num_items + 1)`` float32."""
        scores = np.zeros((batch.num_sessions, self._num_items + 1), np.float32)
        _add_likeness(
            batch.items.numpy(),
            batch.offsets.numpy(),
            self._decay,
            self._offsets,
            self._items,
            self._likeness,
            scores,
        )
        return torch.from_numpy(scores)

    def neighbours(self, item: int) -> list[tuple[int, float]]:
        """The neighbours of an item, the nearest first, with their likeness."""
        part = slice(self._offsets[item], self._offsets[item + 1])
        return list(zip(self._items[part].tolist(), self._likeness[part].tolist(), strict=True))


Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Float32s = npt.NDArray[np.float32]


def _distinct_training(dataset: PreparedDataset, longest: int) -> tuple[Int64s, Int32s]:
    starts = np.asarray(dataset.offsets[:-1], np.int64)
    ends = starts + np.asarray(dataset.train_end, np.int64)
    starts = np.maximum(starts, ends - longest)
    return _distinct(np.asarray(dataset.items), starts, ends, dataset.num_items)  # type: ignore[no-any-return]


@numba.njit(cache=True, nogil=True)
def _distinct(items, starts, ends, num_items):  # type: ignore[no-untyped-def]
    offsets = np.zeros(len(starts) + 1, np.int64)
    kept = np.empty((ends - starts).sum(), np.int32)
    mark = np.full(num_items + 1, -1, np.int64)
    size = 0
    for user in range(len(starts)):
        for place in range(starts[user], ends[user]):
            item = items[place]
            if mark[item] != user:
                mark[item] = user
                kept[size] = item
                size += 1
        offsets[user + 1] = size
    return offsets, kept[:size].copy()


def _neighbours(
    user_offsets: Int64s, user_items: Int32s, num_items: int, k: int
) -> tuple[Int64s, Int32s, Float32s]:
    # The same matrix by item: which users have it.
    counts = np.bincount(user_items, minlength=num_items + 1)
    item_offsets = np.concatenate(([0], np.cumsum(counts)))
    order = np.argsort(user_items, kind="stable")
    item_users = np.repeat(np.arange(len(user_offsets) - 1), np.diff(user_offsets))[order]

    def part(first: int) -> tuple[Int64s, Int32s, Float32s]:
        last = min(first + _ITEMS_A_PART, num_items + 1)
        return _nearest(  # type: ignore[no-any-return]
            first, last, user_offsets, user_items, item_offsets, item_users, k
        )

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        parts = list(pool.map(part, range(0, num_items + 1, _ITEMS_A_PART)))
    sizes, items, likeness = (np.concatenate(column) for column in zip(*parts, strict=True))
    return np.concatenate(([0], np.cumsum(sizes))), items, likeness


@numba.njit(cache=True, nogil=True)
def _nearest(  # type: ignore[no-untyped-def]
    first, last, user_offsets, user_items, item_offsets, item_users, k
):
    num_columns = len(item_offsets) - 1
    together = np.zeros(num_columns, np.int64)
    touched = np.empty(num_columns, np.int32)
    sizes = np.zeros(last - first, np.int64)
    items = np.empty((last - first) * k, np.int32)
    likeness = np.empty((last - first) * k, np.float32)
    size = 0
    for item in range(first, last):
        num_touched = 0
        for place in range(item_offsets[item], item_offsets[item + 1]):
            user = item_users[place]
            for other_place in range(user_offsets[user], user_offsets[user + 1]):
                other = user_items[other_place]
                if together[other] == 0:
                    touched[num_touched] = other
                    num_touched += 1
                together[other] += 1
        mine = item_offsets[item + 1] - item_offsets[item]
        others = np.sort(touched[:num_touched])
        cosines = np.empty(num_touched, np.float64)
        for place, other in enumerate(others):
            theirs = item_offsets[other + 1] - item_offsets[other]
            cosines[place] = together[other] / np.sqrt(mine * theirs)
            together[other] = 0
        kept = 0
        # Stable, so that of equal ones the smaller item_idx comes first.
        for place in np.argsort(-cosines, kind="mergesort"):
            if others[place] == item:
                continue
            if kept == k:
                break
            items[size], likeness[size] = others[place], cosines[place]
            size += 1
            kept += 1
        sizes[item - first] = kept
    return sizes, items[:size].copy(), likeness[:size].copy()


@numba.njit(cache=True, nogil=True)
def _add_likeness(  # type: ignore[no-untyped-def]
    sessions, offsets, decay, item_offsets, items, likeness, scores
):
    mark = np.full(scores.shape[1], -1, np.int64)
    for session in range(len(offsets) - 1):
        weight = 1.0
        for place in range(offsets[session + 1] - 1, offsets[session] - 1, -1):
            item = sessions[place]
            if mark[item] == session:
                continue
            mark[item] = session
            for near in range(item_offsets[item], item_offsets[item + 1]):
                scores[session, items[near]] += np.float32(weight * likeness[near])
            weight *= decay
