"""Events of a group of users, packed: the only object that crosses from displays to models."""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from mfgan.data.displays.dataset import DisplayDataset

CONTEXT_FEATURES = ("clicked_before", "clicked_last", "shown_before")


@dataclass(frozen=True)
class ClickHistory:
    """What users clicked, end to end. Each begins with the token 0, before the first click.

    Args:
        items: ``(total_tokens,)`` int64 item_idx, 0 where a history begins.
        cu_seqlens: ``(num_users + 1,)`` int32 bounds.
        lengths: ``(num_users,)`` int64 tokens of each, on the host.
    """

    items: Tensor
    cu_seqlens: Tensor
    lengths: np.ndarray

    def to(self, device: torch.device | str) -> "ClickHistory":
        """The same on another device."""
        return ClickHistory(self.items.to(device), self.cu_seqlens.to(device), self.lengths)

    @classmethod
    def from_windows(cls, windows: Tensor, lengths: Tensor) -> "ClickHistory":
        """Pack histories that lie left-aligned in a table.

        Args:
            windows: ``(num_users, width)`` int64 clicks, oldest first.
            lengths: ``(num_users,)`` int64 how many of them are there.
        """
        users, width = windows.shape
        begin = torch.zeros(users, 1, dtype=torch.int64, device=windows.device)
        table = torch.cat([begin, windows], dim=1)
        place = torch.arange(width + 1, device=windows.device)
        items = table[place <= lengths[:, None]]
        bounds = torch.zeros(users + 1, dtype=torch.int32, device=windows.device)
        bounds[1:] = (lengths + 1).cumsum(0)
        return cls(items, bounds, (lengths + 1).cpu().numpy())


@dataclass(frozen=True)
class EventBatch:
    """Displays and clicks of a group of users.

    Args:
        items: ``(num_rows,)`` int64 item_idx shown.
        offsets: ``(num_events + 1,)`` int64 bounds of each event's rows.
        events: ``(num_rows,)`` int64 event of each row.
        clicks: ``(num_events,)`` int64 row of the click, -1 for none.
        context: ``(num_rows, 3)`` float32: log(1 + clicks of this item by the user before), whether
            her last click was on it, log(1 + displays of it to her before).
        history: The clicks of the users.
        states: ``(num_events,)`` int64 token of ``history`` after which each event happens.
        places: ``(num_rows,)`` int64 row of the data set, -1 where it comes from nowhere.
    """

    items: Tensor
    offsets: Tensor
    events: Tensor
    clicks: Tensor
    context: Tensor
    history: ClickHistory
    states: Tensor
    places: Tensor

    @property
    def num_events(self) -> int:
        """Displays in the batch."""
        return len(self.clicks)

    def to(self, device: torch.device | str) -> "EventBatch":
        """The same on another device."""
        return EventBatch(**{one.name: getattr(self, one.name).to(device) for one in fields(self)})


class EventStore:
    """Builds batches of events; everything that does not depend on the batch is computed once.

    Args:
        dataset: Prepared displays.
    """

    def __init__(self, dataset: DisplayDataset) -> None:
        self.dataset = dataset
        self.context = context_features(dataset)
        has = dataset.clicks >= 0
        rows = dataset.offsets[:-1] + np.maximum(dataset.clicks, 0)
        self._chosen = np.where(has, dataset.items[rows], 0).astype(np.int64)
        # A display of several clicks is several events; those after the first see its clicks too,
        # as they came one after the other in nobody knows which order.
        running = np.concatenate([[0], np.cumsum(has)])
        first = running[dataset.user_offsets[:-1]]
        self._before = running[:-1] - np.repeat(first, np.diff(dataset.user_offsets))
        self._has = has

    def batch(self, users: np.ndarray) -> EventBatch:
        """The events of some users, in the order given.

        Args:
            users: ``(n,)`` int64 user_idx.
        """
        data = self.dataset
        starts, counts = data.user_offsets[users], data.user_offsets[users + 1]
        counts = counts - starts
        events, user_of = ranges(starts, counts)
        sizes = data.offsets[events + 1] - data.offsets[events]
        rows, event_of = ranges(data.offsets[events], sizes)
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        clicks = data.clicks[events].astype(np.int64)
        clicks = np.where(clicks >= 0, clicks + offsets[:-1], -1)
        last = starts + counts - 1
        lengths = self._before[last] + 1
        bounds = np.concatenate([[0], np.cumsum(lengths)])
        tokens = np.zeros(bounds[-1], np.int64)
        # Every click but those of the user's last event is a token of her history.
        used = self._has[events] & (events != last[user_of])
        tokens[bounds[user_of[used]] + 1 + self._before[events[used]]] = self._chosen[events[used]]
        return EventBatch(
            torch.from_numpy(data.items[rows].astype(np.int64)),
            torch.from_numpy(offsets),
            torch.from_numpy(event_of),
            torch.from_numpy(clicks),
            torch.from_numpy(self.context[rows]),
            ClickHistory(
                torch.from_numpy(tokens), torch.from_numpy(bounds.astype(np.int32)), lengths
            ),
            torch.from_numpy(bounds[user_of] + self._before[events]),
            torch.from_numpy(rows),
        )

    def batches(self, users: np.ndarray, *, batch_size: int = 2048) -> Iterator[EventBatch]:
        """All events of some users, a bounded number of users at a time."""
        for start in range(0, len(users), batch_size):
            yield self.batch(users[start : start + batch_size])


def ranges(starts: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Laid end to end: ``start, start + 1, …`` for each start, and which one each belongs to."""
    owner = np.repeat(np.arange(len(starts)), counts)
    ends = np.cumsum(counts)
    within = np.arange(ends[-1] if len(ends) else 0) - (ends - counts)[owner]
    return starts[owner] + within, owner


def context_features(dataset: DisplayDataset) -> np.ndarray:
    """What the user did with each displayed item before; nothing of the event itself enters.

    Args:
        dataset: Prepared displays.

    Returns:
        ``(num_rows, 3)`` float32, columns as in ``CONTEXT_FEATURES``, counts as log(1 + n).
    """
    items, events = dataset.items.astype(np.int64), dataset.row_events
    users = dataset.event_users[events]
    clicked = np.zeros(len(items), np.int64)
    has = np.flatnonzero(dataset.clicks >= 0)
    clicked[dataset.offsets[has] + dataset.clicks[has]] = 1
    # Rows of one user and item, in order of their events: counting within gives what came before.
    order = np.lexsort((events, items, users))
    group = users[order] * (dataset.num_items + 1) + items[order]
    starts = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
    owner = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, len(group)]))
    shown = np.arange(len(group)) - starts[owner]
    running = np.cumsum(clicked[order]) - clicked[order]
    before = running - running[starts][owner]
    table = np.zeros((len(items), 3), np.float32)
    table[order, 0], table[order, 2] = np.log1p(before), np.log1p(shown)
    table[:, 1] = items == _last_click(dataset)[events]
    return table


def _last_click(dataset: DisplayDataset) -> np.ndarray:
    """``(num_events,)`` int64 the user's last click before each event, 0 for none."""
    has = dataset.clicks >= 0
    chosen = dataset.items[dataset.offsets[:-1] + np.maximum(dataset.clicks, 0)]
    place = np.where(has, np.arange(len(has)), -1)
    latest = np.r_[-1, np.maximum.accumulate(place)[:-1]]
    mine = latest >= dataset.user_offsets[dataset.event_users]
    return np.where(mine, chosen[np.maximum(latest, 0)], 0).astype(np.int64)
