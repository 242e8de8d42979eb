"""What preparing costs as a log grows, on logs of a few thousand rows."""

import json

import pytest

from bench import scale


def test_sizes_are_measured_once_and_leave_nothing_behind(tmp_path, capsys):
    results, out = tmp_path / "scale.json", tmp_path / "logs"
    options = ["--out", str(out), "--results", str(results)]
    assert scale.main(["--rows", "2e4", *options]) == 0
    row = json.loads(results.read_text())["rows"][0]
    assert (row["name"], row["rows"]) == ("prepare-20000", 20_000)
    assert 0 < row["interactions"] <= 20_000
    assert row["nanoseconds_a_row"] == pytest.approx(row["seconds"] / 20_000 * 1e9)
    # More than Python with Polars needs, less than any log of that size could.
    assert 50e6 < row["peak_bytes"] < 2e9
    assert [left.name for left in out.iterdir()] == []
    capsys.readouterr()
    assert scale.main(["--rows", "2e4,3e4", *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"20,000 rows: in {results} already"
    assert lines[1].startswith("SCALE 30,000 rows: ")
    assert lines[2].startswith("cost a row: most ")
    assert [row["rows"] for row in json.loads(results.read_text())["rows"]] == [20_000, 30_000]


def test_a_size_that_fails_has_no_row(tmp_path):
    out = tmp_path / "logs"
    out.mkdir()
    (out / "log-10.parquet").write_text("no table")
    results = tmp_path / "scale.json"
    with pytest.raises(SystemExit, match="must end with 0, got 1"):
        scale.main(["--rows", "10", "--out", str(out), "--results", str(results)])
    assert not results.exists()
