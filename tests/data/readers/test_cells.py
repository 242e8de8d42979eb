"""Ids and times, whatever they come as."""

import datetime as dt

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfgan.data.readers.cells import ids, timestamps

UTC = dt.timezone.utc
MOMENT = dt.datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)
MS = int(MOMENT.timestamp() * 1000)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2], [1, 2]),
        ([1.0, 2.0], [1, 2]),
        (["1", "-2"], [1, -2]),
        (["01", "2"], ["01", "2"]),
        ([" 5", "5", "6 "], [5, 5, 6]),
        ([" a", "a", " a b ", "  "], ["a", "a", "a b", None]),
        (["+1"], ["+1"]),
        (["1", "x"], ["1", "x"]),
        (["", "nan", "NaN", None, "None", "null", "a"], [None] * 6 + ["a"]),
        ([1.5, float("nan"), float("inf"), 2.0], [None, None, None, 2]),
        ([2**63], [2**63]),
        ([[1]], [None]),
        ([True], [None]),
        ([], []),
    ],
)
def test_ids(values, expected):
    assert ids(pl.Series("user_id", values)).to_list() == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([MS // 1000], [MS]),
        ([MS], [MS]),
        ([MS * 1000 + 999], [MS]),
        ([MS * 10**6 + 999_999], [MS]),
        ([99_999_999_999], [99_999_999_999_000]),
        ([100_000_000_000], [100_000_000_000]),
        ([1, MS], [1, MS]),
        ([0, -5], [0, -5000]),
        ([1.25, float("nan"), float("inf")], [1250, None, None]),
        (["12", " 13 ", "x", None], [12000, 13000, None, None]),
        (["1.5", "2"], [1500, 2000]),
        (["2020-01-02"], [MS - (3 * 3600 + 4 * 60 + 5) * 1000]),
        (["2020-01-02T03:04:05", "2020-01-02 03:04:05.000", "2020-01-02 03:04:05 UTC"], [MS] * 3),
        (
            ["2020-01-02T03:04:05Z", "2020-01-02T05:04:05+02:00", "2020-01-02 05:04:05+0200"],
            [MS] * 3,
        ),
        (["2020-01-02 03:04", "2020-01-02"], [MS - 5000, MS - 11045000]),
        (["2020-02-30", "2nd of May", "", "2020-01-02T03:04:05Z"], [None, None, None, MS]),
        ([dt.date(1970, 1, 2)], [86_400_000]),
        ([dt.datetime(1970, 1, 2)], [86_400_000]),
        ([MOMENT.astimezone(dt.timezone(dt.timedelta(hours=5)))], [MS]),
        ([True], [None]),
        ([None], [None]),
        ([], []),
    ],
)
def test_timestamps(values, expected):
    found = timestamps(pl.Series("timestamp", values))
    assert found.dtype == pl.Int64
    assert found.to_list() == expected


@given(st.lists(st.datetimes(dt.datetime(1971, 1, 1), dt.datetime(2100, 1, 1)), min_size=1))
def test_iso_text_is_the_time_it_says(moments):
    moments = [moment.replace(microsecond=moment.microsecond // 1000 * 1000) for moment in moments]
    expected = [
        round((moment - dt.datetime(1970, 1, 1)) / dt.timedelta(milliseconds=1))
        for moment in moments
    ]
    for separator in "T ":
        texts = [moment.isoformat(separator) for moment in moments]
        assert timestamps(pl.Series("timestamp", texts)).to_list() == expected
