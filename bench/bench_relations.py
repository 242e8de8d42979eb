"""What histories say by a relation, for candidates and for all items, against PyTorch.

The rival multiplies the histories with the relation as sparse matrices. Candidates are then looked
up in the product, scores of all items have it added. Laying its histories out is not timed.
"""

import pytest
import torch

from bench.common import lengths
from mfgan.ops import add_relation_scores, relation_sums
from mfgan.ops.relation_sums import NUM_SPANS

pytestmark = pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")

ITEMS, ENTRIES, POSITIONS, CANDIDATES = 3416, 200, 16, 33
# name: data set, sessions, longest
SCORE = {
    "relation-score-long": ("ml-1m", 16, 200),
    "relation-score-short": ("games", 64, 50),
}
EVERY_ITEM = {
    "relation-all-items-long": ("ml-1m", 64, 200),
    "relation-all-items-short": ("games", 256, 50),
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


def made_sessions(dataset, num_sessions, max_len):
    torch.manual_seed(0)
    sizes = lengths(dataset, max_len, num_sessions)
    bounds = torch.tensor([0, *sizes.tolist()]).cumsum(0).to(torch.int32)
    return sizes, bounds, torch.randint(1, ITEMS + 1, (int(sizes.sum()),))


def as_matrix(offsets, columns, values):
    size = (ITEMS + 1, ITEMS + 1)
    return torch.sparse_csr_tensor(
        offsets, columns.long(), values, size=size, check_invariants=False
    )


@pytest.mark.parametrize("name", SCORE)
def test_score(compare, name):
    dataset, num_sessions, max_len = SCORE[name]
    sizes, bounds, items = made_sessions(dataset, num_sessions, max_len)
    positions = torch.randperm(len(items))[: POSITIONS * num_sessions].sort().values
    candidates = torch.randint(1, ITEMS + 1, (len(positions), CANDIDATES))
    offsets, columns, values = made_relation()
    weights, relation = torch.ones(NUM_SPANS), as_matrix(offsets, columns, values)
    history = histories(sizes, positions, bounds, items)

    def ours():
        given = (offsets, columns, values, items, bounds, max_len, positions, candidates)
        return relation_sums(*given, max_history=max_len) @ weights

    def rival():
        return (history @ relation).to_dense().gather(1, candidates)

    torch.testing.assert_close(ours(), rival(), rtol=1e-3, atol=1e-3)
    compare(name, ours, rival)


@pytest.mark.parametrize("name", EVERY_ITEM)
def test_all_items(compare, name):
    dataset, num_sessions, max_len = EVERY_ITEM[name]
    sizes, bounds, items = made_sessions(dataset, num_sessions, max_len)
    ends, logits = bounds[1:].long() - 1, torch.randn(num_sessions, ITEMS)
    offsets, columns, values = made_relation()
    weights, relation = torch.ones(NUM_SPANS), as_matrix(offsets, columns, values)
    history = histories(sizes, ends, bounds, items)

    def ours():
        scores = logits.clone()
        given = (offsets, columns, values, items, bounds, max_len, ends, weights)
        add_relation_scores(scores, *given, max_history=max_len)
        return scores

    def rival():
        return logits + (history @ relation).to_dense()[:, 1:]

    torch.testing.assert_close(ours(), rival(), rtol=1e-3, atol=1e-3)
    compare(name, ours, rival)
