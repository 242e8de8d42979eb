"""A file whose name has a pattern's marks is read as itself."""

import polars as pl
import pytest

from mfgan.data.prepare import prepare


def _write(path, user):
    frame = pl.DataFrame({"user_id": [user] * 3, "item_id": ["x", "y", "z"]})
    kinds = {".csv": "write_csv", ".ndjson": "write_ndjson", ".parquet": "write_parquet"}
    getattr(frame, kinds[path.suffix])(path)


@pytest.mark.parametrize("suffix", [".csv", ".ndjson", ".parquet"])
def test_the_file_of_that_name_is_read(tmp_path, suffix):
    _write(tmp_path / f"log1{suffix}", "wrong")
    _write(tmp_path / f"log[1]{suffix}", "right")
    dataset = prepare(tmp_path / f"log[1]{suffix}", tmp_path / "out", k_core=1)
    assert list(dataset.user_ids) == ["right"]


def test_a_pattern_names_many_parquet_files(tmp_path):
    for user in ("a", "b"):
        _write(tmp_path / f"{user}.parquet", user)
    dataset = prepare(tmp_path / "*.parquet", tmp_path / "out", k_core=1)
    assert list(dataset.user_ids) == ["a", "b"]
