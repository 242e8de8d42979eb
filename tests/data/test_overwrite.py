"""What ``--overwrite`` replaces, and what it never does."""

import pytest

from mfgan.data.prepare import prepare
from mfgan.errors import MfganError


@pytest.fixture
def log(tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    rows = [f"{user},{item}" for user in "abcd" for item in "xyz"]
    (folder / "log.csv").write_text("\n".join(["user_id,item_id", *rows]))
    return folder / "log.csv"


def test_a_data_set_and_an_empty_folder_are_replaced(log, tmp_path):
    (tmp_path / "out").mkdir()
    for _ in range(2):
        assert prepare(log, tmp_path / "out", k_core=1, overwrite=True).num_users == 4


def test_nothing_else_is(log, tmp_path):
    other = tmp_path / "valuable"
    other.mkdir()
    (other / "thesis.txt").write_text("years")
    for out in (other, log.parent, log):
        with pytest.raises(MfganError, match="must be a data set or an empty folder"):
            prepare(log, out, k_core=1, overwrite=True)
    assert (other / "thesis.txt").read_text() == "years"
    assert log.read_text().startswith("user_id")


def test_a_data_set_that_holds_the_source_is_not(log, tmp_path):
    out = tmp_path / "out"
    prepare(log, out, k_core=1)
    inside = out / "log.csv"
    log.rename(inside)
    with pytest.raises(
        MfganError, match=r"must not hold .*log.csv, which --overwrite would delete"
    ):
        prepare(inside, out, k_core=1, overwrite=True)
    assert inside.exists()
