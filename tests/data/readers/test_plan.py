"""A log read by plan is the log read in full; what the plan cannot know is read in full."""

import datetime as dt

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mfgan.data.readers import consume, read_log
from mfgan.data.readers import plan as module
from mfgan.errors import MfganError


def strict(interactions: pl.LazyFrame) -> pl.DataFrame:
    """As ``prepare`` takes a log: a null where none may be is an error."""
    frame = interactions.collect()
    needed = ["user_id", "item_id", *({"timestamp"} & set(frame.columns) - {"order"})]
    if "order" in frame.columns:
        needed.remove("timestamp") if "timestamp" in needed else None
    if any(frame[name].null_count() for name in needed):
        raise MfganError("a null")
    return frame


_cells = {
    "user_id": ["1", "2", "007", " b", "x y ", " 9999999999"],
    "item_id": ["3", " -4", "nan", "", " z", " "],
    "timestamp": ["5", "1600000000", "1600000000000", "2020-01-01", "2020-01-01 10:00", "soon", ""],
}


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data(), st.sampled_from(["csv", "parquet"]), st.integers(1, 4), st.integers(0, 3))
def test_plan_equals_full_reading(tmp_path, monkeypatch, data, kind, sample, limit):
    monkeypatch.setattr(module, "SAMPLE_ROWS", sample)
    # Few kinds of cells a column, or nothing would ever be sound.
    kinds = {
        name: data.draw(st.lists(st.sampled_from(of), min_size=1, max_size=2))
        for name, of in _cells.items()
    }
    rows = data.draw(st.integers(1, 6))
    frame = pl.DataFrame(
        {name: [data.draw(st.sampled_from(of)) for _ in range(rows)] for name, of in kinds.items()}
    )
    path = tmp_path / f"log.{kind}"
    frame.write_parquet(path) if kind == "parquet" else frame.write_csv(path)
    options = {"format": "table", "max_bad_lines": limit}

    def outcome(lazy: bool) -> tuple[object, ...]:
        try:
            log, found = consume(read_log(str(path), **options, lazy=lazy), strict)
        except MfganError as error:
            return (str(error),)
        assert log.sources[0].rows in (None, found.height)
        return found.rows(), found.schema, log.sources[0].bad_lines

    assert outcome(lazy=True) == outcome(lazy=False)


@pytest.mark.parametrize(
    ("columns", "planned"),
    [
        ({"user_id": [1, 2], "item_id": ["a", "b"]}, True),
        ({"user_id": [1, 2], "item_id": [1, 2], "timestamp": [dt.datetime(2020, 1, 1)] * 2}, True),
        ({"user_id": [1, 2], "item_id": [1, 2], "timestamp": [dt.date(2020, 1, 1)] * 2}, True),
        ({"user_id": [1, 2], "item_id": [1, 2], "timestamp": ["2020-01-01T10:00:00Z"] * 2}, True),
        ({"user_id": [1, 2], "item_id": [1, 2], "timestamp": [10**18, 10**18 + 10**6]}, True),
        ({"user_id": [1, 2], "item_id": [1, 2], "order": [2, 1], "rating": [1.0, None]}, True),
        (
            {"user_id": [1, 2], "item_id": [1, 2], "order": [2.5, 1.0], "event": ["view", None]},
            True,
        ),
        ({"user_id": [1.0, 2.0], "item_id": [1, 2]}, False),
        ({"user_id": [1, 2], "item_id": [1, 2], "timestamp": [1.5, 2.5]}, False),
        ({"user_id": [1, 2], "item_id": [1, 2], "timestamp": [1, 2], "order": [1, 2]}, False),
        ({"user_id": [1, 2], "item_id": [1, 2], "order": ["1", "2"]}, False),
        ({"user_id": [2**63, 1], "item_id": [1, 2]}, False),
    ],
)
def test_what_is_planned(tmp_path, columns, planned):
    path = tmp_path / "log.parquet"
    pl.DataFrame(columns).write_parquet(path)
    log = read_log(str(path), format="table", lazy=True)
    assert (log.reread is not None) == planned
    eager = read_log(str(path), format="table")
    assert eager.reread is None
    assert log.interactions.collect().equals(eager.interactions.collect())


def test_a_type_that_only_later_rows_tell(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SAMPLE_ROWS", 2)
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id,timestamp\n1,1,10\n2,1,20\nb,1,200000000000\n")
    log, frame = consume(read_log(str(path), format="table", lazy=True), strict)
    assert frame.rows() == [("1", 1, 10), ("2", 1, 20), ("b", 1, 200000000000)]
    assert log.sources[0].rows == 3


def test_failure_of_the_work_itself_is_shown(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id\n1,1\n")

    def fail(_):
        raise MfganError("the disk is full")

    with pytest.raises(MfganError, match="the disk is full"):
        consume(read_log(str(path), format="table", lazy=True), fail)


def test_items_are_joined_to_a_plan(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SAMPLE_ROWS", 1)
    monkeypatch.setattr("mfgan.data.readers.items.SAMPLE_ROWS", 1)
    path, items = tmp_path / "log.csv", tmp_path / "items.csv"
    path.write_text("user_id,item_id\n1,1\n1,2\n")
    items.write_text("item_id,brand\n2,x\nB,x\n")
    log = read_log(str(path), format="table", items=str(items), lazy=True)
    assert log.reread is not None
    assert log.interactions.collect()["item_id"].to_list() == ["1", "2"]
    items.write_text("item_id,brand\n3,x\n4,x\n")
    with pytest.raises(
        MfganError, match="none in common; ids of the log are like 1, 2, of the table"
    ):
        read_log(str(path), format="table", items=str(items), lazy=True)
