"""From a coded log to clean histories: repeated rows, k-core, short histories, longest length.

Each step says what it kept and dropped, and why.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import polars as pl
from numba import njit

from mfgan.data.encoding import id_order
from mfgan.data.grouping import bounds_of, lay_out, mark_repeats
from mfgan.data.ingest import CodedLog
from mfgan.data.kcore import Core, k_core
from mfgan.data.parallel import group_parts, over_parts
from mfgan.data.split import MIN_HISTORY
from mfgan.errors import MfganError

Duplicates = Literal["drop", "once", "keep"]
ShortHistories = Literal["error", "train", "drop"]


@dataclass(frozen=True)
class CleaningRules:
    """What is kept of a log.

    Args:
        k_core: Each user and item keeps at least so many interactions; 1 switches it off.
        duplicates: ``"drop"``: of rows with the same user, item and time (or order) the first
            stays; without either no two rows are the same. ``"once"``: a user's first interaction
            with each item stays. ``"keep"``: all stay.
        short_histories: What becomes of users with fewer than three interactions, if the split
            needs three: an error, all of it trains, or they are dropped and the k-core holds again.
        needs_three: Whether the split does.
        max_len: Each user keeps the last so many interactions; None for all.
    """

    k_core: int = 5
    duplicates: Duplicates = "drop"
    short_histories: ShortHistories = "error"
    needs_three: bool = True
    max_len: int | None = None

    def __post_init__(self) -> None:
        for name, kinds in (("duplicates", Duplicates), ("short_histories", ShortHistories)):
            if (value := getattr(self, name)) not in get_args(kinds):
                option = name.replace("_", "-")
                known = ", ".join(get_args(kinds))
                raise MfganError(f"prepare: --{option} must be one of {known}, got {value!r}")
        if self.k_core < 1:
            raise MfganError(f"prepare: --k-core must be at least 1, got {self.k_core}")
        least = MIN_HISTORY if self.needs_three else 1
        if self.max_len is not None and self.max_len < least:
            raise MfganError(
                f"prepare: --max-len must be at least {least} under this split, got {self.max_len}"
            )

    def described(self) -> dict[str, Any]:
        """The rules as the manifest keeps them."""
        names = ("k_core", "duplicates", "short_histories", "max_len")
        return {name: getattr(self, name) for name in names}


@dataclass
class Histories:
    """Clean histories, users and items numbered in the order of their ids.

    Args:
        offsets: ``(num_users + 1,)`` int64.
        items: ``(n,)`` int32 item_idx from 1.
        timestamps: ``(n,)`` int64 milliseconds, or None.
        user_ids: Ascending.
        item_ids: Ascending; item 1 first.
        steps: For each step: its name, users, items and interactions left, dropped, why.
    """

    offsets: np.ndarray
    items: np.ndarray
    timestamps: np.ndarray | None
    user_ids: pl.Series
    item_ids: pl.Series
    steps: list[dict[str, Any]] = field(default_factory=list)


def clean(log: CodedLog, rules: CleaningRules, *, bad_lines: int = 0) -> Histories:
    """Group a log by user, clean it and number users and items.

    Args:
        log: The coded log; its columns are freed on the way.
        rules: What is kept.
        bad_lines: Records that reading has left out, for the account of the steps.

    Returns:
        The histories.

    Raises:
        MfganError: Nothing is left, the catalogue has one item, or a history is too short.
    """
    steps = _Steps()
    num_users, num_items = len(log.user_ids), len(log.item_ids)
    why = "no record" if bad_lines else "nothing"
    steps.add("read", num_users, num_items, len(log.users), why, dropped=bad_lines)
    laid = _lay_out(log)
    _drop_repeats(rules, laid, steps)
    core = _k_core(laid.users, laid.items, rules, steps)
    core = _short_histories(laid.users, laid.items, core, rules, steps)
    if rules.max_len is not None:
        _drop_early(laid.offsets, laid.items, core.user_counts, core.item_counts, rules.max_len)
        why = f"earlier than a user's last {rules.max_len}"
        steps.add_core("max-len", core, why)
    if (found := int((core.item_counts > 0).sum())) < 2:
        raise MfganError(f"prepare: the catalogue must hold at least 2 items, got {found}")
    return _number(log, laid, core, steps.rows)


class _Steps:
    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def add(
        self, step: str, users: int, items: int, rows: int, why: str, *, dropped: int | None = None
    ) -> None:
        if dropped is None:
            dropped = self.rows[-1]["interactions"] - rows
        self.rows.append(
            {
                "step": step,
                "users": int(users),
                "items": int(items),
                "interactions": int(rows),
                "dropped": int(dropped),
                "why": why,
            }
        )

    def add_core(self, step: str, core: Core, why: str) -> None:
        users, items = int((core.user_counts > 0).sum()), int((core.item_counts > 0).sum())
        self.add(step, users, items, int(core.user_counts.sum()), why)


@dataclass
class _Laid:
    """A log laid out user by user: bounds, and users, items, keys and times of the rows.

    The columns that the log came in are kept to take the final histories: new memory would have to
    be fetched from the system page by page.
    """

    offsets: np.ndarray
    users: np.ndarray
    items: np.ndarray
    keys: np.ndarray
    timestamps: np.ndarray | None
    spare_items: np.ndarray
    spare_times: np.ndarray


def _lay_out(log: CodedLog) -> _Laid:
    """Lay the rows out; the log's columns are given up."""
    time_sorts = log.timestamps is log.keys
    payload = log.items
    if log.timestamps is not None and not time_sorts:
        # Two columns move with the keys, so the rows' numbers do in their place.
        payload = np.arange(len(log.users), dtype=np.int32)
    offsets, users, payload, keys = lay_out(
        log.users, payload, log.keys, num_users=len(log.user_ids)
    )
    items, timestamps = payload, keys if time_sorts else None
    if log.timestamps is not None and not time_sorts:
        items, timestamps = np.take(log.items, payload), np.take(log.timestamps, payload)
    laid = _Laid(offsets, users, items, keys, timestamps, log.users, log.keys)
    log.users = log.items = log.keys = np.zeros(0, np.int32)
    log.timestamps = None
    return laid


