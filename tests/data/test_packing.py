"""The Numba loops against their NumPy twins."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mfgan.data.packing import count_heads, count_up, cut_by_budget, gather_slices

lengths_of_sessions = st.lists(st.integers(0, 7), max_size=12)


def bounds(lengths):
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


@given(lengths_of_sessions, st.integers(0, 5))
def test_gather_and_count(lengths, gap):
    offsets = bounds(lengths)
    starts = np.array([gap + o for o in offsets[:-1]], np.int64)[::-1].copy()
    starts = np.minimum(starts, 40)
    source = np.arange(100, 200, dtype=np.int32)
    out = np.full(offsets[-1], -1)
    gather_slices(source, starts, offsets, out)
    slices = [source[s : s + n] for s, n in zip(starts, lengths, strict=True)]
    np.testing.assert_array_equal(out, np.concatenate([*slices, []]))
    positions = np.full(offsets[-1], -1)
    count_up(offsets, positions)
    np.testing.assert_array_equal(positions, np.concatenate([*map(np.arange, lengths), []]))


def cut_by_budget_twin(lengths, budget):
    cuts, tokens = [0], 0
    for place, length in enumerate(lengths):
        if place > cuts[-1] and tokens + length > budget:
            cuts.append(place)
            tokens = 0
        tokens += length
    return cuts + [len(lengths)] * (len(lengths) > 0)


@given(lengths_of_sessions, st.integers(1, 20))
def test_runs_keep_to_their_budget(lengths, budget):
    cuts = cut_by_budget(np.array(lengths, np.int64), budget)
    assert cuts.tolist() == cut_by_budget_twin(lengths, budget)
    for first, end in pairwise(cuts):
        assert end > first
        assert sum(lengths[first:end]) <= budget or end == first + 1


@given(lengths_of_sessions, st.data())
def test_counts_of_heads(lengths, data):
    offsets = bounds(lengths)
    items = np.array(data.draw(st.lists(st.integers(1, 4), min_size=sum(lengths))), np.int32)
    ends = np.array([data.draw(st.integers(0, n)) for n in lengths], np.int64)
    counts = np.zeros(5, np.int64)
    count_heads(items, offsets, ends, counts)
    heads = [items[o : o + e] for o, e in zip(offsets, ends, strict=False)]
    twin = np.bincount(np.concatenate([*heads, []]).astype(int), minlength=5)
    np.testing.assert_array_equal(counts, twin)
