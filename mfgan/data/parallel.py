"""Numba loops over parts of the rows, a thread each; no OpenMP, the same result on any count."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

_MOST_THREADS = 8  # the loops wait for memory; more threads than this gain nothing
_SMALL = 1 << 16  # rows below which a second thread costs more than it gives


def num_threads() -> int:
    """Threads that the data path uses: the processors this process may run on, at most eight."""
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), _MOST_THREADS)
    return min(os.cpu_count() or 1, _MOST_THREADS)


def together(jobs: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run jobs at once, a thread each.

    Returns:
        Their results, in order.
    """
    if len(jobs) == 1 or num_threads() == 1:
        return [job() for job in jobs]
    with ThreadPoolExecutor(len(jobs)) as pool:
        return [done.result() for done in [pool.submit(job) for job in jobs]]


def row_parts(rows: int) -> list[tuple[int, int]]:
    """``(first, end)`` of each thread's share of the rows."""
    parts = num_threads() if rows >= _SMALL else 1
    marks = [rows * part // parts for part in range(parts + 1)]
    return list(pairwise(marks))


def group_parts(offsets: np.ndarray) -> list[tuple[int, int]]:
    """``(first, end)`` groups of each thread, of about as many rows; ``offsets`` bounds groups."""
    marks = [end for _, end in row_parts(int(offsets[-1]))][:-1]
    cuts = [0, *np.searchsorted(offsets, marks).tolist(), len(offsets) - 1]
    return list(pairwise(cuts))


def over_parts(
    function: Callable[..., Any], parts: Sequence[tuple[int, int]], *arguments: Any
) -> list[Any]:
    """Run ``function(first, end, *arguments)`` on every part, a thread each.

    The parts must write to different places.

    Returns:
        The results, in the order of the parts.
    """
    return together([partial(function, first, end, *arguments) for first, end in parts])
