"""The single pass over scores against the tensor version and against sorting."""

import numpy as np
import pytest
import torch

from mfgan.evaluation.scan import Excluded, scan_block
from mfgan.evaluation.scanner import Scanner


def make(rows, columns, *, levels, seed=0, longest=30):
    """Scores with many ties, targets, and histories that repeat items and may hold the target."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, (rows, columns)).astype(np.float32) / 7 - 1
    targets = rng.integers(1, columns, rows)
    lengths = rng.integers(0, longest, rows)
    ends = np.cumsum(lengths)
    items = rng.integers(1, columns, int(lengths.sum())).astype(np.int32)
    return torch.from_numpy(scores), targets, Excluded(items, ends - lengths, ends)


def by_sorting(scores, targets, excluded, k):
    rows = []
    for row, target in enumerate(targets):
        seen = set(excluded.items[excluded.starts[row] : excluded.ends[row]].tolist())
        left = [i for i in range(1, scores.shape[1]) if i not in seen]
        line = scores[row].tolist()
        better = sum(line[i] > line[target] for i in left)
        ties = sum(line[i] == line[target] for i in left if i != target)
        best = sorted(left, key=lambda i: (-line[i], i))[:k]
        rows.append((better, ties, best + [0] * (k - len(best))))
    return rows


CASES = [(5, 2, 3), (7, 30, 2), (9, 64, 5), (4, 65, 1), (6, 66, 1000), (11, 500, 40)]


@pytest.mark.parametrize(("rows", "columns", "levels"), CASES)
@pytest.mark.parametrize("k", [0, 1, 20])
def test_equals_sorting(rows, columns, levels, k):
    scores, targets, excluded = make(rows, columns, levels=levels)
    expected = by_sorting(scores, targets, excluded, k)
    with Scanner(k, threads=2) as scanner:
        found = [scanner(scores, targets, excluded)]
    found.append(scan_block(scores, targets, excluded, k))
    for scan in found:
        assert not scan.bad.any()
        for row, (better, ties, best) in enumerate(expected):
            assert (scan.better[row], scan.ties[row]) == (better, ties)
            assert scan.top[row].tolist() == best
            for item, score in zip(best, scan.top_scores[row], strict=True):
                assert score == (scores[row, item] if item else -np.inf)


def test_threads_change_nothing():
    scores, targets, excluded = make(37, 900, levels=9)
    outcomes = []
    for threads in (1, 2, 5, 64):
        with Scanner(10, threads=threads) as scanner:
            outcomes.append(scanner(scores, targets, excluded))
    for other in outcomes[1:]:
        for name in ("better", "ties", "top", "top_scores", "bad"):
            np.testing.assert_array_equal(getattr(outcomes[0], name), getattr(other, name))


def test_scores_are_left_as_they_were():
    scores, targets, excluded = make(8, 40, levels=4)
    before = scores.clone()
    with Scanner(5, threads=1) as scanner:
        scanner(scores, targets, excluded)
    assert torch.equal(scores, before)


def test_one_line_for_all_users_need_not_be_copied_by_the_scorer():
    scores, targets, excluded = make(8, 40, levels=4)
    shared = scores[:1].expand(8, -1)
    with Scanner(5, threads=1) as scanner:
        found = scanner(shared, targets, excluded)
    expected = scan_block(shared.clone(), targets, excluded, 5)
    np.testing.assert_array_equal(found.better, expected.better)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("column", [1, 33, 39])
def test_scores_that_are_no_numbers_are_found(value, column):
    scores, targets, excluded = make(8, 40, levels=4)
    scores[3, column] = value
    scores[5, 0] = value  # the reserved item: nobody looks at it
    with Scanner(5, threads=1) as scanner:
        found = scanner(scores, targets, excluded)
    assert found.bad.tolist() == [row == 3 for row in range(8)]
    assert scan_block(scores, targets, excluded, 5).bad.tolist() == found.bad.tolist()


def test_no_users():
    nothing = Excluded(*(np.zeros(0, kind) for kind in (np.int32, np.int64, np.int64)))
    with Scanner(5, threads=2) as scanner:
        found = scanner(torch.zeros(0, 9), np.zeros(0, np.int64), nothing)
    assert found.top.shape == (0, 5)
