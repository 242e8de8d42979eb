"""Small data sets in memory and made-up scorers, for tests of what comes after a model."""

from pathlib import Path

import numpy as np
import polars as pl
import torch

from mfgan.data.batch import JaggedBatch
from mfgan.data.columns import ITEM_ID, ITEM_IDX, USER_ID
from mfgan.data.dataset import PreparedDataset
from mfgan.data.labels import ExternalIds


class InMemoryDataset(PreparedDataset):
    """Leave-one-out over given histories; item and user ids are ``i<idx>`` and ``u<idx>``."""

    def __init__(self, histories, num_items):
        self.path, self.manifest = Path("memory"), {"name": "made", "factors": []}
        self.num_users, self.num_items = len(histories), num_items
        lengths = np.array([len(history) for history in histories], np.int64)
        self.items = np.concatenate([np.asarray(h, np.int32) for h in histories])
        self.offsets = np.concatenate([[0], np.cumsum(lengths)])
        self.timestamps = None
        self.test = np.where(lengths >= 3, lengths - 1, -1)
        self.validation = np.where(lengths >= 3, lengths - 2, -1)
        self.train_end = np.where(lengths >= 3, lengths - 2, lengths)

    @property
    def item_table(self):
        ids = [f"i{item:05}" for item in range(1, self.num_items + 1)]
        return pl.DataFrame({ITEM_IDX: range(1, self.num_items + 1), ITEM_ID: ids})

    @property
    def user_ids(self):
        return ExternalIds(pl.Series(USER_ID, [f"u{u:05}" for u in range(self.num_users)]), 0)


def random_dataset(num_users=40, num_items=50, *, longest=60, seed=0):
    """Histories of 3 to ``longest`` items, with repeats."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, longest + 1, num_users)
    return InMemoryDataset([rng.integers(1, num_items + 1, n) for n in lengths], num_items)


class TableScorer:
    """Scores read from a ``(num_users, num_items + 1)`` table by user; remembers its batches."""

    def __init__(self, table):
        self.table = torch.as_tensor(table, dtype=torch.float32)
        self.batches: list[JaggedBatch] = []

    def __call__(self, batch):
        self.batches.append(batch)
        return self.table[batch.users]
