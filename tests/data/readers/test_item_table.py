"""The table of ``--items``: kinds of factors by stated rules, and the join with other tables."""

import datetime as dt

import numpy as np
import polars as pl
import pytest

from mfgan.data.factor_rules import build_factor, build_factors
from mfgan.data.readers import AttributeRule, read_log
from mfgan.errors import MfganError


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user_id,sku\n1,1\n1,2\n1,3\n")
    return path


def read(log, items, **options):
    return read_log(
        str(log), format="table", items=str(items), columns={"item_id": "sku"}, **options
    )


def test_kinds_by_type(log, tmp_path):
    count = 300
    table = pl.DataFrame(
        {
            "sku": range(1, count + 1),
            "title": [f"T{i}" for i in range(count)],
            "brand": ["a", "", None] * (count // 3),
            "slug": [f"name-{i}" for i in range(count)],
            "shelf": ["x|y", "y", None] * (count // 3),
            "colours": [["red"], [], ["red", "blue"]] * (count // 3),
            "codes": [[1, 2], None, [3]] * (count // 3),
            "vector": [[0.0, 1.0]] * count,
            "few": [1, 2, None] * (count // 3),
            "many": range(count),
            "price": [float(i) for i in range(count)],
            "kept": [True, False, None] * (count // 3),
            "day": [dt.date(2020 + i % 2, 1, 1) for i in range(count)],
        }
    )
    path = tmp_path / "items.parquet"
    table.write_parquet(path)
    found = read(log, path)
    items = found.items.collect()
    assert {name: rule.kind for name, rule in found.attributes.items()} == {
        "brand": "categorical",
        "shelf": "multi",
        "colours": "multi",
        "codes": "multi",
        "vector": "dense",
        "few": "categorical",
        "many": "binned",
        "price": "binned",
        "kept": "categorical",
        "day": "categorical",
    }
    assert items["brand"].head(3).to_list() == ["a", None, None]
    assert items["shelf"].head(3).to_list() == [["x", "y"], ["y"], None]
    assert items["vector"].dtype == pl.Array(pl.Float32, 2)
    assert items["kept"].head(3).to_list() == ["true", "false", None]
    assert items["day"].head(2).to_list() == [2020, 2021]
    assert {"title", "slug"} <= set(items.columns)
    rule = found.attributes["price"]
    assert rule.edges == tuple(30.0 * place for place in range(1, 10))
    assert rule.labels[:2] == ("under 30", "30 to 60")
    assert rule.labels[-1] == "270 and over"
    assert found.sources[1].path == "items.parquet"


@pytest.mark.parametrize("dtype", [pl.String, pl.Categorical, pl.Enum(["red", "blue"])])
@pytest.mark.parametrize("outer", [pl.List, lambda inner: pl.Array(inner, 2)])
def test_lists_of_names_are_labels_whatever_their_type(log, tmp_path, dtype, outer):
    colours = pl.Series("colours", [["red", "blue"], ["red", None], None], dtype=outer(dtype))
    path = tmp_path / "items.parquet"
    pl.DataFrame({"sku": [1, 2, 3], "colours": colours}).write_parquet(path)
    found = read(log, path)
    assert found.attributes["colours"].kind == "multi"
    made = build_factor(found.items.collect()["colours"], found.attributes["colours"])
    assert made.labels == ("unknown", "blue", "red")
    assert made.values.tolist() == [0, 1, 2, 2, 0]


@pytest.mark.parametrize("first", [12_345_678, 1_600_000_000_000, 1 << 52])
def test_bins_that_lie_close_have_labels_of_their_own(log, tmp_path, first):
    path = tmp_path / "items.parquet"
    pl.DataFrame({"sku": range(300), "size": range(first, first + 300)}).write_parquet(path)
    rule = read(log, path).attributes["size"]
    assert rule.labels[:2] == (f"under {first + 30}", f"{first + 30} to {first + 60}")
    assert len(set(rule.labels)) == 10
    _, words = build_factors(
        pl.DataFrame({"item_id": [1], "size": [first]}), {"size": rule}, np.array([0, 1])
    )[-1]
    assert f"edges {first + 30}, {first + 60}, " in words


def test_text_tables_get_their_numbers(log, tmp_path):
    path = tmp_path / "items.tsv"
    path.write_text("item_id\tshop\tprice\n1\t07\t1.5\n2\t08\t\n3\tb\t2.5\n")
    found = read(log, path)
    items = found.items.collect()
    assert items.rows() == [(1, "07", 1.5), (2, "08", None), (3, "b", 2.5)]
    assert found.attributes["price"] == AttributeRule(
        "binned", (2.5,), ("under 2.5", "2.5 and over"), "tenths of the values"
    )
    assert "shop" not in found.attributes  # as many values as items


@pytest.mark.parametrize("kind", ["csv", "ndjson"])
def test_dates_as_text_become_years(log, tmp_path, kind):
    days = ["2019-05-01", "2020-06-07 12:00", None, "2019-12-31T23:59:59Z"]
    table = pl.DataFrame(
        {
            "sku": [1, 2, 3, 4],
            "day": days,
            "seen": ["2019-05-01", "soon", None, "2019-05-01"],
            "code": ["2019", "2020", None, "2019"],
        }
    )
    path = tmp_path / f"items.{kind}"
    (table.write_csv if kind == "csv" else table.write_ndjson)(path)
    found = read(log, path)
    items = found.items.collect()
    assert items["day"].to_list() == [2019, 2020, None, 2019]
    assert found.attributes["day"] == AttributeRule("categorical", note="year of the date")
    assert items["seen"].to_list() == ["2019-05-01", "soon", None, "2019-05-01"]
    # NDJSON has numbers of its own, so that what stands in quotes is text.
    assert items["code"].to_list()[0] == ("2019" if kind == "ndjson" else 2019)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_column_without_a_name_is_none(log, tmp_path, kind):
    path = tmp_path / f"items.{kind}"
    if kind == "csv":
        path.write_text(",sku,colour\n0,1,red\n1,2,blue\n2,3,red\n")
    else:
        table = pl.DataFrame({"": [0, 1, 2], "sku": [1, 2, 3], "colour": ["red", "blue", "red"]})
        table.write_parquet(path)
    found = read(log, path)
    assert list(found.attributes) == ["colour"]


def test_ids_of_both_tables_become_one_type(log, tmp_path):
    path = tmp_path / "items.csv"
    path.write_text("sku,brand\n1,a\nB7,a\n2,b\n1,later\n,c\n")
    found = read(log, path)
    assert found.interactions.collect()["item_id"].to_list() == ["1", "2", "3"]
    assert found.items.collect().rows() == [("1", "a"), ("B7", "a"), ("2", "b")]


def test_named_table_wins_over_the_one_of_the_format(tmp_path):
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating\n1,5,3\n1,6,3\n")
    (tmp_path / "movies.csv").write_text(
        "movieId,title,genres\n5,A (1995),Comedy\n6,B (1996),Drama\n"
    )
    items = tmp_path / "items.csv"
    items.write_text("item_id,genre,studio\n5,Western,s\n7,Western,s\n")
    found = read_log(str(tmp_path), format="movielens-csv", items=str(items))
    table = found.items.collect().sort("item_id")
    assert table["genre"].to_list() == ["Western", None, "Western"]
    assert table["year"].to_list() == ["1995", "1996", None]
    assert table["studio"].to_list() == ["s", None, "s"]
    assert {name: rule.kind for name, rule in found.attributes.items()} == {
        "year": "categorical",
        "genre": "categorical",
        "studio": "categorical",
    }


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("items.csv", "skuu,brand\n1,a\n", r"have a column 'sku' of item ids, .* mean 'skuu'"),
        ("items.csv", "sku,brand\n", "must hold items, found none"),
        ("items.csv", "sku,brand\n91,a\n92,b\n", "none in common; ids of the log are like 1"),
        ("items.csv", "sku,brand\n1\n", "line 2 of items.csv .* have 2 fields, got 1"),
        ("items.ndjson", '{"sku": 1, "v": [1.0]}\n{"sku": 2, "v": [1.0, 2.0]}', "got widths 1, 2"),
        ("items.ndjson", '{"sku": 1, "v": [1.0, null]}\n', "finite numbers in column 'v'"),
        ("items.ndjson", '{"sku": 1, "title": ["a"]}\n', r"have text in column 'title', got List"),
        ("items.ndjson", '{"sku": 1, "title": {"a": 1}}\n', r"text in column 'title', got Struct"),
        ("items.json", '{"1": [4], "2": [4, [5]]}', r"of numbers or text, got \[5\] in one"),
        ("items.json", '{"1": [{"a": 5}]}', "of numbers or text, got {'a': 5} in one"),
        ("items.json", '{"1": ["\\ud800"]}', "must be Unicode text, got surrogates not allowed"),
        ("items.json", '{"\\ud800": [1]}', "must be Unicode text, got surrogates not allowed"),
        ("none.csv", None, "none.csv must exist, found nothing"),
    ],
)  # fmt: skip
def test_bad_input(log, tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(MfganError, match=message):
        read(log, tmp_path / name)


def test_titles_that_are_bytes(log, tmp_path):
    path = tmp_path / "items.parquet"
    pl.DataFrame({"sku": [1], "title": [b"a"]}).write_parquet(path)
    with pytest.raises(MfganError, match="must have text in column 'title', got Binary"):
        read(log, path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("binned", (2.0, 1.0), ("a", "b", "c")), "edges must ascend"),
        (("binned", (1.0,), ("a",)), "labels must be one more than edges, got 1 for 1"),
        (("multi", (1.0,)), "edges and labels are for binned, got multi"),
    ],
)
def test_rules_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        AttributeRule(*arguments)


def test_the_named_column_of_ids_is_taken_before_one_called_as_ours(log, tmp_path):
    path = tmp_path / "items.csv"
    path.write_text("sku,item_id,genre\n1,9,a\n2,8,b\n3,7,a\n")
    items = read(log, path).items.collect()
    assert items["item_id"].cast(pl.String).to_list() == ["1", "2", "3"]
