"""Factors out of the columns of an item table, each by its rule."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from mfgan.data.columns import ITEM_ID
from mfgan.data.factors import (
    POPULARITY,
    UNKNOWN,
    Factor,
    array_names,
    id_factor,
    popularity_factor,
)
from mfgan.data.readers import AttributeRule
from mfgan.data.readers.raw_log import edge_texts
from mfgan.errors import MfganError, nearest
from mfgan.names import ID

RARE = "(rare)"

_ITEM, _VALUE = "item", "value"


def build_factors(
    table: pl.DataFrame,
    rules: Mapping[str, AttributeRule],
    train_counts: np.ndarray,
    *,
    chosen: Sequence[str] | None = None,
    min_count: int = 1,
) -> list[tuple[Factor, str]]:
    """The item's id, its popularity, and the attributes that were asked for.

    Args:
        table: ``item_id``, ascending, and the attributes; item 1 first.
        rules: The rule of each attribute that may be a factor.
        train_counts: ``(num_items + 1,)`` int64, interactions in the training part.
        chosen: Names of attributes; all that have a rule where None.
        min_count: Values of fewer items are pooled into one.

    Returns:
        Each factor with its rule in words.

    Raises:
        MfganError: A name is unknown or reserved, or a factor has no known value or a damaged one.
    """
    if min_count < 1:
        raise MfganError(f"prepare: --min-count must be at least 1, got {min_count}")
    factors = [
        (id_factor(table[ITEM_ID].cast(pl.String).to_list()), "the item itself"),
        (
            popularity_factor(train_counts),
            "interactions in the training part, bins of doubling width; none there is unknown",
        ),
    ]
    for column in _chosen(rules, chosen):
        factor = build_factor(table[column], rules[column], min_count=min_count)
        taken = {name for other, _ in factors for name in array_names(other)}
        twice = [name for name in array_names(factor) if name in taken]
        if twice:
            raise MfganError(
                f"prepare: factors and their arrays must have different names, got {twice[0]!r}"
                f" twice; rename column {column!r} of the item table"
            )
        if factor.coverage == 0:
            raise MfganError(
                f"prepare: factor {column!r} must be known for some item, got none of"
                f" {factor.num_items:,}; --factors chooses others"
            )
        factors.append((factor, _in_words(rules[column], min_count)))
    return factors


def _chosen(rules: Mapping[str, AttributeRule], chosen: Sequence[str] | None) -> list[str]:
    if chosen is None:
        return list(rules)
    for name in chosen:
        if name not in rules and name not in (ID, POPULARITY):
            known = [ID, POPULARITY, *rules]
            raise MfganError(
                f"prepare: a factor must be one of {', '.join(known)}, got {name!r}"
                f"{nearest(name, known)}"
            )
    # id and popularity are always there, whether they are named or not.
    return [name for name in dict.fromkeys(chosen) if name in rules]


def build_factor(values: pl.Series, rule: AttributeRule, *, min_count: int = 1) -> Factor:
    """One attribute of the items as a factor.

    Args:
        values: The attribute of each item, item 1 first; its name becomes the factor's, with
            anything but letters, digits, ``.``, ``-`` and ``_`` replaced by ``_``.
        rule: What becomes of the values.
        min_count: Values of fewer items are pooled into one; not for bins and vectors.

    Raises:
        MfganError: Vectors differ in width or hold NaN or infinities, or bins are over no numbers.
    """
    name = re.sub(r"[^\w.-]", "_", values.name, flags=re.ASCII)
    if rule.kind == "dense":
        return _dense(name, values)
    if rule.kind == "binned":
        return _binned(name, values, rule)
    is_multi = rule.kind == "multi"
    rows = pl.DataFrame({_ITEM: np.arange(1, len(values) + 1), _VALUE: values})
    if is_multi:
        rows = rows.explode(_VALUE)
    if rows[_VALUE].dtype.is_float():
        rows = rows.with_columns(pl.col(_VALUE).fill_nan(None))
    rows = rows.drop_nulls().unique(maintain_order=True)
    codes, labels = _coded(rows, min_count)
    items = rows[_ITEM].to_numpy()
    if is_multi:
        return _bags(name, items, codes, labels, len(values))
    coded = np.zeros(len(values) + 1, np.int32)
    coded[items] = codes
    return Factor(name, "categorical", len(labels), coded, None, labels)


def _coded(rows: pl.DataFrame, min_count: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """``(rows,)`` int32 values from 1, and the labels: unknown, ascending ones, the pooled one."""
    counts = rows.group_by(_VALUE).len().sort(_VALUE)
    is_common = counts["len"] >= min_count
    common = counts.filter(is_common)[_VALUE]
    labels = [UNKNOWN, *common.cast(pl.String).to_list()]
    place = pl.Series(np.arange(1, len(common) + 1), dtype=pl.Int32)
    if not is_common.all():
        labels.append(RARE)
    codes = rows[_VALUE].replace_strict(
        common, place, default=len(labels) - 1, return_dtype=pl.Int32
    )
    return codes.to_numpy(), tuple(labels)


def _bags(
    name: str, items: np.ndarray, codes: np.ndarray, labels: tuple[str, ...], num_items: int
) -> Factor:
    pairs = np.unique(np.stack([items, codes], 1), axis=0) if len(items) else np.zeros((0, 2))
    # Who has nothing, item 0 among them, has the bag [0].
    empty = np.setdiff1d(np.arange(num_items + 1), pairs[:, 0])
    pairs = np.concatenate([pairs, np.stack([empty, np.zeros_like(empty)], 1)]).astype(np.int64)
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    bounds = np.searchsorted(pairs[:, 0], np.arange(num_items + 2)).astype(np.int64)
    return Factor(name, "multi", len(labels), pairs[:, 1].astype(np.int32), bounds, labels)


def _binned(name: str, values: pl.Series, rule: AttributeRule) -> Factor:
    if not values.dtype.is_numeric():
        raise MfganError(f"factor {name}: bins are over numbers, got {values.dtype}")
    numbers = values.cast(pl.Float64).fill_null(np.nan).to_numpy()
    bins = np.searchsorted(np.array(rule.edges, np.float64), numbers, side="right") + 1
    coded = np.concatenate([[0], np.where(np.isnan(numbers), 0, bins)]).astype(np.int32)
    labels = (UNKNOWN, *rule.labels)
    return Factor(name, "categorical", len(labels), coded, None, labels)


def _dense(name: str, values: pl.Series) -> Factor:
    known = values.is_not_null().to_numpy()
    lists = values.drop_nulls()
    if isinstance(lists.dtype, pl.Array):
        lists = lists.arr.to_list()
    elif not isinstance(lists.dtype, pl.List):
        raise MfganError(f"factor {name}: vectors must be lists of numbers, got {lists.dtype}")
    widths = lists.list.len().unique().sort().to_list()
    if len(widths) > 1 or 0 in widths:
        shown = ", ".join(map(str, widths[:5]))
        raise MfganError(f"factor {name}: vectors must be of one width, got widths {shown}")
    width = widths[0] if widths else 1
    numbers = lists.explode().cast(pl.Float32).fill_null(np.nan).to_numpy()
    vectors = numbers.reshape(-1, width) if widths else np.zeros((0, 1), np.float32)
    if not np.isfinite(vectors).all():
        first = int(np.flatnonzero(known)[~np.isfinite(vectors).all(axis=1)][0]) + 1
        raise MfganError(
            f"factor {name}: vectors must hold finite numbers, got others at item {first}"
        )
    coded = np.zeros((len(values) + 1, width), np.float32)
    coded[1:][known] = vectors
    return Factor(name, "dense", width, coded, None, ())


def _in_words(rule: AttributeRule, min_count: int) -> str:
    parts: list[str] = [rule.kind]
    if rule.kind == "binned":
        parts.append("edges " + ", ".join(edge_texts(rule.edges)))
    elif rule.kind != "dense" and min_count > 1:
        parts.append(f"values of fewer than {min_count} items pooled into {RARE}")
    return "; ".join([*parts, rule.note] if rule.note else parts)
