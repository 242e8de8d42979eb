import json

import numpy as np
import polars as pl
import pytest
from made_displays import lines_of, made_events, make, write_authors
from realdata import real_data

from mfgan.data.displays import DisplayDataset, prepare_displays
from mfgan.errors import MfganError


def test_order_and_number_of_rows_in_the_source_do_not_matter(tmp_path):
    rows = lines_of(made_events())
    rng = np.random.default_rng(0)
    one = write_authors(tmp_path / "one.txt", rows)
    other = write_authors(
        tmp_path / "two.txt", [*rng.permutation(rows).tolist(), *rows[:40], *rows[:7]]
    )
    found = [
        prepare_displays(source, tmp_path / source.stem, format="displays-authors")
        for source in (one, other)
    ]
    assert found[0].fingerprint == found[1].fingerprint


def test_users_are_split_by_tag_or_by_seed(tmp_path):
    source = write_authors(tmp_path / "log.txt", lines_of(made_events()))
    tagged = prepare_displays(source, tmp_path / "a", format="displays-authors")
    assert tagged.users("validation").tolist() == list(range(1, 30, 3))
    again = [
        prepare_displays(source, tmp_path / f"s{n}", format="displays-authors", resplit=seed)
        for n, seed in enumerate((4, 4, 5))
    ]
    assert np.array_equal(again[0].parts, again[1].parts)
    assert not np.array_equal(again[0].parts, again[2].parts)
    assert np.bincount(again[0].parts).tolist() == np.bincount(tagged.parts).tolist()


def test_the_manifest_tells_all_and_no_path(tmp_path):
    data = make(tmp_path)
    text = (tmp_path / "prepared" / "manifest.json").read_text()
    assert str(tmp_path) not in text
    manifest = json.loads(text)
    assert manifest["sources"][0]["path"] == "log.txt"
    assert len(manifest["sources"][0]["sha256"]) == 64
    assert manifest["num_events"] == data.num_events
    with pytest.raises(MfganError, match="must not exist yet"):
        prepare_displays(tmp_path / "log.txt", tmp_path / "prepared", format="displays-authors")


def test_damage_is_noticed(tmp_path):
    data = make(tmp_path)
    path = data.path / "displays" / "clicks.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[:-8])
    with pytest.raises(MfganError, match=r"clicks.npy: must be a whole .npy array"):
        DisplayDataset.open(data.path)
    clicks = data.clicks.copy()
    clicks[0] = 99
    np.save(path, clicks)
    with pytest.raises(MfganError, match="clicks must lie within their displays"):
        DisplayDataset.open(data.path)
    manifest = data.path / "manifest.json"
    manifest.write_text(json.dumps(data.manifest | {"num_rows": None}))
    with pytest.raises(MfganError, match="num_rows of the manifest must be 1 or more, got None"):
        DisplayDataset.open(data.path)


def test_a_feature_table_becomes_a_dense_factor(tmp_path):
    source = write_authors(tmp_path / "log.txt", lines_of(made_events()))
    table = tmp_path / "features.csv"
    pl.DataFrame({"item_id": [3, 0, 3], "a": [1.0, 3.0, 9.0]}).write_csv(table)
    data = prepare_displays(source, tmp_path / "out", format="displays-authors", features=table)
    values = data.factor("features").values[:, 0]
    assert values[data.item_ids.find("3")] > values[data.item_ids.find("5")]
    assert values[0] == 0
    with pytest.raises(MfganError, match=r"has no factor .feature.,.*did you mean .features."):
        data.factor("feature")


@pytest.mark.parametrize(
    ("name", "users", "items", "events", "size"),
    [("yelp", (703, 351, 352), 804, 1725, 3.87), ("rsc", (541, 270, 271), 890, 2063, 3.21)],
)
def test_the_authors_data(tmp_path, name, users, items, events, size):
    source = real_data(f"user-model/{name}.txt")
    data = prepare_displays(source, tmp_path / name, format="displays-authors")
    assert tuple(len(data.users(part)) for part in ("train", "validation", "test")) == users
    assert (data.num_items, data.num_events) == (items, events)
    assert round(len(data.items) / events, 2) == size
    assert (data.clicks >= 0).all()
