"""Batches of sessions out of a prepared data set: shuffled for training, in order for scoring."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, overload

import numpy as np

from mfgan.data.batch import JaggedBatch
from mfgan.data.packing import count_up, cut_by_budget, gather_slices
from mfgan.errors import MfganError

if TYPE_CHECKING:
    from mfgan.data.dataset import HistorySplit, PreparedDataset

_SHUFFLE, _CUT = 101, 102  # tell these uses of a seed from every other one

History = Literal["last", "windows"]


@dataclass(frozen=True)
class Sessions:
    """Where the inputs of sessions stand in the data set's long arrays.

    Args:
        users: ``(num_sessions,)`` user_idx.
        starts: ``(num_sessions,)`` int64, the first input's place.
        ends: ``(num_sessions,)`` int64, one past the last input's.
    """

    users: np.ndarray
    starts: np.ndarray
    ends: np.ndarray

    def __len__(self) -> int:
        return len(self.users)

    def __getitem__(self, chosen: np.ndarray) -> "Sessions":
        return Sessions(self.users[chosen], self.starts[chosen], self.ends[chosen])

    @property
    def lengths(self) -> np.ndarray:
        """``(num_sessions,)`` inputs of each."""
        lengths: np.ndarray = self.ends - self.starts
        return lengths


class TrainingBatches:
    """The training sessions of a data set, packed into batches.

    Batch ``i`` of epoch ``e`` depends on ``(seed, e, i)`` alone, so that training may stop and go
    on at any batch. A session is ``max_len + 1`` interactions of a user's training part, or all of
    a shorter one: all but the last are inputs, all but the first are targets. Users with fewer than
    two training interactions have no session. Without targets a session is the last ``max_len``
    interactions of a training part, and every user with one of them has it.

    Args:
        dataset: The prepared data set.
        max_len: The longest a session may be.
        batch_size: Sessions a batch; the last one may hold fewer.
        token_budget: Most tokens a batch; a longer session stands alone. One of the two is given.
        seed: Seed of the order.
        users: ``(n,)`` user_idx to train on; all of them where None.
        history: What of a longer training part an epoch has: ``"last"`` its last interactions;
            ``"windows"`` all of it, in as few sessions as hold it, cut at places drawn anew each
            epoch. Each epoch has the same number of sessions.
        order: ``"shuffled"`` mixes lengths; ``"by-length"`` puts sessions of like length into one
            batch and shuffles the batches.
        targets: Whether batches have targets; those without need ``history="last"``.

    Raises:
        MfganError: A size is out of range, or no user has a session.

    Example:
        >>> batches = TrainingBatches(dataset, max_len=50, batch_size=128, seed=0)
        >>> for batch in batches.epoch(0):
        ...     loss = model(batch)
    """

    def __init__(
        self,
        dataset: "PreparedDataset",
        *,
        max_len: int,
        batch_size: int | None = None,
        token_budget: int | None = None,
        seed: int,
        users: np.ndarray | None = None,
        history: History = "last",
        order: Literal["shuffled", "by-length"] = "shuffled",
        targets: bool = True,
    ) -> None:
        if max_len < 1:
            raise MfganError(f"TrainingBatches: max_len must be at least 1, got {max_len}")
        if (batch_size is None) == (token_budget is None):
            raise MfganError("TrainingBatches: give either batch_size or token_budget")
        size = batch_size if batch_size is not None else token_budget
        if size is not None and size < 1:
            raise MfganError(f"TrainingBatches: a batch must hold at least 1, got {size}")
        if history not in ("last", "windows"):
            raise MfganError(
                f"TrainingBatches: history must be 'last' or 'windows', got {history!r}"
            )
        if order not in ("shuffled", "by-length"):
            raise MfganError(
                f"TrainingBatches: order must be 'shuffled' or 'by-length', got {order!r}"
            )
        if not targets and history != "last":
            raise MfganError(
                f"TrainingBatches: history must be 'last' without targets, got {history!r}"
            )
        # How many interactions of a training part are targets alone.
        self._withheld = int(targets)
        chosen = np.arange(dataset.num_users) if users is None else _checked(dataset, users)
        self.users = chosen[dataset.train_end[chosen] > self._withheld]
        if not len(self.users):
            raise MfganError(
                f"TrainingBatches: some user must have at least {1 + self._withheld} training "
                "interactions, found none"
            )
        self.dataset, self.max_len, self.seed = dataset, max_len, seed
        self._batch_size, self._token_budget, self._order = batch_size, token_budget, order
        self._history = history

    def sessions(self, epoch: int) -> Sessions:
        """The sessions of one epoch, user by user and in the order of time."""
        starts = self.dataset.offsets[self.users]
        ends = starts + self.dataset.train_end[self.users] - self._withheld
        if self._history == "last":
            return Sessions(self.users, np.maximum(starts, ends - self.max_len), ends)
        counts = -(-(ends - starts) // self.max_len)
        # The first window begins up to ``slack`` places before the history, which moves every cut.
        slack = counts * self.max_len - (ends - starts)
        shifts = np.random.default_rng([self.seed, _CUT, epoch]).integers(0, slack + 1)
        shifts = np.where(counts > 1, shifts, 0)
        turns = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
        begins = np.repeat(starts - shifts, counts) + turns * self.max_len
        return Sessions(
            np.repeat(self.users, counts),
            np.maximum(begins, np.repeat(starts, counts)),
            np.minimum(begins + self.max_len, np.repeat(ends, counts)),
        )

    def epoch(self, epoch: int) -> "EpochBatches":
        """The batches of one epoch, random access."""
        rng = np.random.default_rng([self.seed, _SHUFFLE, epoch])
        sessions = self.sessions(epoch)
        order = rng.permutation(len(sessions))
        if self._order == "by-length":
            order = order[np.argsort(sessions.lengths[order], kind="stable")]
        sessions = sessions[order]
        if self._token_budget is not None:
            bounds = cut_by_budget(sessions.lengths, self._token_budget)
        else:
            bounds = np.append(np.arange(0, len(sessions), self._batch_size), len(sessions))
        turns = np.arange(len(bounds) - 1)
        if self._order == "by-length":
            turns = rng.permutation(len(turns))
        return EpochBatches(self, sessions, bounds, turns)

    def most_earlier(self, tokens: int) -> int:
        """The most interactions that can lie before the sessions of one batch.

        Args:
            tokens: Of the batch, at most; sessions are the ends of their histories, so that each
                with something before it has ``max_len`` of them.
        """
        inputs = self.dataset.train_end[self.users] - self._withheld
        cut = np.maximum(inputs - self.max_len, 0)
        longest_first = np.sort(cut)[::-1]
        return int(longest_first[: tokens // self.max_len].sum())

    def pack(self, sessions: Sessions) -> JaggedBatch:
        """One batch of these sessions."""
        starts, ends, users = sessions.starts, sessions.ends, sessions.users
        return _pack(self.dataset, starts, ends, users, has_targets=bool(self._withheld))


class EpochBatches(Sequence[JaggedBatch]):
    """The batches of one epoch; each is packed when it is asked for."""

    def __init__(
        self, batches: TrainingBatches, sessions: Sessions, bounds: np.ndarray, turns: np.ndarray
    ) -> None:
        self._batches, self._sessions, self._bounds, self._turns = batches, sessions, bounds, turns

    def __len__(self) -> int:
        return len(self._turns)

    @overload
    def __getitem__(self, index: int) -> JaggedBatch: ...
    @overload
    def __getitem__(self, index: slice) -> list[JaggedBatch]: ...
    def __getitem__(self, index: int | slice) -> JaggedBatch | list[JaggedBatch]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"batch must be within the epoch's {len(self)}, got {index}")
        turn = self._turns[index]
        chosen = np.arange(self._bounds[turn], self._bounds[turn + 1])
        return self._batches.pack(self._sessions[chosen])


def history_batches(
    dataset: "PreparedDataset",
    users: np.ndarray,
    split: "HistorySplit",
    *,
    max_len: int,
    batch_size: int,
) -> Iterator[JaggedBatch]:
    """The histories that a model may look at before a target, in the order of ``users``.

    Args:
        dataset: The prepared data set.
        users: ``(n,)`` user_idx.
        split: ``"validation"`` or ``"test"``: everything before that target; ``"all"``: everything.
        max_len: Each history is cut to its last ``max_len`` interactions.
        batch_size: Sessions a batch.

    Yields:
        Batches without targets.

    Raises:
        MfganError: A user does not exist or has no target in the split.
    """
    if max_len < 1 or batch_size < 1:
        raise MfganError(
            f"history_batches: max_len and batch_size must be at least 1, got {max_len} and"
            f" {batch_size}"
        )
    users = _checked(dataset, users)
    ends = dataset.history_ends(users, split)
    starts = np.maximum(dataset.offsets[users], ends - max_len)
    for first in range(0, len(users), batch_size):
        part = slice(first, first + batch_size)
        yield _pack(dataset, starts[part], ends[part], users[part], has_targets=False)


def _checked(dataset: "PreparedDataset", users: np.ndarray) -> np.ndarray:
    users = np.asarray(users, np.int64)
    wrong = users[(users < 0) | (users >= dataset.num_users)]
    if len(wrong):
        raise MfganError(
            f"batches: user_idx must be within 0..{dataset.num_users - 1}, got {wrong[0]}"
        )
    return users


def _pack(
    dataset: "PreparedDataset",
    starts: np.ndarray,
    ends: np.ndarray,
    users: np.ndarray,
    *,
    has_targets: bool,
) -> JaggedBatch:
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(ends - starts)])

    def gather(source: np.ndarray, shift: int) -> np.ndarray:
        out = np.empty(offsets[-1], np.int64)
        gather_slices(source, starts + shift, offsets, out)
        return out

    positions = np.empty(offsets[-1], np.int64)
    count_up(offsets, positions)
    begins = np.asarray(dataset.offsets[users])
    earlier = earlier_offsets = None
    if (begins < starts).any():
        earlier_offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(starts - begins)])
        earlier = np.empty(earlier_offsets[-1], np.int64)
        gather_slices(dataset.items, begins, earlier_offsets, earlier)
    return JaggedBatch.from_arrays(
        items=gather(dataset.items, 0),
        offsets=offsets,
        positions=positions,
        users=users,
        targets=gather(dataset.items, 1) if has_targets else None,
        timestamps=None if dataset.timestamps is None else gather(dataset.timestamps, 0),
        earlier=earlier,
        earlier_offsets=earlier_offsets,
    )
