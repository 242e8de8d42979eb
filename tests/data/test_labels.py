"""Ids are found as they were read."""

import polars as pl
import pytest

from mfgan.data.labels import ExternalIds


@pytest.mark.parametrize("values", [[-3, 7, 10], [0, 7, 2**63, 2**64 - 1]], ids=["Int64", "UInt64"])
def test_whole_numbers_are_found_by_their_own_name_alone(values):
    dtype = pl.Int64 if values[0] < 0 else pl.UInt64
    ids = ExternalIds(pl.Series(values, dtype=dtype), 1)
    assert [ids.find(str(value)) for value in values] == list(range(1, len(values) + 1))
    for other in ("007", "+7", "1_0", " 7", "\uff17", "7.0", "8", "-4", str(2**64), "9" * 5000, ""):
        assert ids.find(other) is None


def test_texts_are_found_as_they_are():
    ids = ExternalIds(pl.Series(["007", "7", "x"]), 1)
    assert [ids.find(name) for name in ("007", "7", "x", "8")] == [1, 2, 3, None]
    assert ExternalIds(pl.Series([], dtype=pl.String), 1).find("x") is None
