"""One pass over a block of scores: how many items beat the target, how many tie, and the best k.

Nothing is sorted and nothing is written into the scores. Items already seen are taken out by
correcting the counts, and by a mark that keeps them out of the best k.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mfgan.evaluation.scan import Excluded, Scan, scan_block

_CHUNK = 64  # items looked at between two looks at the best k
_LARGEST = np.finfo(np.float32).max


@numba.njit(cache=True, nogil=True)
def _count(line, goal, threshold):  # type: ignore[no-untyped-def]
    # Four sums of comparisons as wide as a score, over a fixed number of turns: so it vectorises.
    above, equal, finite, hits = np.int32(0), np.int32(0), np.int32(0), np.int32(0)
    for place in range(_CHUNK):
        score = line[place]
        above = np.int32(above + (score > goal))
        equal = np.int32(equal + (score == goal))
        finite = np.int32(finite + (abs(score) <= _LARGEST))
        hits = np.int32(hits + (score > threshold))
    return above, equal, finite, hits


@numba.njit(cache=True, nogil=True)
def _keep_best(line, start, stop, mark, stamp, top, top_scores):  # type: ignore[no-untyped-def]
    size = len(top)
    for column in range(start, stop):
        score = line[column]
        if not score > top_scores[size - 1] or mark[column] == stamp:
            continue
        place = size - 1
        while place > 0 and score > top_scores[place - 1]:
            top_scores[place] = top_scores[place - 1]
            top[place] = top[place - 1]
            place -= 1
        top_scores[place], top[place] = score, column


@numba.njit(cache=True, nogil=True)
def _scan_rows(  # type: ignore[no-untyped-def]
    scores, targets, items, starts, ends, first, last, better, ties, top, top_scores, bad
):
    num_columns = scores.shape[1]
    size = top.shape[1]
    mark = np.zeros(num_columns, np.int32)
    rest = np.empty(_CHUNK, np.float32)
    for row in range(first, last):
        line, target = scores[row], targets[row]
        goal = line[target]
        stamp = row - first + 1
        above, equal, finite = 0, -1 if target > 0 else 0, 0
        for place in range(starts[row], ends[row]):
            item = items[place]
            if mark[item] != stamp:
                mark[item] = stamp
                if item != target:  # which ranks all the same, though it is not recommended
                    above -= line[item] > goal
                    equal -= line[item] == goal
        threshold = np.float32(_LARGEST)
        for start in range(1, num_columns, _CHUNK):
            stop = min(start + _CHUNK, num_columns)
            part = line[start:stop]
            if stop - start < _CHUNK:
                rest[: stop - start] = part
                rest[stop - start :] = np.nan  # above, equal to and below nothing
                part = rest
            if size > 0:
                threshold = top_scores[row, size - 1]
            counts = _count(part, goal, threshold)
            above += counts[0]
            equal += counts[1]
            finite += counts[2]
            if counts[3] > 0 and size > 0:
                _keep_best(line, start, stop, mark, stamp, top[row], top_scores[row])
        better[row], ties[row], bad[row] = above, equal, finite < num_columns - 1


class Scanner:
    """Scans blocks of scores; one is made for a whole evaluation and closed after it.

    Args:
        k: How many of the best items to keep, 0 for none.
        threads: Threads to spread a block over on the CPU; the outcome does not depend on it.
    """

    def __init__(self, k: int, *, threads: int | None = None) -> None:
        self._k = k
        self._threads = torch.get_num_threads() if threads is None else threads
        self._pool = ThreadPoolExecutor(self._threads)

    def __enter__(self) -> "Scanner":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def __call__(self, scores: Tensor, targets: npt.NDArray[np.int64], excluded: Excluded) -> Scan:
        """Scan one block; arguments and outcome as of ``scan_block``."""
        if scores.is_cuda:
            return scan_block(scores, targets, excluded, self._k)
        rows, k = len(targets), self._k
        found = Scan(
            better=np.zeros(rows, np.int64),
            ties=np.zeros(rows, np.int64),
            top=np.zeros((rows, k), np.int32),
            top_scores=np.full((rows, k), -np.inf, np.float32),
            bad=np.zeros(rows, np.bool_),
        )
        matrix = scores.contiguous().numpy()

        def part(bounds: tuple[int, int]) -> None:
            _scan_rows(
                matrix,
                targets,
                excluded.items,
                excluded.starts,
                excluded.ends,
                *bounds,
                found.better,
                found.ties,
                found.top,
                found.top_scores,
                found.bad,
            )

        list(self._pool.map(part, _parts(rows, self._threads)))
        return found


def _parts(rows: int, count: int) -> Iterator[tuple[int, int]]:
    bounds = np.linspace(0, rows, min(count, max(rows, 1)) + 1).astype(np.int64)
    return zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
