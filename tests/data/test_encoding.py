"""Codes of streamed ids against a dictionary."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from mfgan.data import encoding
from mfgan.data.encoding import Encoder, id_order
from mfgan.errors import MfganError

text = st.one_of(
    st.sampled_from(["", "a", "a\0", "a" * 15, "a" * 16, "user-00000001", "user-00000002"]),
    st.text(max_size=30),
)
integers = st.integers(-(1 << 63), (1 << 63) - 1)


def check(batches, dtype):
    encoder, codes_of, got, want = Encoder("user_id", dtype), {}, [], []
    for batch in batches:
        got += encoder.encode(pl.Series("user_id", batch, dtype=dtype)).tolist()
        want += [codes_of.setdefault(value, len(codes_of)) for value in batch]
    assert got == want
    ids = encoder.ids()
    assert ids.dtype == dtype
    assert ids.to_list() == list(codes_of)
    assert encoder.size == len(codes_of)


@given(st.lists(st.lists(text, max_size=12), max_size=4))
def test_strings(batches):
    check(batches, pl.String())


@given(st.lists(st.lists(st.one_of(integers, st.integers(0, 3)), max_size=12), max_size=4))
def test_integers(batches):
    check(batches, pl.Int64())


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (pl.UInt64(), [(1 << 64) - 1, 0, 1 << 63, 0]),
        (pl.Int8(), [-128, 127, 0, 127]),
        (pl.UInt32(), [(1 << 32) - 1, 0]),
    ],
)
def test_integers_of_other_widths(dtype, values):
    check([values, values[::-1]], dtype)


def test_ids_of_one_hash_stay_apart(monkeypatch):
    monkeypatch.setattr(encoding, "_ALL_BITS", np.uint64(0))
    names = [f"user-{n:07d}" for n in range(40)] + [f"{n}" for n in range(40)]
    long_names = [f"a-visitor-with-a-long-name-{n}" for n in range(40)]
    check([long_names[:5], long_names], pl.String())
    names += long_names
    check([names[:50], names[20:], names], pl.String())
    check([list(range(50)), list(range(-20, 50))], pl.Int64())


def test_what_memory_held_before_is_never_followed(monkeypatch):
    # With bounds checked, a place outside the arena is an error and not whatever lies there.
    checked = njit(boundscheck=True)(encoding._encode_text.py_func)
    monkeypatch.setattr(encoding, "_encode_text", checked)
    encoder = Encoder("user_id", pl.String())
    encoder._keys = np.full((100, 2), (1 << 64) - 1, np.uint64)
    for batch, codes in ((["b", "a"], [0, 1]), (["a" * 20, "b"], [2, 0])):
        assert encoder.encode(pl.Series(batch)).tolist() == codes


def test_many_ids_in_slices_of_a_longer_column():
    rng = np.random.default_rng(0)
    numbers = pl.Series("user_id", rng.integers(0, 30_000, 100_000))
    names = pl.select(pl.format("visitor-{}", numbers)).to_series()
    for column in (numbers, names):
        encoder = Encoder("user_id", column.dtype)
        batches = [column[first : first + 7001] for first in range(0, len(column), 7001)]
        codes = np.concatenate([encoder.encode(batch) for batch in batches])
        assert (encoder.ids().gather(codes) == column).all()
        assert encoder.size == column.n_unique()


@given(st.lists(text, max_size=12, unique=True), st.sampled_from(["", "visitor-", "v" * 12]))
def test_order_of_texts(ids, prefix):
    ids = pl.Series([prefix + one for one in ids], dtype=pl.String)
    assert ids.gather(id_order(ids)).to_list() == sorted(ids, key=lambda one: one.encode())


@given(st.lists(integers, max_size=12, unique=True))
def test_order_of_integers(ids):
    assert pl.Series(ids, dtype=pl.Int64).gather(
        id_order(pl.Series(ids, dtype=pl.Int64))
    ).to_list() == sorted(ids)


def test_ids_of_another_kind_are_refused():
    with pytest.raises(MfganError, match="item_id must be integers or strings, got Float64"):
        Encoder("item_id", pl.Float64())