def _drop_repeats(rules: CleaningRules, laid: _Laid, steps: _Steps) -> None:
    offsets, items, keys = laid.offsets, laid.items, laid.keys
    if rules.duplicates == "keep":
        return
    if rules.duplicates == "once":
        dropped, why = mark_repeats(offsets, None, items), "same user and item as an earlier row"
    elif len(keys):
        dropped = mark_repeats(offsets, keys, items)
        why = "same user, item and time as an earlier row"
    else:
        dropped, why = 0, "the log has no times, so no two rows are the same"
    last = steps.rows[-1]
    steps.add("duplicates", last["users"], last["items"], len(items) - dropped, why)


def _k_core(users: np.ndarray, items: np.ndarray, rules: CleaningRules, steps: _Steps) -> Core:
    core = k_core(users, items, k=rules.k_core)
    if rules.k_core > 1:
        why = f"user or item with fewer than {rules.k_core}"
        steps.add_core(f"{rules.k_core}-core", core, why)
    if not core.user_counts.any():
        raise MfganError(
            f"prepare: --k-core {rules.k_core} must leave interactions, got none of"
            f" {steps.rows[-2]['interactions']:,}; a lower one keeps more, 1 keeps all"
        )
    return core


def _short_histories(
    users: np.ndarray, items: np.ndarray, core: Core, rules: CleaningRules, steps: _Steps
) -> Core:
    is_short = (core.user_counts > 0) & (core.user_counts < MIN_HISTORY)
    if not rules.needs_three or not is_short.any() or rules.short_histories == "train":
        return core
    if rules.short_histories == "error":
        raise MfganError(
            f"prepare: under --split leave-one-out every user must have at least {MIN_HISTORY}"
            f" interactions, got {int(is_short.sum()):,} users with fewer; --short-histories train"
            " trains on all of theirs, --short-histories drop leaves them out"
        )
    core = k_core(users, items, k=rules.k_core, k_users=max(rules.k_core, MIN_HISTORY))
    steps.add_core("short histories", core, f"user with fewer than {MIN_HISTORY}")
    if not core.user_counts.any():
        raise MfganError(
            f"prepare: some user must have at least {MIN_HISTORY} interactions, found none"
        )
    return core


def _number(log: CodedLog, laid: _Laid, core: Core, steps: list[dict[str, Any]]) -> Histories:
    """Number who is left in the order of their ids, and copy the rows that are left."""
    user_ids, users = _sorted_ids(log.user_ids, core.user_counts)
    item_ids, kept_items = _sorted_ids(log.item_ids, core.item_counts)
    item_idx = np.zeros(len(core.item_counts), np.int32)
    item_idx[kept_items] = np.arange(1, len(kept_items) + 1, dtype=np.int32)
    bounds = bounds_of(core.user_counts[users])
    times = np.zeros(0, np.int64) if laid.timestamps is None else laid.timestamps
    out = laid.spare_items[: bounds[-1]], laid.spare_times[: bounds[-1] if len(times) else 0]
    arguments = (users, laid.offsets, laid.items, times, item_idx, bounds, *out)
    over_parts(_copy_histories, group_parts(bounds), *arguments)
    kept_times = None if laid.timestamps is None else out[1]
    return Histories(bounds, out[0], kept_times, user_ids, item_ids, steps)


def _sorted_ids(ids: pl.Series, counts: np.ndarray) -> tuple[pl.Series, np.ndarray]:
    """The ids of who is left, ascending, and their codes in that order."""
    codes = np.flatnonzero(counts)
    kept = ids.gather(codes)
    order = id_order(kept)
    return kept.gather(order), codes[order]


@njit(cache=True, nogil=True)
def _drop_early(offsets, items, user_counts, item_counts, max_len):  # type: ignore[no-untyped-def]
    """Mark all but the last rows of each user as not there; rows outside the core are passed."""
    for user in range(user_counts.shape[0]):
        row = offsets[user]
        while user_counts[user] > max_len:
            item = items[row]
            if item >= 0 and item_counts[item] > 0:
                items[row] = -1
                item_counts[item] -= 1
                user_counts[user] -= 1
            row += 1


@njit(cache=True, nogil=True)
def _copy_histories(  # type: ignore[no-untyped-def]
    first, end, users, offsets, items, times, item_idx, bounds, out_items, out_times
):
    has_times = times.shape[0] > 0
    for user in range(first, end):
        place = bounds[user]
        for row in range(offsets[users[user]], offsets[users[user] + 1]):
            item = items[row]
            if item < 0 or item_idx[item] == 0:
                continue
            out_items[place] = item_idx[item]
            if has_times:
                out_times[place] = times[row]
            place += 1
