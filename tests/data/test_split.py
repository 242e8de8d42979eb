"""Splits of histories, by hand and against a plain loop."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfgan.data.split import SplitRule, cut_times, leave_one_out, temporal
from mfgan.errors import MfganError

OFFSETS = np.array([0, 5, 7, 10])


def test_leave_one_out():
    split = leave_one_out(OFFSETS)
    assert split.train_end.tolist() == [3, 2, 1]
    assert split.validation.tolist() == [3, -1, 1]
    assert split.test.tolist() == [4, -1, 2]


def test_two_times_cut_histories():
    times = np.array([1, 2, 12, 13, 25, 3, 14, 11, 22, 23])
    split = temporal(times, OFFSETS, (10, 20))
    # Who has nothing before a time has no target after it.
    assert split.train_end.tolist() == [2, 1, 0]
    assert split.validation.tolist() == [2, 1, -1]
    assert split.test.tolist() == [4, -1, 1]


def test_time_that_falls_never_lets_training_look_ahead():
    split = temporal(np.array([1, 12, 2, 25, 3]), np.array([0, 5]), (10, 20))
    assert (split.train_end[0], split.validation[0], split.test[0]) == (1, 1, 3)


@given(st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=8), min_size=1, max_size=6))
def test_temporal_against_a_loop(histories):
    times = np.concatenate([sorted(history) for history in histories])
    offsets = np.concatenate([[0], np.cumsum([len(history) for history in histories])])
    try:
        split = temporal(times, offsets, (10, 20))
    except MfganError:
        return
    for user, history in enumerate(histories):
        late = [place for place, time in enumerate(sorted(history)) if time >= 10]
        later = [place for place, time in enumerate(sorted(history)) if time >= 20]
        train = len(history) - len(late)
        assert split.train_end[user] == train
        between = train > 0 and len(late) > len(later)
        assert split.validation[user] == (late[0] if between else -1)
        assert split.test[user] == (later[0] if later and later[0] > 0 else -1)


def test_quantiles_give_times_of_the_log():
    assert cut_times(np.arange(100)[::-1], (0.8, 0.9)) == (80, 90)
    assert cut_times(np.array([5, 5]), (0.4, 0.9)) == (5, 5)


def test_the_rule_says_which_times_it_used():
    times = np.arange(10)
    split, cuts = SplitRule("temporal", (0.4, 0.8)).apply(OFFSETS, times)
    assert cuts == (4, 8)
    assert split.train_end.sum() == 4
    assert SplitRule("temporal", times=(6, 9)).apply(OFFSETS, times)[1] == (6, 9)
    assert SplitRule().apply(OFFSETS, None)[1] is None


@pytest.mark.parametrize(
    ("rule", "times", "message"),
    [
        (("temporal",), None, "--split temporal must have timestamps"),
        (("temporal", (0.9, 0.8)), np.arange(10), "--quantiles must rise between 0 and 1"),
        (("temporal", (0.0, 0.8)), np.arange(10), "--quantiles must rise between 0 and 1"),
        (("temporal", (0.8, 0.9)), np.zeros(10, int), "--cut-times must rise, got 0 and 0"),
        (("temporal", (0.8, 0.9), (9, 8)), np.arange(10), "--cut-times must rise, got 9 and 8"),
        (("temporal", (0.8, 0.9), (-5, 5)), np.arange(10), "before the first time, found none"),
        (("temporal", (0.8, 0.9), (5, 50)), np.arange(10), "after the second time, found none"),
    ],
)
def test_what_cannot_be_split_is_refused(rule, times, message):
    with pytest.raises(MfganError, match=message):
        SplitRule(*rule).apply(OFFSETS, times)


def test_unknown_splits_are_refused():
    with pytest.raises(MfganError, match="--split must be one of leave-one-out, temporal, got 'x'"):
        SplitRule("x")
