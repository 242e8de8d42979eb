"""A log streams in once and becomes columns of small integers."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl

from mfgan.data.columns import ITEM_ID, ORDER, TIMESTAMP, USER_ID
from mfgan.data.encoding import Encoder
from mfgan.data.growing import GrowingColumn
from mfgan.data.parallel import together
from mfgan.errors import MfganError

BATCH_ROWS = 1 << 17
_FIRST = np.iinfo(np.int64).min  # the key of a row without an order


@dataclass
class CodedLog:
    """A log in input order, ids replaced by codes.

    Args:
        users: ``(n,)`` int32 code of each row's user.
        items: ``(n,)`` int32.
        keys: ``(n,)`` int64 by which a user's rows are sorted, or ``(0,)`` for input order.
        timestamps: ``(n,)`` int64 milliseconds; the same array as ``keys`` where time sorts; None
            where a row has none.
        user_ids: The ids by code.
        item_ids: The ids by code.
    """

    users: np.ndarray
    items: np.ndarray
    keys: np.ndarray
    timestamps: np.ndarray | None
    user_ids: pl.Series
    item_ids: pl.Series


def code_log(interactions: pl.LazyFrame) -> CodedLog:
    """Read a log batch by batch and code its ids as it comes.

    Args:
        interactions: As ``RawLog`` describes it.

    Returns:
        The coded log; nothing else of the log stays in memory.

    Raises:
        MfganError: An id or a needed timestamp is null, ids are of another dtype, the log is empty
            or cannot be read.
    """
    schema = interactions.collect_schema()
    encoders = {name: Encoder(name, schema[name]) for name in (USER_ID, ITEM_ID)}
    times = [name for name in (ORDER, TIMESTAMP) if name in schema]
    columns = {name: GrowingColumn(np.int32) for name in encoders}
    columns |= {name: GrowingColumn(np.int64) for name in times}
    lacks_times = False
    for batch in batches(interactions.select(list(columns))):
        for name in [*encoders, *([] if ORDER in times else times)]:
            if batch[name].null_count():
                raise MfganError(
                    f"prepare: {name} must not be null, got {batch[name].null_count()}"
                )
        jobs = [partial(encoder.encode, batch[name]) for name, encoder in encoders.items()]
        for name, codes in zip(encoders, together(jobs), strict=True):
            columns[name].add(codes)
        if ORDER in times:
            columns[ORDER].add(order_keys(batch[ORDER]))
        if TIMESTAMP in times:
            lacks_times |= batch[TIMESTAMP].null_count() > 0
            columns[TIMESTAMP].add(batch[TIMESTAMP].cast(pl.Int64).fill_null(0).to_numpy())
    if lacks_times:
        del columns[TIMESTAMP]
    return _whole(columns, {name: encoder.ids() for name, encoder in encoders.items()})


def _whole(columns: dict[str, GrowingColumn], ids: dict[str, pl.Series]) -> CodedLog:
    if not columns[USER_ID].size:
        raise MfganError("prepare: the log must hold interactions, found none")
    whole = {name: column.whole() for name, column in columns.items()}
    timestamps = whole.get(TIMESTAMP)
    keys = whole.get(ORDER, timestamps)
    if keys is None:
        keys = np.zeros(0, np.int64)
    return CodedLog(whole[USER_ID], whole[ITEM_ID], keys, timestamps, ids[USER_ID], ids[ITEM_ID])


def batches(frame: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    """The rows in order, some hundred thousand at a time; none of them empty.

    Raises:
        MfganError: Polars cannot read them.
    """
    found: Iterator[pl.DataFrame]
    try:
        if hasattr(frame, "collect_batches"):
            found = iter(frame.collect_batches(chunk_size=BATCH_ROWS, maintain_order=True))
        else:
            found = frame.collect().iter_slices(BATCH_ROWS)
        yield from (batch for batch in found if batch.height)
    except pl.exceptions.PolarsError as error:
        line = str(error).strip().split("\n", 1)[0][:200]
        raise MfganError(f"prepare: the log must be readable, got: {line}") from None


def order_keys(order: pl.Series) -> np.ndarray:
    """``(n,)`` int64 that sort as the numbers do, null first."""
    if order.dtype.is_integer():
        return order.cast(pl.Int64).fill_null(_FIRST).to_numpy()
    # The bits of a float sort as integers once those of negative numbers are turned round; adding
    # zero makes one zero of the two.
    bits = (order.cast(pl.Float64).fill_null(0.0).to_numpy() + 0.0).view(np.int64)
    keys = bits ^ ((bits >> 63) & np.int64((1 << 63) - 1))
    return np.where(order.is_null().to_numpy(), _FIRST, keys)
