"""Ranking every user's held-out item, against the whole catalogue or against drawn items.

The rules, in one place. The history of a target is everything the user did before it; a target
without any history is left out, for there is nothing to predict it from. Full ranking is against
every item not in that history. The target itself always ranks, even where the user has had it
before; coverage and popularity are of what is recommended, which never holds such an item. Scores
are made for a block of users at a time, so that memory does not grow with users.
"""

import re
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mfgan.console import SILENT, Reporter
from mfgan.data.batch import JaggedBatch
from mfgan.data.batching import history_batches
from mfgan.data.dataset import PreparedDataset, Split
from mfgan.data.sampling import evaluation_negatives
from mfgan.errors import MfganError
from mfgan.evaluation.metrics import CUTOFFS, check_cutoffs
from mfgan.evaluation.result import Evaluation
from mfgan.evaluation.scan import Excluded, Scan
from mfgan.evaluation.scanner import Scanner

_BLOCK_BYTES = 128 << 20  # scores held at once


class Scorer(Protocol):
    """Whatever can score every item as the next of each session."""

    def __call__(self, batch: JaggedBatch) -> Tensor:
        """Score the items that may follow the sessions' last tokens.

        Args:
            batch: The sessions.

        Returns:
            ``(num_sessions, num_items + 1)`` float32; column 0 is ignored.
        """
        ...


def parse_protocol(protocol: str) -> int | None:
    """The number of drawn candidates of ``sampled:n``, or None for ``full``.

    Raises:
        MfganError: It is neither.
    """
    if protocol == "full":
        return None
    kind, _, number = protocol.partition(":")
    if kind != "sampled" or not re.fullmatch("0*[1-9][0-9]{0,17}", number):
        raise MfganError(
            "evaluate: protocol must be full or sampled:n, n at least 1 and of 18 digits at most,"
            f" got {protocol[:60]!r}"
        )
    return int(number)


