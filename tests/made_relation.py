"""A small sparse relation, sessions, and what these say by it, added up one by one."""

import numpy as np
import torch

from mfgan.ops.reference_relation_sums import SPANS

LENGTHS = (3, 0, 5, 1, 90)
ITEMS = 30


def relation(density=0.3):
    rng = np.random.default_rng(0)
    dense = np.where(rng.random((ITEMS + 1, ITEMS + 1)) < density, rng.random(), 0.0)
    dense *= rng.random((ITEMS + 1, ITEMS + 1))
    dense[0] = 0
    rows, columns = dense.nonzero()
    offsets = np.searchsorted(rows, np.arange(ITEMS + 2))
    values = dense[rows, columns].astype(np.float32)
    parts = (offsets.astype(np.int64), columns.astype(np.int32), values)
    return dense, tuple(torch.from_numpy(part) for part in parts)


def sessions():
    draws = torch.Generator().manual_seed(0)
    items = torch.randint(0, ITEMS + 1, (sum(LENGTHS),), generator=draws)
    return items, torch.tensor([0, *np.cumsum(LENGTHS)], dtype=torch.int32), max(LENGTHS)


def by_hand(dense, positions, candidates, max_history):
    items, bounds, _ = sessions()
    found = np.zeros((*candidates.shape, len(SPANS)))
    for row, position in enumerate(positions.tolist()):
        start = max(int(bound) for bound in bounds if bound <= position)
        for distance in range(min(position - start + 1, max_history)):
            place = max(span for span, first in enumerate(SPANS) if first <= distance)
            for column, item in enumerate(candidates[row].tolist()):
                found[row, column, place] += dense[items[position - distance], item]
    return torch.from_numpy(found).float()
