"""Which interactions may be trained on, and which one of each user validates and tests."""

from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np

from mfgan.data.packing import first_late
from mfgan.errors import MfganError

SplitKind = Literal["leave-one-out", "temporal"]

LEAVE_ONE_OUT: Final = "leave-one-out"
QUANTILES = (0.8, 0.9)
_LATEST = 2**63 - 1  # of int64 milliseconds
MIN_HISTORY = 3  # leave-one-out: one to train on, one validates, one tests


@dataclass(frozen=True)
class SplitArrays:
    """A split of every user's history; places count from the history's start.

    Args:
        train_end: ``(num_users,)`` int64: the first so many interactions may be trained on.
        validation: ``(num_users,)`` int64 place of the target, -1 for none.
        test: ``(num_users,)`` int64 place of the target, -1 for none.
    """

    train_end: np.ndarray
    validation: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class SplitRule:
    """How histories are split.

    Args:
        kind: ``"leave-one-out"`` or ``"temporal"``.
        quantiles: Temporal: the shares of the interactions before the two times.
        times: Temporal: the two times themselves, in milliseconds, in place of the shares.

    Raises:
        MfganError: The kind is another, or a time is beyond int64.
    """

    kind: SplitKind = LEAVE_ONE_OUT
    quantiles: tuple[float, float] = QUANTILES
    times: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(SplitKind):
            known = ", ".join(get_args(SplitKind))
            raise MfganError(f"prepare: --split must be one of {known}, got {self.kind!r}")
        for time in self.times or ():
            if abs(time) > _LATEST:
                raise MfganError(
                    f"prepare: --cut-times must be milliseconds within ±{_LATEST}, got {time}"
                )

    def apply(
        self, offsets: np.ndarray, timestamps: np.ndarray | None
    ) -> tuple[SplitArrays, tuple[int, int] | None]:
        """Split the histories.

        Args:
            offsets: ``(num_users + 1,)`` int64 bounds of the histories.
            timestamps: ``(num_interactions,)`` int64 milliseconds, or None.

        Returns:
            The split, and the two times if time split it.

        Raises:
            MfganError: There are no timestamps, or nothing is left to train on or to test.
        """
        if self.kind == LEAVE_ONE_OUT:
            return leave_one_out(offsets), None
        if timestamps is None:
            raise MfganError("prepare: --split temporal must have timestamps, the log lacks some")
        cuts = self.times or cut_times(timestamps, self.quantiles)
        return temporal(timestamps, offsets, cuts), cuts


def leave_one_out(offsets: np.ndarray) -> SplitArrays:
    """The last interaction tests, the one before validates, the rest trains.

    Args:
        offsets: ``(num_users + 1,)`` int64 bounds of the histories.

    Returns:
        The split; users with fewer than three interactions only train.
    """
    lengths = np.diff(offsets)
    is_long = lengths >= MIN_HISTORY
    return SplitArrays(
        train_end=np.where(is_long, lengths - 2, lengths),
        validation=np.where(is_long, lengths - 2, -1),
        test=np.where(is_long, lengths - 1, -1),
    )


def cut_times(timestamps: np.ndarray, quantiles: tuple[float, float]) -> tuple[int, int]:
    """Two times that part the log by shares of its interactions.

    Args:
        timestamps: ``(num_interactions,)`` int64 milliseconds.
        quantiles: Shares of the interactions before validation and before test, rising.

    Returns:
        The two times in milliseconds.

    Raises:
        MfganError: The quantiles do not rise within 0..1.
    """
    first, second = quantiles
    if not 0 < first < second < 1:
        raise MfganError(
            f"prepare: --quantiles must rise between 0 and 1, got {first} and {second}"
        )
    places = [min(int(len(timestamps) * q), len(timestamps) - 1) for q in quantiles]
    parted = np.partition(timestamps, places)
    return int(parted[places[0]]), int(parted[places[1]])


def temporal(timestamps: np.ndarray, offsets: np.ndarray, cuts: tuple[int, int]) -> SplitArrays:
    """Two times cut every history: before the first trains, the next parts validate and test.

    A user's validation target is her first interaction at or after the first time and before the
    second, her test target the first at or after the second; each needs something before it.

    Args:
        timestamps: ``(num_interactions,)`` int64 milliseconds.
        offsets: ``(num_users + 1,)`` int64 bounds of the histories.
        cuts: The two times, in milliseconds.

    Returns:
        The split.

    Raises:
        MfganError: The times do not rise, or leave nothing to train on or to test.
    """
    first, second = cuts
    if not first < second:
        raise MfganError(f"prepare: --cut-times must rise, got {first} and {second}")
    lengths = np.diff(offsets)
    # Where time does not rise along a history, everything after the first late interaction counts
    # as late: what follows a cut must never be trained on.
    train_end, test_start = np.diff(offsets), np.diff(offsets)
    first_late(timestamps, offsets, first, train_end)
    first_late(timestamps, offsets, second, test_start)
    validation = np.where((train_end < test_start) & (train_end > 0), train_end, -1)
    test = np.where((test_start < lengths) & (test_start > 0), test_start, -1)
    if not train_end.any():
        raise MfganError(
            "prepare: --split temporal must have interactions before the first time, found none"
        )
    if not (test >= 0).any():
        raise MfganError(
            "prepare: --split temporal must have users with interactions before and after the"
            " second time, found none"
        )
    return SplitArrays(train_end, validation, test)