def evaluate(
    dataset: PreparedDataset,
    scorer: Scorer,
    *,
    split: Split = "test",
    protocol: str = "full",
    cutoffs: tuple[int, ...] = CUTOFFS,
    max_len: int,
    batch_size: int = 256,
    seed: int = 0,
    users: npt.NDArray[np.int64] | None = None,
    reporter: Reporter = SILENT,
) -> Evaluation:
    """Rank each user's target of a split.

    Args:
        dataset: The data set.
        scorer: Gives the scores; it is called without gradients.
        split: ``test`` or ``validation``.
        protocol: ``full``, or ``sampled:n``: against n items drawn once by ``seed``, none of which
            is the target or anything the user ever had.
        cutoffs: The k of the metrics, rising.
        max_len: The last interactions of a history that the scorer gets to see. Every interaction
            of the history is left out of the ranking, however long ago.
        batch_size: Users scored at once; fewer where the catalogue is so large that the scores
            would take more than 128 MiB.
        seed: Of the drawn items and the bootstrap.
        users: Only these user_idx; those without a target are left out, as always.
        reporter: Shows the progress.

    Returns:
        Metrics, intervals, slices, coverage and popularity.

    Raises:
        MfganError: The split has no target, or a score is NaN or infinite.
    """
    num_sampled = parse_protocol(protocol)
    check_cutoffs(cutoffs)
    chosen = _Targets.of(dataset, split, users)
    negatives = None
    if num_sampled is not None:
        negatives = evaluation_negatives(dataset, split, num_sampled, seed)[chosen.rows]
    batch_size = max(1, min(batch_size, _BLOCK_BYTES // (4 * (dataset.num_items + 1))))
    tally = _Tally(len(chosen.users), dataset.num_items, cutoffs)
    batches = history_batches(dataset, chosen.users, split, max_len=max_len, batch_size=batch_size)
    first = 0
    with (
        reporter.task(f"evaluate {split}", len(chosen.users)) as task,
        Scanner(max(cutoffs)) as scanner,
        torch.inference_mode(),
    ):
        for batch in batches:
            rows = slice(first, first + batch.num_sessions)
            scores = _checked(scorer(batch), batch, dataset.num_items)
            excluded = chosen.excluded(dataset, rows)
            tally.repeated[rows] = excluded.holds(chosen.items[rows])
            if negatives is None:
                scan = scanner(scores, chosen.items[rows], excluded)
                tally.recommended(scan.top)
            else:
                scan = _against(scores, chosen.items[rows], negatives[rows])
            _check_finite(scan, chosen.users[rows])
            tally.better[rows], tally.ties[rows] = scan.better, scan.ties
            first = rows.stop
            task.advance(batch.num_sessions)
    full = num_sampled is None
    return Evaluation(
        split=split,
        protocol=protocol,
        cutoffs=tuple(cutoffs),
        seed=seed,
        users=chosen.users,
        targets=chosen.items,
        lengths=chosen.ends - chosen.starts,
        repeated=tally.repeated,
        better=tally.better,
        ties=tally.ties,
        coverage=tally.coverage() if full else {},
        popularity=tally.popularity(dataset.train_counts()) if full else {},
    )


@dataclass(frozen=True)
class _Targets:
    rows: npt.NDArray[np.int64]  # places among all targets of the split
    users: npt.NDArray[np.int64]
    items: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]  # of the user's history in the data set's items
    ends: npt.NDArray[np.int64]

    @classmethod
    def of(
        cls, dataset: PreparedDataset, split: Split, users: npt.NDArray[np.int64] | None
    ) -> "_Targets":
        if split not in ("test", "validation"):
            raise MfganError(f"evaluate: split must be test or validation, got {split!r}")
        everyone = np.asarray(dataset.target_users(split), np.int64)
        starts = np.asarray(dataset.offsets, np.int64)[everyone]
        ends = np.asarray(dataset.history_ends(everyone, split), np.int64)
        ranked = ends > starts
        if users is not None:
            ranked &= np.isin(everyone, users)
        rows = np.flatnonzero(ranked)
        if not len(rows):
            raise MfganError(
                f"evaluate: the {split} split must have a target with a history, found none"
            )
        items = np.asarray(dataset.targets(split), np.int64)
        return cls(rows, everyone[rows], items[rows], starts[rows], ends[rows])

    def excluded(self, dataset: PreparedDataset, rows: slice) -> Excluded:
        # A view of the rows that the block needs, not of the whole log: it may be a mapped file.
        starts, ends = self.starts[rows], self.ends[rows]
        low = int(starts.min())
        items = np.asarray(dataset.items[low : int(ends.max())], np.int32)
        return Excluded(items, starts - low, ends - low)


class _Tally:
    """Ranks as they come in, and how often each item was among the first k."""

    def __init__(self, num_users: int, num_items: int, cutoffs: tuple[int, ...]) -> None:
        self.better = np.zeros(num_users, np.int64)
        self.ties = np.zeros(num_users, np.int64)
        self.repeated = np.zeros(num_users, np.bool_)
        self._num_items, self._cutoffs = num_items, cutoffs
        self._times = np.zeros((len(cutoffs), num_items + 1), np.int64)

    def recommended(self, top: npt.NDArray[np.int32]) -> None:
        for row, k in enumerate(self._cutoffs):
            self._times[row] += np.bincount(top[:, :k].ravel(), minlength=self._num_items + 1)

    def coverage(self) -> dict[str, float]:
        # Column 0 counts the empty places of lists shorter than k.
        shares = (self._times[:, 1:] > 0).sum(axis=1) / self._num_items
        return {f"coverage@{k}": float(s) for k, s in zip(self._cutoffs, shares, strict=True)}

    def popularity(self, train_counts: npt.NDArray[np.int64]) -> dict[str, float]:
        counts = np.asarray(train_counts, np.int64)[1:]
        ordered = np.sort(counts)
        below, upto = (np.searchsorted(ordered, counts, side) for side in ("left", "right"))
        shares = (below + upto) / (2.0 * len(counts))
        found: dict[str, float] = {}
        for values, name in ((shares, "popularity"), (counts, "interactions")):
            for times, k in zip(self._times[:, 1:], self._cutoffs, strict=True):
                found[f"{name}@{k}"] = float(times @ values) / max(int(times.sum()), 1)
        return found


def _checked(scores: Tensor, batch: JaggedBatch, num_items: int) -> Tensor:
    shape = (batch.num_sessions, num_items + 1)
    if tuple(scores.shape) != shape:
        raise ValueError(f"evaluate: scores must be {shape}, got {tuple(scores.shape)}")
    return scores.float()


def _check_finite(scan: Scan, users: npt.NDArray[np.int64]) -> None:
    if scan.bad.any():
        user = int(users[int(scan.bad.argmax())])
        raise MfganError(
            f"evaluate: scores must be finite, got NaN or infinity for user_idx {user} "
            f"(and {int(scan.bad.sum()) - 1} more of its block); has the training diverged?"
        )


def _against(
    scores: Tensor, targets: npt.NDArray[np.int64], negatives: npt.NDArray[np.int64]
) -> Scan:
    goal_item = torch.from_numpy(targets).to(scores.device)[:, None]
    goal = scores.gather(1, goal_item)
    drawn = scores.gather(1, torch.from_numpy(np.asarray(negatives, np.int64)).to(scores.device))
    bad = ~torch.cat([goal, drawn], dim=1).isfinite().all(dim=1)
    empty = np.zeros((len(targets), 0))
    return Scan(
        better=(drawn > goal).sum(dim=1).cpu().numpy(),
        ties=(drawn == goal).sum(dim=1).cpu().numpy(),
        top=empty.astype(np.int32),
        top_scores=empty.astype(np.float32),
        bad=bad.cpu().numpy(),
    )
