"""Rows of results: a later run adds to a day's file."""

import json

import pytest

from bench.results import Results


def read(path):
    return {row["name"]: row for row in json.loads(path.read_text())["rows"]}


def test_a_partial_run_replaces_its_own_rows_alone(tmp_path):
    path = tmp_path / "cpu.json"
    first = Results(path, {"threads": 2})
    first.add({"name": "slow", "ratio": 3.0})
    first.add({"name": "quick", "ratio": 5.0})
    again = Results(path, {"threads": 1})
    again.add({"name": "quick", "ratio": 6.0})
    assert read(path) == {
        "slow": {"name": "slow", "ratio": 3.0, "machine": {"threads": 2}},
        "quick": {"name": "quick", "ratio": 6.0, "machine": {"threads": 1}},
    }
    assert again.added == 1


def test_each_row_is_on_disk_when_it_is_added(tmp_path):
    path = tmp_path / "results" / "cpu.json"
    results = Results(path, {})
    assert not path.exists()
    results.add({"name": "one"})
    assert list(read(path)) == ["one"]


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "cpu.json"
    results = Results(path, {})
    results.add({"name": "one"})
    with pytest.raises(TypeError):
        results.add({"name": "two", "ratio": object()})
    assert list(read(path)) == ["one"]
    assert [found.name for found in tmp_path.iterdir()] == ["cpu.json"]
