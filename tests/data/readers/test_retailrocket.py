"""RetailRocket: events with properties and categories, and the sample."""

import gzip

import pytest
from realdata import real_data

from mfgan.data.readers import read_log
from mfgan.errors import MfganError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "events.csv").write_text(
        "timestamp,visitorid,event,itemid,transactionid\n"
        "1433221332117,257597,view,355908,\n1433224214164,992329,transaction,248676,9\n"
    )
    (tmp_path / "item_properties_part1.csv").write_text(
        "timestamp,itemid,property,value\n"
        "1435460400000,355908,categoryid,1338\n1434250800000,355908,888,1116713 n12.000\n"
        "1431226800000,355908,categoryid,16\n"
    )
    (tmp_path / "item_properties_part2.csv.gz").write_bytes(
        gzip.compress(
            b"timestamp,itemid,property,value\n1431226800000,355908,available,1\n"
            b"1431226800000,7,available,0\n1431226800000,8,categoryid,555\n"
        )
    )
    (tmp_path / "category_tree.csv").write_text("categoryid,parentid\n16,213\n213,5\n5,\n1338,5\n")
    return tmp_path


def test_events_with_properties_and_categories(folder):
    log = read_log(str(folder), format="retailrocket")
    assert log.interactions.collect().to_dict(as_series=False) == {
        "user_id": [257597, 992329],
        "item_id": [355908, 248676],
        "timestamp": [1433221332117, 1433224214164],
        "event": ["view", "transaction"],
    }
    # The first value on record counts, 16 and not the later 1338.
    assert sorted(log.items.collect().rows(), key=lambda row: row[0]) == [
        (7, None, "0", None),
        (8, "555", None, None),
        (355908, "16", "1", "5"),
    ]
    assert log.items.collect().columns == ["item_id", "category", "available", "root_category"]
    assert {rule.kind for rule in log.attributes.values()} == {"categorical"}
    assert [source.path for source in log.sources] == [
        "events.csv",
        "item_properties_part1.csv",
        "item_properties_part2.csv.gz",
        "category_tree.csv",
    ]


def test_events_alone(folder):
    for path in folder.glob("item_properties*"):
        path.unlink()
    assert read_log(str(folder), format="retailrocket").items is None


def test_circle_of_categories(folder):
    (folder / "category_tree.csv").write_text("categoryid,parentid\n16,213\n213,16\n")
    with pytest.raises(MfganError, match="must be a tree, got categories that go in a circle"):
        read_log(str(folder), format="retailrocket")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "events.csv",
            "timestamp,visitorid,event,item\n",
            r"must have a column 'itemid', .* mean 'item'",
        ),
        (
            "category_tree.csv",
            "category,parentid\n1,2\n",
            "must have a column 'categoryid', got category",
        ),
        ("item_properties_part1.csv", "itemid,property\n", "must have a column 'timestamp'"),
        (
            "item_properties_part1.csv",
            "",
            "item_properties_part1.csv must be item properties, got: ",
        ),
    ],
)
def test_bad_input(folder, name, content, message):
    (folder / name).write_text(content)
    with pytest.raises(MfganError, match=message):
        read_log(str(folder), format="retailrocket")


def test_sample_has_tabs_and_seconds():
    log = read_log(str(real_data("retailrocket")), format="retailrocket")
    frame = log.interactions.collect()
    assert frame.height == 10_080
    assert frame.row(0) == (0, 285930, 1442004589000)


def test_real_tree_has_a_root_for_every_category(tmp_path):
    tree = real_data("retailrocket/category_tree.csv").read_text()
    (tmp_path / "category_tree.csv").write_text(tree)
    (tmp_path / "events.csv").write_text("timestamp,visitorid,event,itemid\n1,1,view,1\n")
    categories = [line.split(",")[0] for line in tree.splitlines()[1:]]
    rows = [f"1,{item},categoryid,{category}" for item, category in enumerate(categories, 1)]
    properties = tmp_path / "item_properties_part1.csv"
    properties.write_text("\n".join(["timestamp,itemid,property,value", *rows]))
    items = read_log(str(tmp_path), format="retailrocket").items.collect()
    assert items["root_category"].null_count() == 0
    assert items["root_category"].n_unique() == sum(
        line.endswith(",") for line in tree.splitlines()
    )
