"""What histories say for candidates by a relation, against PyTorch's sparse product.

The rival multiplies the histories with the relation, for all items, and looks the
candidates up; laying its histories out as a sparse matrix is not timed.
"""

import pytest
import torch

from bench.common import lengths
from mfgan.ops import relation_sums
from mfgan.ops.relation_sums import NUM_SPANS

pytestmark = pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")

ITEMS, ENTRIES, POSITIONS, CANDIDATES = 3416, 200, 16, 33
# name: data set, sessions, longest
SCORE = {
    "relation-score-long": ("ml-1m", 16, 200),
    "relation-score-short": ("games", 64, 50),
}


def made_relation():
    columns = torch.rand(ITEMS, ITEMS).topk(ENTRIES).indices.sort().values + 1
    offsets = torch.tensor([0, *range(0, (ITEMS + 1) * ENTRIES, ENTRIES)])
    return offsets, columns.flatten().int(), torch.rand(ITEMS * ENTRIES)


def histories(sizes, positions, bounds, items):
    """``(num_positions, num_items + 1)`` counts as a sparse matrix by rows."""
    starts = bounds[torch.searchsorted(bounds, positions.int(), right=True) - 1].tolist()
    rows = [items[start : p + 1] for start, p in zip(starts, positions.tolist(), strict=True)]
    dense = torch.zeros(len(rows), ITEMS + 1)
    for row, had in zip(dense, rows, strict=True):
        row.index_add_(0, had, torch.ones(len(had)))
    return dense.to_sparse_csr()


@pytest.mark.parametrize("name", SCORE)
def test_score(compare, name):
    dataset, num_sessions, max_len = SCORE[name]
    torch.manual_seed(0)
    sizes = lengths(dataset, max_len, num_sessions)
    bounds = torch.tensor([0, *sizes.tolist()]).cumsum(0).to(torch.int32)
    items = torch.randint(1, ITEMS + 1, (int(sizes.sum()),))
    positions = torch.randperm(len(items))[: POSITIONS * num_sessions].sort().values
    candidates = torch.randint(1, ITEMS + 1, (len(positions), CANDIDATES))
    offsets, columns, values = made_relation()
    weights = torch.ones(NUM_SPANS)
    relation = torch.sparse_csr_tensor(
        offsets, columns.long(), values, size=(ITEMS + 1, ITEMS + 1), check_invariants=False
    )
    history = histories(sizes, positions, bounds, items)

    def ours():
        given = (offsets, columns, values, items, bounds, max_len, positions, candidates)
        return relation_sums(*given, max_history=max_len) @ weights

    def rival():
        return (history @ relation).to_dense().gather(1, candidates)

    torch.testing.assert_close(ours(), rival(), rtol=1e-3, atol=1e-3)
    compare(name, ours, rival)
