"""Numba loops that cut and pack sessions out of the long arrays."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def gather_slices(source, starts, offsets, out):  # type: ignore[no-untyped-def]
    """Copy slices of one array end to end.

    Args:
        source: ``(n,)`` integers.
        starts: ``(num_slices,)`` int64, where each slice begins in ``source``.
        offsets: ``(num_slices + 1,)`` int64, where each slice goes in ``out``.
        out: ``(offsets[-1],)`` int64, written.
    """
    for s in range(starts.shape[0]):
        # Unsigned, so that no index may count from the end and the copy is one of vectors.
        begin, place = np.uint64(starts[s]), np.uint64(offsets[s])
        for i in range(np.uint64(offsets[s + 1] - offsets[s])):
            out[place + i] = source[begin + i]


@njit(cache=True, nogil=True)
def count_up(offsets, out):  # type: ignore[no-untyped-def]
    """Write 0, 1, 2, … into each slice of ``out``; ``offsets`` as in ``gather_slices``."""
    for s in range(offsets.shape[0] - 1):
        place = np.uint64(offsets[s])
        for i in range(np.uint64(offsets[s + 1] - offsets[s])):
            out[place + i] = i


@njit(cache=True, nogil=True)
def cut_by_budget(lengths, budget):  # type: ignore[no-untyped-def]
    """Bounds of runs of sessions whose tokens stay within a budget.

    Args:
        lengths: ``(num_sessions,)`` int64.
        budget: Most tokens a run may hold; a longer session stands alone.

    Returns:
        ``(num_runs + 1,)`` int64, from 0 to ``num_sessions``.
    """
    bounds = np.empty(lengths.shape[0] + 1, np.int64)
    bounds[0] = 0
    runs, tokens = 0, 0
    for s in range(lengths.shape[0]):
        if s > bounds[runs] and tokens + lengths[s] > budget:
            runs += 1
            bounds[runs] = s
            tokens = 0
        tokens += lengths[s]
    if lengths.shape[0] > 0:
        runs += 1
        bounds[runs] = lengths.shape[0]
    return bounds[: runs + 1].copy()


@njit(cache=True, nogil=True)
def count_heads(items, offsets, ends, counts):  # type: ignore[no-untyped-def]
    """Add up how often each item stands among the first ``ends[u]`` of each slice ``u``."""
    for u in range(ends.shape[0]):
        for place in range(offsets[u], offsets[u] + ends[u]):
            counts[items[place]] += 1


@njit(cache=True, nogil=True)
def first_late(times, offsets, time, places):  # type: ignore[no-untyped-def]
    """Write the place, within each slice of ``times``, of the first one at or after ``time``.

    ``places`` is left as it is where there is none.
    """
    for u in range(places.shape[0]):
        for row in range(offsets[u], offsets[u + 1]):
            if times[row] >= time:
                places[u] = row - offsets[u]
                break
