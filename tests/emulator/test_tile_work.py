"""How much of the work on tensor cores is of use: the emulator counts every product it is given."""

import pytest
import torch
from emulated import emulated
from kernels import packed

HEAD_DIM = 64
KEYWORDS = {"causal": True, "scale": 0.125, "dropout_p": 0.0, "site": 0}


def drawn_lengths(num_sessions, mean, shortest, longest):
    """Geometric beyond the shortest, cut at the longest: the shape of logs of interactions."""
    generator = torch.Generator().manual_seed(0)
    rest = torch.empty(num_sessions).geometric_(1 / (mean - shortest + 1), generator=generator)
    return (shortest - 1 + rest).clamp(max=longest).int().tolist()


def useful_share(lengths, copies=1):
    """Multiplications that a causal pass needs, over those that its tiles make: both ways."""
    ops = emulated()
    (q, k, v), bounds, longest = packed(lengths, copies, HEAD_DIM, dtype=torch.bfloat16)
    needed = copies * sum(n * (n + 1) // 2 for n in lengths) * HEAD_DIM
    out, lse = ops.varlen_attention(q, k, v, bounds, longest, None, None, **KEYWORDS)
    forward = ops.multiplications()
    rest = (bounds, longest, None, None)
    ops.varlen_attention_backward(out, q, k, v, out, lse, *rest, **KEYWORDS)
    backward = ops.multiplications() - forward
    # Forward makes two products; backward makes three for the queries and four for the keys.
    return 2 * needed / forward, 7 * needed / backward


# Of 16 queries in sessions of 7, no tiles of 16 x 16 use more than a quarter.
# Of few rows each block is one warp, which sees no session but its own rows'; blocks of many rows
# are four, each of which has to leave out what only the others see.
@pytest.mark.parametrize(
    ("lengths", "copies", "forward", "backward"),
    [
        pytest.param(drawn_lengths(150, 7, 5, 200), 1, 0.14, 0.14, id="mean 7"),
        pytest.param(
            drawn_lengths(150, 7, 5, 200),
            32,
            0.12,
            0.12,
            id="mean 7, many rows",
            marks=pytest.mark.slow,
        ),
        pytest.param([200, 200, 130, 61, 200, 18, 97, 200], 1, 0.75, 0.75, id="up to 200"),
        pytest.param([512, 512], 1, 0.9, 0.9, id="512"),
    ],
)
def test_most_tiles_hold_something_to_do(lengths, copies, forward, backward):
    shares = useful_share(lengths, copies)
    assert shares[0] > forward
    assert shares[1] > backward
