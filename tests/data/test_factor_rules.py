"""Attributes of items as factors, worked out by hand."""

import numpy as np
import polars as pl
import pytest

from mfgan.data.factor_rules import build_factor, build_factors
from mfgan.data.factors import Factor, popularity_factor, read_factor, write_factor
from mfgan.data.readers import AttributeRule
from mfgan.errors import MfganError

CATEGORICAL, MULTI, DENSE = (AttributeRule(kind) for kind in ("categorical", "multi", "dense"))


def bags(factor):
    return [
        factor.values[a:b].tolist()
        for a, b in zip(factor.offsets[:-1], factor.offsets[1:], strict=True)
    ]


def test_categorical():
    factor = build_factor(pl.Series("genre", ["b", None, "a", "b", "ä"]), CATEGORICAL)
    assert factor.labels == ("unknown", "a", "b", "ä")
    assert factor.values.tolist() == [0, 2, 0, 1, 2, 3]
    assert (factor.kind, factor.num_values, factor.num_items) == ("categorical", 4, 5)
    assert factor.coverage == 0.8


def test_categorical_numbers_sort_as_numbers():
    factor = build_factor(pl.Series("year", [1999, 2001, None, 87]), CATEGORICAL)
    assert factor.labels == ("unknown", "87", "1999", "2001")
    assert factor.values.tolist() == [0, 2, 3, 0, 1]
    floats = build_factor(pl.Series("size", [1.5, float("nan"), None, 1.5]), CATEGORICAL)
    assert floats.labels == ("unknown", "1.5")
    assert floats.values.tolist() == [0, 1, 0, 0, 1]


def test_rare_values_are_pooled():
    values = pl.Series("maker", ["x", "y", "x", "z", None])
    factor = build_factor(values, CATEGORICAL, min_count=2)
    assert factor.labels == ("unknown", "x", "(rare)")
    assert factor.values.tolist() == [0, 1, 2, 1, 2, 0]
    every = build_factor(values, CATEGORICAL, min_count=9)
    assert every.labels == ("unknown", "(rare)")


def test_multi():
    values = pl.Series("tags", [["b", "a", "b"], [], None, ["c"], ["a", None]])
    factor = build_factor(values, MULTI)
    assert factor.labels == ("unknown", "a", "b", "c")
    assert bags(factor) == [[0], [1, 2], [0], [0], [3], [1]]
    assert factor.num_items == 5
    assert factor.coverage == pytest.approx(0.6)
    pooled = build_factor(values, MULTI, min_count=2)
    assert pooled.labels == ("unknown", "a", "(rare)")
    assert bags(pooled) == [[0], [1, 2], [0], [0], [2], [1]]
    numbers = build_factor(pl.Series("brands", [[10, 9], [9]]), MULTI)
    assert numbers.labels == ("unknown", "9", "10")


def test_binned():
    rule = AttributeRule("binned", (0.005, 1.0), ("free", "<1", ">=1"))
    prices = pl.Series("price", [0.0, 0.5, 1.0, None, float("nan"), -3.0, 99.0])
    factor = build_factor(prices, rule)
    assert factor.labels == ("unknown", "free", "<1", ">=1")
    assert factor.values.tolist() == [0, 1, 2, 3, 0, 0, 1, 3]
    whole = build_factor(pl.Series("price", [None, 1]), rule)
    assert whole.values.tolist() == [0, 0, 3]


@pytest.mark.parametrize("dtype", [pl.List(pl.Float64), pl.Array(pl.Float32, 2)])
def test_dense(dtype):
    factor = build_factor(pl.Series("vector", [[1.0, 2.0], None, [3.0, 4.5]], dtype=dtype), DENSE)
    assert factor.values.tolist() == [[0, 0], [1, 2], [0, 0], [3, 4.5]]
    assert (factor.num_values, factor.labels, factor.values.dtype) == (2, (), np.float32)
    assert factor.coverage == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("column", "name"), [("release / daté", "release___dat_"), (".", "."), ("..", "..")]
)
def test_names_become_file_names(tmp_path, column, name):
    factor = build_factor(pl.Series(column, ["a"]), CATEGORICAL)
    assert factor.name == name
    found = read_factor(tmp_path, write_factor(tmp_path, factor, ""), 1)
    assert found.labels == factor.labels


def test_popularity_bins_double():
    factor = popularity_factor(np.array([9, 0, 1, 2, 3, 4, 7, 8, 1 << 40]))
    assert factor.values.tolist() == [0, 0, 1, 2, 2, 3, 3, 4, 41]
    assert factor.labels[:5] == ("unknown", "1", "2-3", "4-7", "8-15")
    assert factor.num_values == 42
    assert popularity_factor(np.array([0, 0])).labels == ("unknown",)


