"""Where a target ranks in a block of scores and which items come first, by tensor operations.

Serves on CUDA, where the scores stay, and for a few sessions, where it needs no compiler to start.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


@dataclass(frozen=True)
class Excluded:
    """What each user of a block has seen: ``items[starts[row]:ends[row]]``, repeats allowed."""

    items: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]

    def laid_out(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Users' places in the block and the items they have seen, one row for each."""
        lengths = self.ends - self.starts
        flat = np.repeat(self.ends - np.cumsum(lengths), lengths) + np.arange(lengths.sum())
        rows = np.repeat(np.arange(len(lengths)), lengths)
        return rows, np.asarray(self.items[flat], np.int64)

    def holds(self, targets: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """``(num_users,)``, whether each has seen the item of ``targets`` that is hers."""
        rows, items = self.laid_out()
        found = np.zeros(len(targets), np.bool_)
        found[rows[items == targets[rows]]] = True
        return found


@dataclass(frozen=True)
class Scan:
    """The outcome for a block of users.

    Args:
        better: ``(num_users,)`` int64, unseen items that score better than the target.
        ties: ``(num_users,)`` int64, other unseen items that score the same.
        top: ``(num_users, k)`` int32, the best unseen items, best first, smaller item_idx first
            among equals, 0 where there are fewer than k.
        top_scores: ``(num_users, k)`` float32, their scores, -inf where there is none.
        bad: ``(num_users,)`` bool, whether a score was NaN or infinite; the other fields of such
            a user mean nothing.
    """

    better: npt.NDArray[np.int64]
    ties: npt.NDArray[np.int64]
    top: npt.NDArray[np.int32]
    top_scores: npt.NDArray[np.float32]
    bad: npt.NDArray[np.bool_]


def scan_block(scores: Tensor, targets: npt.NDArray[np.int64], excluded: Excluded, k: int) -> Scan:
    """Scan one block of scores.

    Args:
        scores: ``(num_users, num_items + 1)`` float32 on any device; column 0 is ignored.
        targets: ``(num_users,)`` the target's item_idx, 0 for none (its counts mean nothing).
        excluded: What each user has seen. The target ranks even if the user has had it before;
            among the best it is then as little as anything else that was had.
        k: How many of the best items to keep, 0 for none.

    Returns:
        The outcome, on the host.
    """
    rows, columns = scores.shape
    goal_item = torch.from_numpy(targets).to(scores.device)[:, None]
    bad = ~scores[:, 1:].isfinite().all(dim=1)
    goal = scores.gather(1, goal_item)
    seen_rows, seen_items = (torch.from_numpy(x).to(scores.device) for x in excluded.laid_out())
    unseen = torch.ones_like(scores, dtype=torch.bool)
    unseen[seen_rows, seen_items] = False
    unseen[:, 0] = False
    better = ((scores > goal) & unseen).sum(dim=1)
    ties = ((scores == goal) & unseen).sum(dim=1) - unseen.gather(1, goal_item)[:, 0].long()
    masked = scores.masked_fill(~unseen, -torch.inf)
    best, place = _stable_top(masked, min(k, columns))
    top = torch.zeros((rows, k), dtype=torch.int32, device=scores.device)
    top_scores = torch.full((rows, k), -torch.inf, device=scores.device)
    top[:, : place.shape[1]] = torch.where(best.isneginf(), 0, place).int()
    top_scores[:, : place.shape[1]] = best
    return Scan(
        better=better.cpu().numpy(),
        ties=ties.cpu().numpy(),
        top=top.cpu().numpy(),
        top_scores=top_scores.cpu().numpy(),
        bad=bad.cpu().numpy(),
    )


def _stable_top(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    # topk leaves open which of several equal scores it takes; here it is always the smallest
    # item_idx. Scores order first, the reversed column second, packed in one integer key.
    bits = scores.view(torch.int32).long()
    ordered = torch.where(bits >= 0, bits, -(bits & 0x7FFFFFFF))
    columns = torch.arange(scores.shape[1], device=scores.device)
    keys = (ordered << 32) + (scores.shape[1] - columns)
    place = keys.topk(k, dim=1).indices
    return scores.gather(1, place), place
