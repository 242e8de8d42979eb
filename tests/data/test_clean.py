"""Cleaning against plain Polars, option by option."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfgan.data.clean import CleaningRules, clean
from mfgan.data.ingest import code_log, order_keys
from mfgan.errors import MfganError


def twin(frame, rules):
    """``{user: [(item, time), …]}`` of what stays."""
    key = next((name for name in ("order", "timestamp") if name in frame.columns), None)
    if key is not None:
        frame = frame.sort(key, maintain_order=True, nulls_last=False)
    if rules.duplicates == "once" or (rules.duplicates == "drop" and key is not None):
        columns = ["user_id", "item_id", *([key] if rules.duplicates == "drop" else [])]
        frame = frame.unique(columns, keep="first", maintain_order=True)
    least = rules.k_core
    for _ in range(2):
        rows = -1
        while rows != frame.height:
            rows = frame.height
            frame = frame.filter(pl.len().over("user_id") >= least)
            frame = frame.filter(pl.len().over("item_id") >= rules.k_core)
        if rules.short_histories == "drop":
            least = max(least, 3)
    histories = {}
    for user, item, *time in frame.select(
        "user_id", "item_id", *(["timestamp"] if "timestamp" in frame.columns else [])
    ).iter_rows():
        histories.setdefault(user, []).append((item, *time))
    return {user: rows[-(rules.max_len or len(rows)) :] for user, rows in histories.items()}


def found(histories):
    times = histories.timestamps
    result = {}
    for user, name in enumerate(histories.user_ids):
        rows = range(histories.offsets[user], histories.offsets[user + 1])
        result[name] = [
            (
                histories.item_ids[int(histories.items[row]) - 1],
                *([] if times is None else [times[row]]),
            )
            for row in rows
        ]
    return result


def check(frame, rules):
    expected = twin(frame, rules)
    left = {item for rows in expected.values() for item, *_ in rows}
    if len(left) < 2:
        with pytest.raises(MfganError):
            clean(code_log(frame.lazy()), rules)
        return None
    histories = clean(code_log(frame.lazy()), rules)
    assert found(histories) == expected
    assert histories.item_ids.to_list() == sorted(left)
    assert histories.user_ids.to_list() == sorted(expected)
    assert all(
        a["interactions"] - b["interactions"] == b["dropped"]
        for a, b in zip(histories.steps[:-1], histories.steps[1:], strict=True)
    )
    assert histories.steps[-1]["interactions"] == len(histories.items)
    assert histories.steps[-1]["items"] == len(left)
    return histories


rows = st.lists(
    st.tuples(st.sampled_from("abcde"), st.integers(0, 6), st.integers(0, 4), st.integers(-3, 3)),
    min_size=1,
    max_size=60,
)
rules = st.builds(
    CleaningRules,
    k_core=st.integers(1, 3),
    duplicates=st.sampled_from(["keep", "drop", "once"]),
    short_histories=st.sampled_from(["train", "drop"]),
    needs_three=st.just(True),
    max_len=st.sampled_from([None, 3, 5]),
)


@given(rows, rules, st.sampled_from([["timestamp"], ["order"], ["timestamp", "order"], []]))
def test_small_logs(rows, rules, times):
    names = ["user_id", "item_id", "timestamp", "order"]
    check(pl.DataFrame(rows, schema=names, orient="row").select(names[:2] + times), rules)


def test_the_steps_say_what_and_why():
    frame = pl.DataFrame(
        {
            "user_id": [7, 7, 7, 7, 9, 9, 9, 3],
            "item_id": ["x", "y", "y", "z", "x", "y", "w", "x"],
            "timestamp": [4, 3, 3, 1, 1, 2, 3, 5],
        }
    )
    histories = check(frame, CleaningRules(2, "drop", "train", True, 3))
    assert [list(step.values()) for step in histories.steps] == [
        ["read", 3, 4, 8, 0, "nothing"],
        ["duplicates", 3, 4, 7, 1, "same user, item and time as an earlier row"],
        ["2-core", 2, 2, 4, 3, "user or item with fewer than 2"],
        ["max-len", 2, 2, 4, 0, "earlier than a user's last 3"],
    ]


def test_equal_times_keep_the_order_of_the_log():
    frame = pl.DataFrame({"user_id": [1] * 40, "item_id": np.arange(40) * 7 % 40})
    frame = frame.with_columns(pl.lit(5).alias("timestamp"))
    histories = clean(code_log(frame.lazy()), CleaningRules(1))
    assert (histories.items - 1).tolist() == frame["item_id"].to_list()


def test_rows_without_an_order_come_first_and_times_with_gaps_are_not_kept():
    frame = pl.DataFrame(
        {
            "user_id": [1, 1, 1, 1],
            "item_id": [4, 3, 2, 1],
            "order": [2.5, None, -1.0, 0.0],
            "timestamp": [1, 2, None, 4],
        }
    )
    histories = clean(code_log(frame.lazy()), CleaningRules(1))
    assert histories.items.tolist() == [3, 2, 1, 4]
    assert histories.timestamps is None


@given(st.lists(st.floats(allow_nan=False), max_size=20))
def test_keys_of_floats_sort_as_they_do(values):
    keys = order_keys(pl.Series(values, dtype=pl.Float64))
    assert np.argsort(keys, kind="stable").tolist() == np.argsort(values, kind="stable").tolist()


SHORT = pl.DataFrame({"user_id": [1, 1, 1, 2, 2], "item_id": [1, 2, 3, 1, 2]})


def test_short_histories():
    assert check(SHORT, CleaningRules(1, short_histories="train")).user_ids.to_list() == [1, 2]
    assert check(SHORT, CleaningRules(1, short_histories="drop")).user_ids.to_list() == [1]
    assert clean(code_log(SHORT.lazy()), CleaningRules(1, needs_three=False)).user_ids.len() == 2


@pytest.mark.parametrize(
    ("frame", "rules", "message"),
    [
        (
            SHORT,
            {"k_core": 1},
            "every user must have at least 3 interactions, got 1 users with fewer",
        ),
        (SHORT, {"k_core": 3}, "--k-core 3 must leave interactions, got none of 5"),
        (SHORT.filter(item_id=1), {"k_core": 1, "short_histories": "drop"}, "found none"),
        (SHORT.filter(item_id=1), {"k_core": 1, "short_histories": "train"}, "2 items, got 1"),
        (SHORT.clear(), {}, "the log must hold interactions, found none"),
        (SHORT.cast(pl.Float64), {}, "user_id must be integers or strings, got Float64"),
        (SHORT.with_columns(item_id=None), {}, "item_id must be integers or strings, got Null"),
        (
            SHORT.with_columns(pl.col("item_id").replace(3, None)),
            {},
            "item_id must not be null, got 1",
        ),
        (
            SHORT.with_columns(pl.Series("timestamp", [1, None, 2, 3, 4])),
            {},
            "timestamp must not be null, got 1",
        ),
    ],
)
def test_what_cannot_be_cleaned_is_refused(frame, rules, message):
    with pytest.raises(MfganError, match=message):
        clean(code_log(frame.lazy()), CleaningRules(**rules))


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"k_core": 0}, "--k-core must be at least 1, got 0"),
        ({"duplicates": "all"}, "--duplicates must be one of drop, once, keep, got 'all'"),
        ({"short_histories": "x"}, "--short-histories must be one of error, train, drop"),
        ({"max_len": 2}, "--max-len must be at least 3 under this split, got 2"),
        ({"max_len": 0, "needs_three": False}, "--max-len must be at least 1"),
    ],
)
def test_rules_that_make_no_sense_are_refused(rules, message):
    with pytest.raises(MfganError, match=message):
        CleaningRules(**rules)