TABLE = pl.DataFrame(
    {
        "item_id": ["a", "b"],
        "title": ["A", "B"],
        "genre": ["x", None],
        "none": pl.Series([None, None], dtype=pl.String),
        "id": ["p", "q"],
        "tags": [["x"], ["y"]],
    }
)
COUNTS = np.array([0, 3, 1])


def test_id_and_popularity_are_always_there():
    rules = {"genre": CATEGORICAL, "tags": MULTI}
    names = [f.name for f, _ in build_factors(TABLE, rules, COUNTS)]
    assert names == ["id", "popularity", "genre", "tags"]
    chosen = build_factors(TABLE, rules, COUNTS, chosen=["tags", "id"], min_count=2)
    assert [f.name for f, _ in chosen] == ["id", "popularity", "tags"]
    assert chosen[0][0].labels == ("unknown", "a", "b")
    assert chosen[2][1] == "multi; values of fewer than 2 items pooled into (rare)"
    assert [f.name for f, _ in build_factors(TABLE, {}, COUNTS, chosen=[])] == ["id", "popularity"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"chosen": ["gener"]},
            r"one of id, popularity, genre, .* got 'gener'; did you mean 'genre",
        ),
        ({"chosen": ["none"]}, "factor 'none' must be known for some item, got none of 2"),
        ({"chosen": None}, "must be known for some item"),
        ({"chosen": ["genre"], "min_count": 0}, "--min-count must be at least 1, got 0"),
    ],
)
def test_factors_that_cannot_be_made_are_refused(options, message):
    rules = {"genre": CATEGORICAL, "none": CATEGORICAL, "tags": MULTI}
    with pytest.raises(MfganError, match=message):
        build_factors(TABLE, rules, COUNTS, **options)


def test_a_column_called_as_a_factor_that_is_always_there():
    with pytest.raises(MfganError, match="different names, got 'id' twice; rename column 'id'"):
        build_factors(TABLE, {"id": CATEGORICAL}, COUNTS, chosen=None)


@pytest.mark.parametrize("columns", [("x", "x.offsets"), ("x.offsets", "x")])
def test_a_column_called_as_an_array_of_another_factor(columns):
    values = {"x": [["a"], ["b"]], "x.offsets": ["a", "b"]}
    rules = {"x": MULTI, "x.offsets": CATEGORICAL}
    table = TABLE.with_columns(pl.Series(name, values[name]) for name in columns)
    with pytest.raises(
        MfganError, match=f"got 'x.offsets' twice; rename column {columns[1]!r} of the item table"
    ):
        build_factors(table, {name: rules[name] for name in columns}, COUNTS)


@pytest.mark.parametrize(
    ("values", "rule", "message"),
    [
        ([[1.0], [1.0, 2.0]], DENSE, "vectors must be of one width, got widths 1, 2"),
        ([[1.0], [float("nan")]], DENSE, "must hold finite numbers, got others at item 2"),
        ([None, [float("inf")]], DENSE, "must hold finite numbers, got others at item 2"),
        ([[1.0, None], [1.0, 1.0]], DENSE, "must hold finite numbers, got others at item 1"),
        (["a", "b"], DENSE, "vectors must be lists of numbers, got String"),
        (["a", "b"], AttributeRule("binned", (1.0,), ("a", "b")), "bins are over numbers"),
    ],
)
def test_values_of_another_kind_are_refused(values, rule, message):
    with pytest.raises(MfganError, match=message):
        build_factor(pl.Series("vector", values), rule)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "text"}, "kind must be"),
        ({"offsets": np.array([0, 1, 2, 3])}, "offsets go with kind multi"),
        ({"values": np.zeros(3)}, "values must be 1-d int32"),
        ({"labels": ("unknown",)}, "must have 2 labels, got 1"),
        ({"values": np.array([0, 2, 0], np.int32)}, "within 0..1, got 2"),
        ({"values": np.array([0, -1, 0], np.int32)}, "within 0..1, got -1"),
        (
            {"kind": "dense", "values": np.zeros((3, 5), np.float32), "labels": ()},
            "must be 2 wide, got 5",
        ),
    ],
)
def test_factors_whose_parts_do_not_fit_are_refused(change, message):
    parts = {
        "name": "genre",
        "kind": "categorical",
        "num_values": 2,
        "values": np.array([0, 1, 0], np.int32),
        "offsets": None,
        "labels": ("unknown", "x"),
    }
    Factor(**parts)
    with pytest.raises(MfganError, match=message):
        Factor(**(parts | change))
